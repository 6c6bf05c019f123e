"""A live query, as its reader sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from tinyvex.client.decoding import decode_value
from tinyvex.client.events import fresh
from tinyvex.client.query_set import ClientQuery
from tinyvex.client.query_value import QueryValue
from tinyvex.errors import TinyvexError

__all__ = ["Subscription"]

T = TypeVar("T")


class Subscription(Generic[T]):
    """
    The values of one query: the current one first, then each new one.

    ::

        async with client.subscribe("messages:recent", {"channel": "lobby"}, type=list[Message]) as recent:
            async for messages in recent:
                show(messages)

    A reader slower than the changes gets the newest value and none of those between: nothing piles up.
    A failure is raised at its place in the iteration and does not end the subscription:
    go on with another `async for`, or with `anext()`, and the next good value arrives.

    Raises (on iterating):
        RemoteError: the query failed; it will be run again when what it read changes.
        DecodeError: this value does not fit the type asked for.
        ClientClosed: the client was closed.
        TinyvexError: the client ended for good; the same error every time.
    """

    def __init__(
        self, query: ClientQuery, target: Any, ended: Callable[[], TinyvexError | None], release: Callable[[], None]
    ) -> None:
        self._query = query
        self._target = target
        self._ended = ended
        self._release = release
        self._seen_revision = 0
        self._closed = False
        self._waiters: list[asyncio.Future[None]] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """
        The next value, decoded; waits until there is one.

        Cancelling loses nothing: a value is taken only when it is returned.
        """
        while not self._closed:
            if self._query.shown is not None and self._seen_revision != self._query.revision:
                self._seen_revision = self._query.revision
                return self._outcome()
            ended = self._ended()
            if ended is not None:
                raise fresh(ended)
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        raise StopAsyncIteration

    def _outcome(self) -> T:
        shown = self._query.shown
        if isinstance(shown, QueryValue):
            return cast("T", decode_value(shown.json, self._target, self._query.path))
        assert shown is not None
        raise fresh(shown.error)

    def wake(self) -> None:
        """The client says: look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """End the subscription; an iteration under way stops. Idempotent."""
        if not self._closed:
            self._closed = True
            self.wake()
            self._release()

    async def aclose(self) -> None:
        """`close`, for `contextlib.aclosing`."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
