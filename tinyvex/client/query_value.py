"""
A query's value as the client stores it (pure).

A value arrives as JSON and is decoded when the first patch applies to it. A patched value is encoded again only when
its JSON is needed. Its decoded form shares all unchanged parts with the value before the patch.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tinyvex.wire import json_patch

__all__ = ["QueryValue"]

_encode = msgspec.json.Encoder(order="deterministic").encode
_NOT_DECODED = object()


class QueryValue:  # noqa: PLW1641 - compared, never a key
    """
    The value that a query returned.

    Attributes:
        hash: the server's token for the value; empty for an optimistic value.
    """

    __slots__ = ("_decoded", "_json", "hash")

    def __init__(self, json: bytes, hash: str = "") -> None:  # noqa: A002 - the protocol's name
        self._json: bytes | None = json
        self._decoded: Any = _NOT_DECODED
        self.hash = hash

    @property
    def json(self) -> bytes:
        """The value as JSON."""
        if self._json is None:
            self._json = _encode(self._decoded)
        return self._json

    def patched(self, patch: bytes, hash: str) -> QueryValue:  # noqa: A002 - the protocol's name
        """
        Return the value after a JSON Patch; this one stays unchanged.

        Raises:
            PatchFailed: the patch is malformed or does not fit the value.
        """
        if self._decoded is _NOT_DECODED:
            self._decoded = msgspec.json.decode(self.json)
        result = QueryValue(b"", hash)
        try:
            result._json, result._decoded = None, json_patch.apply(self._decoded, msgspec.json.decode(patch))
        except RecursionError:
            raise json_patch.PatchFailed("it is nested too deep") from None
        return result

    def is_same_json(self, json: bytes) -> bool:
        """Return whether `json` is the same value, in any spelling."""
        return self.json == json or _encode(msgspec.json.decode(self.json)) == _encode(msgspec.json.decode(json))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueryValue):
            return False
        if self.hash and self.hash == other.hash:
            return True
        if self.hash and other.hash and (self._json is None or other._json is None):
            # One of them is patched and not encoded. The server calls them different, which is
            # almost always right; checking that would cost an encoding of each.
            return False
        return self.json == other.json

    def __repr__(self) -> str:
        return f"QueryValue({self.json!r:.100}, {self.hash!r})"
