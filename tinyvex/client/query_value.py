"""A query's result as the client holds it: encoded, and decoded once patches build on it (pure)."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyvex.wire import json_patch

__all__ = ["QueryValue"]

_encode = msgspec.json.Encoder(order="deterministic").encode
_NOT_DECODED = object()


class QueryValue:  # noqa: PLW1641 - compared, never a key
    """
    A query returned.

    Of a result that is patched, the encoded form is made when somebody asks for it,
    and the decoded one shares with the result before it all that did not change.

    Attributes:
        hash: the server's token for it; an optimistic one has none.
    """

    __slots__ = ("_json", "_tree", "hash")

    def __init__(self, json: bytes, hash: str = "") -> None:  # noqa: A002 - what the protocol calls it
        self._json: bytes | None = json
        self._tree: Any = _NOT_DECODED
        self.hash = hash

    @property
    def json(self) -> bytes:
        """The encoded value."""
        if self._json is None:
            self._json = _encode(self._tree)
        return self._json

    def patched(self, patch: bytes, hash: str) -> QueryValue:  # noqa: A002
        """
        The result that the patch makes of this one, which stays as it is.

        Raises:
            PatchFailed: it does not fit.
        """
        if self._tree is _NOT_DECODED:
            self._tree = msgspec.json.decode(self.json)
        result = QueryValue(b"", hash)
        try:
            result._json, result._tree = None, json_patch.apply(self._tree, msgspec.json.decode(patch))
        except RecursionError:
            raise json_patch.PatchFailed("it is nested too deep to be read") from None
        return result

    def says(self, json: bytes) -> bool:
        """Whether this is the same JSON, however it is written."""
        return self.json == json or _encode(msgspec.json.decode(self.json)) == _encode(msgspec.json.decode(json))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueryValue):
            return False
        if self.hash and self.hash == other.hash:
            return True
        if self.hash and other.hash and (self._json is None or other._json is None):
            return False  # patched: to the server they are two; not worth encoding both to see whether it is right
        return self.json == other.json

    def __repr__(self) -> str:
        return f"Value({self.json!r:.100}, {self.hash!r})"
