"""
Optimistic updates: the expected effect of a mutation on query results (pure).

An update is a function of a `LocalStore`. It runs when the mutation is called, on the server's results and what the
updates of earlier mutations have set. What it read and set is recorded. When the server's results change, or the
mutation of an earlier update ends, it runs again if something that it read has changed, at most once for each change.
It ends when its mutation fails or a transition covers the commit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar, overload

from msgspec import Struct

from tinyvex.client.decoding import convert_value, decode_value, encode_arguments
from tinyvex.client.query_value import QueryValue
from tinyvex.client.shared_values import adopt, writable

__all__ = ["LocalStore", "OptimisticUpdates", "QueryKey", "ServerResults", "Update"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

QueryKey: TypeAlias = tuple[str, bytes]
"""A query's path and canonical arguments."""


class ServerResults(Protocol):
    """The server's results of the subscribed queries."""

    def server_value(self, key: QueryKey) -> QueryValue | None:
        """Return the server's value of a query; None if it has none, or is not subscribed."""
        ...

    def subscribed_keys(self, path: str) -> Iterable[QueryKey]:
        """Return the subscribed queries of a path."""
        ...


class _Results(Struct, eq=False):
    """The results that one update sees: the server's, covered by what earlier updates have set."""

    server: ServerResults
    below: Mapping[QueryKey, QueryValue]

    def find(self, key: QueryKey) -> QueryValue | None:
        """Return a query's result; None if it has none."""
        return self.below.get(key) or self.server.server_value(key)

    def find_all(self, path: str) -> dict[QueryKey, QueryValue | None]:
        """Return the results of every subscribed query of a path."""
        return {key: self.find(key) for key in self.server.subscribed_keys(path)}


class _Run:
    """
    A run of an update: what it read and what it set.

    Args:
        results: the results that the update sees.

    Attributes:
        written: the results that the update has set.
    """

    def __init__(self, results: _Results) -> None:
        self.written: dict[QueryKey, QueryValue] = {}
        self._results = results
        self._read: dict[QueryKey, QueryValue | None] = {}
        self._read_paths: dict[str, dict[QueryKey, QueryValue | None]] = {}

    def read(self, key: QueryKey) -> QueryValue | None:
        """Return a query's result."""
        if key in self.written:
            return self.written[key]
        value = self._read[key] = self._results.find(key)
        return value

    def read_path(self, path: str) -> list[tuple[QueryKey, QueryValue]]:
        """Return the results of every subscribed query of a path."""
        found = self._read_paths[path] = self._results.find_all(path)
        values = [(key, self.written.get(key, value)) for key, value in found.items()]
        return [(key, value) for key, value in values if value is not None]

    def is_valid(self, results: _Results) -> bool:
        """Return whether everything that the update read is unchanged in `results`."""
        return all(results.find(key) is value for key, value in self._read.items()) and all(
            _are_identical(results.find_all(path), found) for path, found in self._read_paths.items()
        )

    def reuse(self, earlier: _Run) -> None:
        """Use the objects of an earlier run for equal results, so that the runs of later updates stay valid."""
        for key, value in self.written.items():
            before = earlier.written.get(key)
            if before is not None and before == value:
                self.written[key] = before


def _are_identical(one: Mapping[QueryKey, object], other: Mapping[QueryKey, object]) -> bool:
    return one.keys() == other.keys() and all(other[key] is value for key, value in one.items())


class LocalStore:
    """The query results that a client shows, for an optimistic update to read and change."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    @overload
    def get(self, path: str, args: Mapping[str, Any] | None = None, *, type: type[T]) -> T | None: ...
    @overload
    def get(self, path: str, args: Mapping[str, Any] | None = None, *, type: Any = Any) -> Any: ...
    def get(self, path: str, args: Mapping[str, Any] | None = None, *, type: Any = Any) -> Any:  # noqa: A002 - public name
        """
        Return a subscribed query's result; None if it has no result yet.

        Without `type`, the result's list or dict may be changed, to be set; lists and dicts inside it may not.

        Raises:
            DecodeError: the result does not fit `type`.
            InvalidValue: the server's result is not a value.
        """
        result = self._run.read((path, encode_arguments(args)))
        if result is None:
            return None
        return writable(result.value) if type is Any else convert_value(result.value, type, path)

    def set(self, path: str, args: Mapping[str, Any] | None, value: object) -> None:
        """
        Show `value` as the query's result; no effect if the query is not subscribed.

        Raises:
            InvalidValue: `value` or `args` is not a value.
        """
        self._run.written[path, encode_arguments(args)] = QueryValue.of(adopt(value))

    def queries(self, path: str) -> Iterator[tuple[dict[str, Any], Any]]:
        """Yield the arguments and the result of every subscribed query of this path that has a result."""
        for key, result in self._run.read_path(path):
            yield decode_value(key[1], dict[str, Any], path), writable(result.value)


Update: TypeAlias = Callable[[LocalStore], object]
"""An optimistic update. It may run many times and must not keep the store."""


class _ShownUpdate(Struct, eq=False):
    """An update whose mutation is pending, with its last run."""

    path: str
    update: Update
    run: _Run


class OptimisticUpdates:
    """
    The updates of all pending mutations, in the order of the calls.

    Args:
        server: the server's results.

    Attributes:
        results: what the updates have set, by query.
    """

    def __init__(self, server: ServerResults) -> None:
        self._server = server
        self._updates: dict[int, _ShownUpdate] = {}
        self.results: Mapping[QueryKey, QueryValue] = {}

    def run(self, update: Update) -> _Run:
        """
        Run the update of a new mutation on the results of those before it.

        Raises:
            Exception: the error that the update raised.
        """
        run = _Run(_Results(self._server, self.results))
        update(LocalStore(run))
        return run

    def add(self, number: int, path: str, update: Update, run: _Run) -> None:
        """Show the results of a new mutation's update until `remove`."""
        self._updates[number] = _ShownUpdate(path, update, run)
        self.results = {**self.results, **run.written}

    def remove(self, number: int) -> bool:
        """Remove the update of a mutation; `refresh` completes this. Return whether it had one."""
        return self._updates.pop(number, None) is not None

    def refresh(self) -> None:
        """Run every update again whose run read something that has changed since."""
        below: dict[QueryKey, QueryValue] = {}
        results = _Results(self._server, below)
        for number, shown in list(self._updates.items()):
            if not shown.run.is_valid(results):
                run = _Run(results)
                try:
                    shown.update(LocalStore(run))
                except Exception:
                    # The update succeeded when the mutation was called, so it cannot handle the newer results.
                    # Only its preview ends; the mutation stays pending.
                    logger.exception("the optimistic update of %s raised and is no longer shown", shown.path)
                    del self._updates[number]
                    continue
                run.reuse(shown.run)
                shown.run = run
            below.update(shown.run.written)
        self.results = below
