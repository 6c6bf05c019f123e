"""
Optimistic updates: what a mutation is expected to do to query results, shown until the server has said (pure).

An update is a function over a `LocalStore`.
It runs once when the mutation is called and again after every change of the server's results beneath it,
in the order of the mutations, until its own mutation has failed or is covered by a transition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar, overload

from tinyvex.client.decoding import decode_value, encode_arguments
from tinyvex.values import codec

__all__ = ["Key", "LocalStore", "Update"]

T = TypeVar("T")

Key: TypeAlias = tuple[str, bytes]
"""Which query: path and canonical arguments."""


class LocalStore:
    """
    The query results a client shows, as an optimistic update sees and changes them.

    Args:
        base: results from the server, by query.
        layer: results set by the updates so far; it wins over `base`.
    """

    def __init__(self, base: Mapping[Key, bytes], layer: dict[Key, bytes]) -> None:
        self._base = base
        self._layer = layer

    @overload
    def get(self, path: str, args: Mapping[str, Any] | None = None, *, type: type[T]) -> T | None: ...
    @overload
    def get(self, path: str, args: Mapping[str, Any] | None = None, *, type: Any = Any) -> Any: ...
    def get(self, path: str, args: Mapping[str, Any] | None = None, *, type: Any = Any) -> Any:  # noqa: A002 - public name
        """
        A subscribed query's result; None while there is none.

        Raises:
            DecodeError: the result does not fit `type`.
        """
        key = path, encode_arguments(args)
        json = self._layer.get(key) or self._base.get(key)
        return None if json is None else decode_value(json, type, path)

    def set(self, path: str, args: Mapping[str, Any] | None, value: object) -> None:
        """
        Show `value` as the query's result; a query that is not subscribed is not affected.

        Raises:
            InvalidValue: `value` or `args` is no value.
        """
        self._layer[path, encode_arguments(args)] = codec.encode(value)

    def queries(self, path: str) -> Iterator[tuple[dict[str, Any], Any]]:
        """Arguments and result of every subscribed query of a path that has a result."""
        for key, json in {**self._base, **self._layer}.items():
            if key[0] == path:
                yield decode_value(key[1], dict[str, Any], path), decode_value(json, Any, path)


Update: TypeAlias = Callable[[LocalStore], object]
"""An optimistic update; it must not keep the store, and may run many times."""
