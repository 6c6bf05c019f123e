"""
A query's value as the client stores it (pure).

A server's value arrives as JSON and is decoded when the first patch applies to it, or when an optimistic update reads it.
The decoded form of a patched value shares all unchanged parts with the value before the patch. An optimistic value
begins in decoded form. JSON is encoded when a reader needs it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from tinyvex.client.shared_values import is_same, share
from tinyvex.errors import InvalidValue, ValueTooLarge
from tinyvex.values import codec
from tinyvex.wire import json_patch

__all__ = ["QueryValue"]

_encode = msgspec.json.Encoder(order="deterministic").encode
_UNKNOWN: Any = object()


class QueryValue:  # noqa: PLW1641 - compared, never a key
    """
    The value that a query returned.

    Attributes:
        hash: the server's token for the value; empty for an optimistic value.
    """

    __slots__ = ("_builtins", "_has_wrappers", "_json", "_value", "hash")

    def __init__(self, json: bytes, hash: str = "") -> None:  # noqa: A002 - the protocol's name
        self._json: bytes | None = json
        self._builtins: Any = _UNKNOWN  # decoded JSON, with wrappers
        self._value: Any = _UNKNOWN
        self._has_wrappers: bool | None = None
        self.hash = hash

    @classmethod
    def of(cls, value: Any) -> QueryValue:
        """Create an optimistic value from what `adopt` returned."""
        result = cls(b"")
        result._json, result._value = None, value
        return result

    @property
    def json(self) -> bytes:
        """The value as JSON."""
        if self._json is None:
            self._json = codec.encode(self._value) if self._builtins is _UNKNOWN else _encode(self._builtins)
        return self._json

    @property
    def value(self) -> Any:
        """
        The decoded value, with shared lists and dicts.

        Raises:
            InvalidValue, ValueTooLarge: the server sent JSON that is not a value.
        """
        if self._value is _UNKNOWN:
            if self._may_have_wrappers():
                self._value = share(codec.decode_canonical(self.json))
            else:
                self._builtins = self._value = share(self._decoded())
        return self._value

    def patched(self, patch: bytes, hash: str) -> QueryValue:  # noqa: A002 - the protocol's name
        """
        Return the value after a JSON Patch; this one stays unchanged.

        Raises:
            PatchFailed: the patch is malformed or does not fit the value.
        """
        result = QueryValue(b"", hash)
        try:
            result._json, result._builtins = None, json_patch.apply(self._decoded(), msgspec.json.decode(patch))
        except RecursionError:
            raise json_patch.PatchFailed("it is nested too deep") from None
        result._has_wrappers = self._may_have_wrappers() or codec.may_have_wrappers(patch)
        if result._has_wrappers and self._value is not _UNKNOWN:
            # Decoding the JSON instead would share no parts. No path of a patch leads into a wrapper.
            with suppress(InvalidValue, ValueTooLarge, json_patch.PatchFailed):
                result._value = share(json_patch.apply(self._value, codec.decode(patch)))
        return result

    def _decoded(self) -> Any:
        if self._builtins is _UNKNOWN:
            self._builtins = msgspec.json.decode(self.json)
        return self._builtins

    def _may_have_wrappers(self) -> bool:
        if self._has_wrappers is None:
            self._has_wrappers = codec.may_have_wrappers(self.json)
        return self._has_wrappers

    def is_same_json(self, json: bytes) -> bool:
        """Return whether `json` is the same value, in any spelling."""
        return self.json == json or _encode(msgspec.json.decode(self.json)) == _encode(msgspec.json.decode(json))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueryValue):
            return False
        if self is other or (self.hash and self.hash == other.hash):
            return True
        if self.hash and other.hash and (self._json is None or other._json is None):
            # One of them is patched and not encoded. The server calls them different, which is
            # almost always right; checking that would cost an encoding of each.
            return False
        if not (self.hash and other.hash):
            with suppress(InvalidValue, ValueTooLarge):  # JSON from the server that is not a value
                return is_same(self.value, other.value)
        return self.json == other.json

    def __repr__(self) -> str:
        return f"QueryValue({self.json!r:.100}, {self.hash!r})"
