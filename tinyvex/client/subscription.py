"""An async iterator over the values of a live query."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from tinyvex.client.client_loop import ClientLoop, Waiters
from tinyvex.client.decoding import decode_value
from tinyvex.client.error_copy import copy_error
from tinyvex.client.query_set import ClientQuery
from tinyvex.client.query_value import QueryValue
from tinyvex.errors import TinyvexError

__all__ = ["Subscription"]

T = TypeVar("T")


class Subscription(Generic[T]):
    """
    The values of one query: the current value, then each new one.

    ::

        async with client.subscribe("messages:recent", {"channel": "lobby"}, type=list[Message]) as recent:
            async for messages in recent:
                show(messages)

    The subscription ends with `close`, with the block, or when nothing refers to it any more. So
    `async for messages in client.subscribe(…):` ends it with the iteration, by `break` and by an exception too.

    A reader that is slower than the changes skips values: only the newest is kept.
    An error is raised in its place in the sequence and does not end the subscription:
    continue with another `async for`, or with `anext()`, to receive the next value.

    Raises (on iterating):
        RemoteError: the query failed; the server runs it again when the data it read changes.
        DecodeError: the value does not fit the requested type.
        ClientClosed: the client was closed.
        TinyvexError: the session ended; every further iteration raises an equal error.
        RuntimeError: the call came from another thread or event loop than the client's.

    Args:
        query: the query.
        target: the type to decode values to.
        loop: the event loop of the client.
        changes: woken when the query or the session has changed.
        session_error: returns the error that ended the session, if it ended.
        release: called once, when the subscription ends.
    """

    def __init__(
        self,
        query: ClientQuery,
        target: Any,
        loop: ClientLoop,
        changes: Waiters,
        session_error: Callable[[], TinyvexError | None],
        release: Callable[[], None],
    ) -> None:
        self._query = query
        self._target = target
        self._loop = loop
        self._changes = changes
        self._session_error = session_error
        self._release = release
        self._seen_revision = 0
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """
        Wait for the next value and return it, decoded.

        Cancelling loses no value.
        """
        self._loop.check()
        while not self._closed:
            if self._query.shown is not None and self._seen_revision != self._query.revision:
                self._seen_revision = self._query.revision
                return self._decode_shown()
            error = self._session_error()
            if error is not None:
                raise copy_error(error)
            await self._changes.wait()
        raise StopAsyncIteration

    def _decode_shown(self) -> T:
        shown = self._query.shown
        if isinstance(shown, QueryValue):
            return cast("T", decode_value(shown.json, self._target, self._query.path))
        assert shown is not None
        raise copy_error(shown.error)

    def close(self) -> None:
        """End the subscription; a pending iteration stops. Idempotent."""
        if not self._closed:
            self._loop.check()
            self._closed = True
            self._changes.wake()
            self._release()

    def __del__(self) -> None:
        # The last reference may end in any thread, and in the middle of a change of the client's state.
        if not getattr(self, "_closed", True):
            self._closed = True
            self._loop.call_soon(self._release)

    async def aclose(self) -> None:
        """Close the subscription; for `contextlib.aclosing`."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
