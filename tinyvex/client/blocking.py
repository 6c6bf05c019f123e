"""
The client for scripts: the same calls without `await`.

A thread runs an event loop with the asynchronous client; every call is sent to it and waits for the result.
The thread is a daemon, so that a program that does not close its client can still exit.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

import anyio
from anyio.from_thread import BlockingPortal

from tinyvex.client.client import Client, connect
from tinyvex.errors import ClientClosed

if TYPE_CHECKING:
    from tinyvex.client.connection_status import ConnectionState
    from tinyvex.client.optimistic import Update
    from tinyvex.client.patch_verification import PatchCounters
    from tinyvex.client.server_verification import Tls
    from tinyvex.client.subscription import Subscription
    from tinyvex.client.token_source import Source

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
    timeout: float | None = None,
    connect_timeout: float | None = CONNECT_SECONDS,
) -> BlockingClient:
    """
    Create a client for code without an event loop, for use as `with tv.connect_blocking(url) as client:`.

    Args:
        url: such as `ws://127.0.0.1:3210/sync`.
        token: the client or admin token, if the server requires one.
        auth: as in `connect`; it is called on the client's thread.
        tls: as in `connect`.
        timeout: as in `connect`.
        connect_timeout: the seconds that entering waits for the first connection; None waits forever.

    Raises:
        ValueError: as in `connect`.
    """
    return BlockingClient(connect(url, token, auth=auth, tls=tls, timeout=timeout), connect_timeout)


class BlockingClient:
    """
    `Client` without `await`; created by `connect_blocking`. Any thread of the process that entered it may use it.

    An exception that interrupts a call, such as KeyboardInterrupt, cancels the wait as in `Client`.

    Raises (on entering):
        ConnectionLost: no connection within `connect_timeout`.
        RemoteError: the server refused the client.
    """

    def __init__(self, client: Client, connect_timeout: float | None) -> None:
        self._client = client
        self._connect_seconds = connect_timeout
        self._was_opened = False
        self._closing = threading.Lock()
        self._stack = ExitStack()
        self._thread = _Thread()

    def open(self) -> Self:
        """
        Start the client and wait for the first connection, as entering its block does; `close` ends it.

        Raises:
            ConnectionLost: no connection within `connect_timeout`.
            RemoteError: the server refused the client.
            RuntimeError: the client was opened before; create another with `connect_blocking`.
        """
        if self._was_opened:
            raise RuntimeError("a client can be opened only once; create another with connect_blocking()")
        self._was_opened = True
        with ExitStack() as stack:
            portal = self._thread.start()
            stack.callback(self._thread.stop, portal)
            stack.enter_context(portal.wrap_async_context_manager(self._client))
            portal.call(partial(self._client.wait_connected, timeout=self._connect_seconds))
            self._thread.open(portal)
            self._stack = stack.pop_all()
        return self

    def close(self) -> None:
        """
        Close the client and wait until its thread has ended; calls of other threads raise ClientClosed. Idempotent.

        A mutation that was sent may still commit; one that was not sent is lost, unless `drain` precedes.
        """
        self._thread.close()
        if self._thread.is_here:
            with self._closing:  # a second caller waits too
                self._stack.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def query(
        self, path: str, args: Arguments = None, *, type: type[T], at: int | None = None, timeout: float | None = None
    ) -> T: ...
    @overload
    def query(
        self, path: str, args: Arguments = None, *, type: Any = Any, at: int | None = None, timeout: float | None = None
    ) -> Any: ...
    def query(
        self,
        path: str,
        args: Arguments = None,
        *,
        type: Any = Any,  # noqa: A002 - the public name
        at: int | None = None,
        timeout: float | None = None,
    ) -> Any:
        """See `Client.query`."""
        return self._thread.run(partial(self._client.query, path, args, type=type, at=at, timeout=timeout))

    @overload
    def mutation(
        self,
        path: str,
        args: Arguments = None,
        *,
        type: type[T],
        optimistic: Update | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> T: ...
    @overload
    def mutation(
        self,
        path: str,
        args: Arguments = None,
        *,
        type: Any = Any,
        optimistic: Update | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Any: ...
    def mutation(
        self,
        path: str,
        args: Arguments = None,
        *,
        type: Any = Any,  # noqa: A002 - the public name
        optimistic: Update | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """See `Client.mutation`; an optimistic update runs on the client's thread."""
        return self._thread.run(
            partial(
                self._client.mutation,
                path,
                args,
                type=type,
                optimistic=optimistic,
                idempotency_key=idempotency_key,
                timeout=timeout,
            )
        )

    @overload
    def action(self, path: str, args: Arguments = None, *, type: type[T], timeout: float | None = None) -> T: ...
    @overload
    def action(self, path: str, args: Arguments = None, *, type: Any = Any, timeout: float | None = None) -> Any: ...
    def action(
        self,
        path: str,
        args: Arguments = None,
        *,
        type: Any = Any,  # noqa: A002 - the public name
        timeout: float | None = None,
    ) -> Any:
        """See `Client.action`."""
        return self._thread.run(partial(self._client.action, path, args, type=type, timeout=timeout))

    @overload
    def subscribe(self, path: str, args: Arguments = None, *, type: type[T]) -> BlockingSubscription[T]: ...
    @overload
    def subscribe(self, path: str, args: Arguments = None, *, type: Any = Any) -> BlockingSubscription[Any]: ...
    def subscribe(self, path: str, args: Arguments = None, *, type: Any = Any) -> BlockingSubscription[Any]:  # noqa: A002 - the public name
        """See `Client.subscribe`; for use as `with client.subscribe(…) as values: for value in values:`."""
        return BlockingSubscription(
            self._thread.run(partial(self._client.subscribe, path, args, type=type)), self._thread
        )

    def set_auth(self, auth: Source | None) -> None:
        """See `Client.set_auth`."""
        self._thread.run(self._client.set_auth, auth)

    def reconnect_now(self) -> None:
        """See `Client.reconnect_now`."""
        self._thread.run(self._client.reconnect_now)

    def drain(self, *, timeout: float | None = None) -> None:
        """See `Client.drain`."""
        self._thread.run(partial(self._client.drain, timeout=timeout))

    def wait_connected(self, *, timeout: float | None = None) -> None:
        """See `Client.wait_connected`."""
        self._thread.run(partial(self._client.wait_connected, timeout=timeout))

    def connection_states(self) -> Iterator[ConnectionState]:
        """See `Client.connection_states`; the iteration ends after `closed`, also if another thread closes the client."""
        states = self._thread.run(self._client.connection_states)
        last: ConnectionState | None = None
        try:
            while True:
                state = last = self._thread.run(states.__anext__)
                yield state
        except StopAsyncIteration:
            return
        except (ClientClosed, CancelledError):
            if last is None or last.phase != "closed":
                yield self._client.connection_state

    @property
    def connection_state(self) -> ConnectionState:
        """The current state of the connection."""
        return self._client.connection_state

    @property
    def counters(self) -> PatchCounters:
        """See `Client.counters`."""
        return self._client.counters

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

    def __init__(self, subscription: Subscription[T], thread: _Thread) -> None:
        self._subscription = subscription
        self._thread = thread

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            value: T = self._thread.run(self._subscription.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None
        return value

    def close(self) -> None:
        """End the subscription; a pending iteration in another thread stops. Idempotent."""
        with suppress(ClientClosed):
            self._thread.run(self._subscription.close)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Thread:
    """
    The thread with the client's event loop.

    anyio's own portal thread is not a daemon: a program that does not close it never exits.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread
        self._portal: BlockingPortal | None = None
        self._process_id = 0  # of the process that has the thread

    def start(self) -> BlockingPortal:
        """Start the thread; `run` refuses calls until `open`."""
        opened: Future[BlockingPortal] = Future()

        async def serve() -> None:
            async with BlockingPortal() as portal:
                opened.set_result(portal)
                await portal.sleep_until_stopped()

        def run() -> None:
            try:
                anyio.run(serve)
            except BaseException as error:
                if opened.done():
                    raise
                opened.set_exception(error)

        self._thread = threading.Thread(target=run, name="tinyvex-client", daemon=True)
        self._thread.start()
        return opened.result()

    def stop(self, portal: BlockingPortal) -> None:
        """Cancel everything that runs on the loop, and end the thread."""
        portal.call(partial(portal.stop, cancel_remaining=True))
        self._thread.join()

    def open(self, portal: BlockingPortal) -> None:
        """Accept calls."""
        self._portal, self._process_id = portal, os.getpid()

    def close(self) -> None:
        """Refuse calls."""
        self._portal = None

    @property
    def is_here(self) -> bool:
        """Return whether this process has the thread: a forked child does not."""
        return self._process_id == os.getpid()

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """
        Call a function on the loop and wait for it. An exception that interrupts the wait cancels the call.

        Raises:
            ClientClosed: the client is closed, or belongs to another process.
        """
        portal = self._portal
        if portal is None:
            raise ClientClosed("the client is not open: use it inside its `with` block, or between `open` and `close`")
        if not self.is_here:
            raise ClientClosed("the client belongs to the parent process; connect another one after a fork")
        try:
            future: Future[Any] = portal.start_task_soon(function, *args)
        except RuntimeError:
            if self._portal is not None:
                raise
            raise ClientClosed("the client was closed") from None
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
