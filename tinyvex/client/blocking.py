"""
The client for scripts: the same calls without `await`.

A thread with a loop runs the asynchronous client; every call crosses to it and waits there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

import anyio
from anyio.from_thread import start_blocking_portal

from tinyvex.client.client import Client, connect
from tinyvex.errors import ClientClosed, ConnectionLost

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from tinyvex.client.connection import ConnectionState
    from tinyvex.client.optimistic import Update
    from tinyvex.client.subscription import Subscription
    from tinyvex.client.token_source import Source
    from tinyvex.client.trust import Tls

__all__ = ["BlockingClient", "BlockingSubscription", "connect_blocking"]

T = TypeVar("T")

Arguments = Mapping[str, Any] | None

CONNECT_SECONDS = 10.0


def connect_blocking(
    url: str,
    token: str | None = None,
    *,
    auth: Source | None = None,
    tls: Tls = None,
    timeout_seconds: float | None = CONNECT_SECONDS,
) -> BlockingClient:
    """
    A client for code without an event loop, to be used as `with tv.connect_blocking(url) as client:`.

    Args:
        url: such as `ws://127.0.0.1:3210/sync`.
        token: the client or admin token, if the server asks for one.
        auth: as in `connect`; it is called on the client's thread.
        tls: as in `connect`.
        timeout_seconds: how long entering waits for the first connection; None waits for ever.

    Raises:
        ValueError: this is no URL of a server, or `tls` does not fit it or cannot be read.
    """
    return BlockingClient(connect(url, token, auth=auth, tls=tls), timeout_seconds)


class BlockingClient:
    """
    `Client` without `await`; made by `connect_blocking`, usable from any thread.

    Raises (on entering):
        ConnectionLost: no connection within the time.
        RemoteError: the server refused it.
    """

    def __init__(self, client: Client, timeout_seconds: float | None) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._stack = ExitStack()
        self._open_portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio"))
            stack.enter_context(portal.wrap_async_context_manager(self._client))
            portal.call(self._wait_connected)
            self._open_portal = portal
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_portal = None
        self._stack.close()

    @property
    def _portal(self) -> BlockingPortal:
        if self._open_portal is None:
            raise ClientClosed("the client is used inside its `with` block only")
        return self._open_portal

    async def _wait_connected(self) -> None:
        with anyio.move_on_after(self._timeout_seconds):
            await self._client.wait_connected()
            return
        error = self._client.connection_state.last_error
        raise ConnectionLost(f"no connection within {self._timeout_seconds:g} seconds: {error or 'no answer'}")

    @overload
    def query(self, path: str, args: Arguments = None, *, type: type[T], at: int | None = None) -> T: ...
    @overload
    def query(self, path: str, args: Arguments = None, *, type: Any = Any, at: int | None = None) -> Any: ...
    def query(self, path: str, args: Arguments = None, *, type: Any = Any, at: int | None = None) -> Any:  # noqa: A002 - the public name
        """See `Client.query`."""
        return self._portal.call(partial(self._client.query, path, args, type=type, at=at))

    @overload
    def mutation(self, path: str, args: Arguments = None, *, type: type[T], optimistic: Update | None = None) -> T: ...
    @overload
    def mutation(
        self, path: str, args: Arguments = None, *, type: Any = Any, optimistic: Update | None = None
    ) -> Any: ...
    def mutation(
        self,
        path: str,
        args: Arguments = None,
        *,
        type: Any = Any,  # noqa: A002 - the public name
        optimistic: Update | None = None,
    ) -> Any:
        """See `Client.mutation`; an optimistic update runs on the client's thread."""
        return self._portal.call(partial(self._client.mutation, path, args, type=type, optimistic=optimistic))

    @overload
    def action(self, path: str, args: Arguments = None, *, type: type[T]) -> T: ...
    @overload
    def action(self, path: str, args: Arguments = None, *, type: Any = Any) -> Any: ...
    def action(self, path: str, args: Arguments = None, *, type: Any = Any) -> Any:  # noqa: A002 - the public name
        """See `Client.action`."""
        return self._portal.call(partial(self._client.action, path, args, type=type))

    @overload
    def subscribe(self, path: str, args: Arguments = None, *, type: type[T]) -> BlockingSubscription[T]: ...
    @overload
    def subscribe(self, path: str, args: Arguments = None, *, type: Any = Any) -> BlockingSubscription[Any]: ...
    def subscribe(self, path: str, args: Arguments = None, *, type: Any = Any) -> BlockingSubscription[Any]:  # noqa: A002 - the public name
        """See `Client.subscribe`; to be used as `with client.subscribe(…) as values: for value in values:`."""

        async def subscribe() -> Subscription[Any]:
            return self._client.subscribe(path, args, type=type)

        return BlockingSubscription(self._portal.call(subscribe), self._portal)

    def set_auth(self, auth: Source | None) -> None:
        """See `Client.set_auth`."""
        self._portal.call(self._client.set_auth, auth)

    @property
    def connection_state(self) -> ConnectionState:
        """How the connection is, now."""
        return self._client.connection_state

    @property
    def epoch(self) -> str | None:
        """See `Client.epoch`."""
        return self._client.epoch

    @property
    def token(self) -> str | None:
        """See `Client.token`."""
        return self._client.token


class BlockingSubscription(AbstractContextManager["BlockingSubscription[T]"], Generic[T]):
    """`Subscription` without `await`."""

    def __init__(self, subscription: Subscription[T], portal: BlockingPortal) -> None:
        self._subscription = subscription
        self._portal = portal

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return self._portal.call(self._subscription.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """End the subscription; an iteration under way, in another thread, stops. Idempotent."""
        self._portal.call(self._subscription.close)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
