"""
Optimistic updates: the expected effect of a mutation on query results (pure).

An update is a function of a `LocalStore`. It runs when the mutation is called, and again after every change of the
server's results, in the order of the mutations. It ends when its mutation fails or a transition covers the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar, overload

from tinyvex.client.decoding import decode_value, encode_arguments
from tinyvex.values import codec

__all__ = ["LocalStore", "QueryKey", "Update"]

T = TypeVar("T")

QueryKey: TypeAlias = tuple[str, bytes]
"""A query's path and canonical arguments."""


class LocalStore:
    """
    The query results that a client shows, for an optimistic update to read and change.

    Args:
        base: the server's results, by query.
        layer: the results that updates have set so far; they take precedence over `base`.
    """

    def __init__(self, base: Mapping[QueryKey, bytes], layer: dict[QueryKey, bytes]) -> None:
        self._base = base
        self._layer = layer

    @overload
    def get(self, path: str, args: Mapping[str, Any] | None = None, *, type: type[T]) -> T | None: ...
    @overload
    def get(self, path: str, args: Mapping[str, Any] | None = None, *, type: Any = Any) -> Any: ...
    def get(self, path: str, args: Mapping[str, Any] | None = None, *, type: Any = Any) -> Any:  # noqa: A002 - public name
        """
        Return a subscribed query's result; None if it has no result yet.

        Raises:
            DecodeError: the result does not fit `type`.
        """
        key = path, encode_arguments(args)
        json = self._layer.get(key) or self._base.get(key)
        return None if json is None else decode_value(json, type, path)

    def set(self, path: str, args: Mapping[str, Any] | None, value: object) -> None:
        """
        Show `value` as the query's result; no effect if the query is not subscribed.

        Raises:
            InvalidValue: `value` or `args` is not a value.
        """
        self._layer[path, encode_arguments(args)] = codec.encode(value)

    def queries(self, path: str) -> Iterator[tuple[dict[str, Any], Any]]:
        """Yield the arguments and the result of every subscribed query of this path that has a result."""
        for key, json in {**self._base, **self._layer}.items():
            if key[0] == path:
                yield decode_value(key[1], dict[str, Any], path), decode_value(json, Any, path)


Update: TypeAlias = Callable[[LocalStore], object]
"""An optimistic update. It may run many times and must not keep the store."""
