"""
The Python client: `connect`, then `subscribe`, `query`, `mutation`, `action`.

The client knows the protocol and nothing of the server, so it works from any process and proves that the protocol is
sufficient. `state` decides, `connection` does the I/O; this file turns calls into requests and events into results.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from tinyvex import limits
from tinyvex.client.client_loop import ClientLoop, Waiters
from tinyvex.client.connection import ClientConnection, sends_in_clear, socket_uri
from tinyvex.client.connection_status import ConnectionStatus
from tinyvex.client.decoding import (
    check_idempotency_key,
    check_path,
    check_ts,
    decode_value,
    encode_arguments,
    is_encodable,
)
from tinyvex.client.error_copy import copy_error
from tinyvex.client.function_log import log_function_lines
from tinyvex.client.pending_requests import Answer, CallKind, PendingRequest
from tinyvex.client.server_verification import ServerVerification
from tinyvex.client.state import (
    ClientState,
    Completed,
    Connected,
    Ended,
    Event,
    Failed,
    IdentityChanged,
    ResultsChanged,
)
from tinyvex.client.subscription import Subscription
from tinyvex.client.timeouts import call_timeout, check_timeout
from tinyvex.client.token_source import TokenSource
from tinyvex.errors import CallTimeout, ClientClosed, TinyvexError
from tinyvex.runtime import Runtime

if TYPE_CHECKING:
    from tinyvex.client.connection_status import ConnectionState
    from tinyvex.client.optimistic import Update
    from tinyvex.client.patch_verification import PatchCounters
    from tinyvex.client.query_set import ClientQuery
    from tinyvex.client.server_verification import Tls
    from tinyvex.client.token_source import Source

__all__ = ["Client", "connect"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

Arguments = Mapping[str, Any] | None


def connect(
    url: str,
    token: str | None = None,
    *,
    auth: Source | None = None,
    tls: Tls = None,
    verify: bool = False,
    timeout: float | None = None,
    runtime: Runtime | None = None,
) -> Client:
    """
    Create a client of the server at `url`, for use as `async with tv.connect(url) as client:`.

    Entering the block does not wait for the server. Calls wait for it, and the client reconnects whenever the
    connection is lost. `Client.wait_connected` waits for the first connection.

    Args:
        url: such as `ws://127.0.0.1:3210/sync`, or `wss://` for TLS, from the ready line or the discovery file.
        token: the client or admin token, if the server requires one; or `pairing:CODE`, which the server exchanges
            for a token: read it from `Client.token` and pass it from then on.
        auth: returns the JSON Web Token of the user, or None for no user; may be async.
            It is called on every new connection, when the server refuses a token or reports it as expired, and before
            one expires. Calls and subscriptions wait for it. If it fails, they wait until it succeeds: it is called
            again with growing delays. If the server refuses its token twice, calls raise the refusal, and
            subscriptions show what anonymous callers see. `ConnectionState.auth_error` has the reason of both.
            A callable that is not async runs on the event loop, so it must be quick.
        tls: how to verify a `wss://` server: None for the system's certificate authorities, the path of a PEM file
            with authorities of your own, an `ssl.SSLContext`, or `sha256:` and the fingerprint of the only
            certificate to accept. A server that fails verification ends the client with `ServerUntrusted`.
        verify: for development: compare every result that was built from patches with a fresh query at the same `ts`.
            A difference is logged, counted in `Client.counters`, and the full value is fetched.
            Queries that read `ctx.now` always differ.
        timeout: the seconds that a call waits for its answer, unless it states its own; None for no limit.
        runtime: for tests.

    Raises:
        ValueError: `url` is not the URL of a server, `token` cannot be sent, `timeout` is NaN,
            or `tls` does not fit the URL or cannot be read.
    """
    if token is not None and not is_encodable(token):
        raise ValueError("`token` has a lone surrogate, which is not a character")
    return Client(url, token, runtime or Runtime(), auth=auth, tls=tls, verify=verify, timeout=timeout)


class Client:
    """
    A session with a server; created by `connect`.

    Only the event loop that entered it may call it; its properties may be read anywhere.
    `timeout` of a call is the seconds that it waits for its answer, connecting included; None stands for the `timeout`
    of `connect`, and `math.inf` for no limit. A call that was not sent by then is withdrawn, and never runs.
    Besides the errors in its docstring, every call may raise:
        InvalidValue, ValueTooLarge, InvalidParams, TypeError: the arguments or the path are invalid; nothing was sent.
        CallTimeout: no answer within `timeout`; its `was_sent` is False if the call was withdrawn. It is a TimeoutError.
        ClientClosed: the client was closed.
        RemoteError: the server ended the session: wrong token, no common protocol version, session replaced.
        RuntimeError: the client was not opened, or the call came from another thread or event loop; nothing changed.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        runtime: Runtime,
        *,
        auth: Source | None = None,
        tls: Tls = None,
        verify: bool = False,
        timeout: float | None = None,
    ) -> None:
        self._session = ClientState(runtime.token(), token, verify=verify)
        self._status = ConnectionStatus(self._session)
        uri = socket_uri(url)
        if (token is not None or auth is not None) and sends_in_clear(uri):
            logger.warning(
                "tokens are sent to %s without encryption, so everyone on the way can read them; use a wss:// URL",
                uri.host,
            )
        self._connection = ClientConnection(
            uri,
            self._session,
            self._status,
            runtime,
            ServerVerification(tls, secure=uri.secure),
            on_events=self._dispatch,
        )
        self._timeout_seconds = check_timeout(timeout)
        self._loop = ClientLoop()
        self._entered = False
        self._is_running = False
        self._closing = asyncio.Lock()
        self._answers: dict[int, asyncio.Future[Answer] | None] = {}
        """The unfinished calls, in their order; None for a caller that stopped waiting."""
        self._finished_calls = Waiters()
        self._readers: dict[int, Waiters] = {}
        """The readers of every query."""
        self._call_slots = asyncio.Semaphore(limits.CLIENT_REQUESTS_MAX)
        # asyncio's group rather than anyio's: fixtures and start-up hooks enter and exit the client in different tasks.
        self._task_group = asyncio.TaskGroup()
        self._tokens = TokenSource(self._session.identity, runtime, self._identity_changed)
        self._tokens.set(auth)

    # Life cycle.

    async def open(self) -> Self:
        """
        Start the client, as entering its block does; `aclose` ends it.

        Raises:
            RuntimeError: the client was opened before.
        """
        if self._entered:
            raise RuntimeError("a client can be opened only once; create another with connect()")
        self._entered = True
        self._loop.bind()
        await self._task_group.__aenter__()
        self._task_group.create_task(self._connection.run(), name="tinyvex-client")
        self._task_group.create_task(self._tokens.run(), name="tinyvex-client-tokens")
        self._is_running = True
        return self

    async def aclose(self) -> None:
        """Close the client: pending calls raise ClientClosed, and the socket closes within CLOSE_SECONDS. Idempotent."""
        self.close()
        async with self._closing:  # a second caller waits too
            if not self._is_running:
                return
            try:
                # The group must not see the body's error: it would wrap it in an ExceptionGroup.
                await self._task_group.__aexit__(None, None, None)
            finally:
                self._is_running = False
                self._loop.unbind()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """
        End every call and subscription with ClientClosed and start to close the socket; `aclose` waits for that too.

        A mutation that was sent may still commit; one that was not sent is lost, unless `drain` precedes. Idempotent.
        """
        self._loop.check()
        self._session.close(ClientClosed("the client was closed"))
        self._connection.stop()
        self._tokens.stop()
        self._dispatch(self._session.events())

    # Status.

    @property
    def epoch(self) -> str | None:
        """The history of the database that the results belong to; changes after a restore. None before connecting."""
        return self._session.epoch

    @property
    def counters(self) -> PatchCounters:
        """Counters of the results received as full values, as patches, and in chunks."""
        return self._session.counters

    @property
    def token(self) -> str | None:
        """The token that the client connects with; after `pairing:CODE` the one it was issued, to be stored."""
        return self._session.token

    @property
    def connection_state(self) -> ConnectionState:
        """The current state of the connection."""
        return self._status.state

    def connection_states(self) -> AsyncIterator[ConnectionState]:
        """Yield the state of the connection, then every change; a slow reader skips states. Ends after `closed`."""
        self._loop.check()
        return self._status.states()

    async def wait_connected(self, *, timeout: float | None = None) -> None:
        """
        Wait until the client is connected.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.

        Raises:
            ConnectionLost: no connection within `timeout`; the client continues to try.
            TinyvexError: the client is closed.
        """
        self._loop.check()
        await self._status.wait_connected(check_timeout(timeout))

    def reconnect_now(self) -> None:
        """
        Try to connect now instead of after the pause that the last failure caused; no effect while connected.

        For a program that knows that the server is back, or that the network has changed. An attempt that is under
        way continues; if it fails, the next one follows without a pause.
        """
        self._loop.check()
        self._connection.reconnect_now()

    # The user.

    def set_auth(self, auth: Source | None) -> None:
        """
        Replace the `auth` callable; None signs out.

        Calls wait until the new callable has returned. A client belongs to one user: connect another client for
        another user. Unfinished calls of a user who signed out wait until the same user signs in again; those whose
        user is not known yet fail with `Unauthenticated`.
        """
        self._loop.check()
        self._tokens.set(auth)
        self._identity_changed()

    def _identity_changed(self) -> None:
        self._session.identity_changed()
        self._dispatch(self._session.events())
        self._connection.wake()
        self._status.notify()

    # Subscriptions.

    @overload
    def subscribe(self, path: str, args: Arguments = None, *, type: type[T]) -> Subscription[T]: ...
    @overload
    def subscribe(self, path: str, args: Arguments = None, *, type: Any = Any) -> Subscription[Any]: ...
    def subscribe(self, path: str, args: Arguments = None, *, type: Any = Any) -> Subscription[Any]:  # noqa: A002 - the public name
        """
        Subscribe to a query's result until the subscription is closed, or nothing refers to it any more.

        `async for value in client.subscribe(…):` therefore ends it with the iteration. Equal subscriptions share one query.

        Args:
            path: the query, as `module:function`.
            args: its arguments by name.
            type: the type to decode values to: a `tv.Document`, a struct, dataclass or typed dict, lists of them, …

        Raises:
            InvalidValue, ValueTooLarge, InvalidParams: the arguments or the path are invalid.
            TooManyQueries: the client has CLIENT_QUERIES_MAX queries.
        """
        self._require_usable()
        query = self._session.subscribe(check_path(path), encode_arguments(args))
        readers = self._readers.setdefault(query.query_id, Waiters())
        self._dispatch(self._session.events())
        self._connection.wake()
        return Subscription(
            query, type, self._loop, readers, lambda: self._session.error, lambda: self._unsubscribe(query)
        )

    def _unsubscribe(self, query: ClientQuery) -> None:
        self._session.queries.release(query.query_id)
        if not query.subscribers:
            del self._readers[query.query_id]
        self._connection.wake()

    # Calls.

    @overload
    async def query(
        self, path: str, args: Arguments = None, *, type: type[T], at: int | None = None, timeout: float | None = None
    ) -> T: ...
    @overload
    async def query(
        self, path: str, args: Arguments = None, *, type: Any = Any, at: int | None = None, timeout: float | None = None
    ) -> Any: ...
    async def query(
        self,
        path: str,
        args: Arguments = None,
        *,
        type: Any = Any,  # noqa: A002 - the public name
        at: int | None = None,
        timeout: float | None = None,
    ) -> Any:
        """
        Run a query once.

        Args:
            path: the query, as `module:function`.
            args: its arguments by name.
            type: the type to decode the value to.
            at: the `ts` of the snapshot to read; None for the newest.
            timeout: see `Client`.

        Raises:
            InvalidParams: `at` is outside of the range of timestamps.
            RemoteError: the query failed.
            ConnectionLost: the connection was lost before the answer arrived; call again.
            DecodeError: the value does not fit `type`.
        """
        return await self._call(CallKind.QUERY, path, args, type, timeout, at=at)

    @overload
    async def mutation(
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
    async def mutation(
        self,
        path: str,
        args: Arguments = None,
        *,
        type: Any = Any,
        optimistic: Update | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Any: ...
    async def mutation(
        self,
        path: str,
        args: Arguments = None,
        *,
        type: Any = Any,  # noqa: A002 - the public name
        optimistic: Update | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """
        Run a mutation exactly once, across lost connections and restarts of the server.

        Returns when the commit is durable and this client's subscriptions show it.
        Cancelling stops the wait, not the mutation: it may still commit.

        Args:
            path: the mutation, as `module:function`.
            args: its arguments by name.
            type: the type to decode the value to.
            optimistic: sets the expected results of subscribed queries, which are shown until the mutation completes,
                as `lambda store: store.set("m:list", {}, [...])`; it may run many times.
            idempotency_key: a name of your own for this mutation, so that another client of the user, or the program
                after its restart, can repeat it: it runs once, and repetitions return its result, for 14 days.
            timeout: see `Client`. The optimistic update of a mutation that was sent stays until it completes.

        Raises:
            RemoteError: the mutation failed and wrote nothing. Exception: `RequestIdReused` means that it committed
                under the identity that first sent it; its result is not disclosed to any other.
            DecodeError: the value does not fit `type`; the mutation did commit.
            ClientClosed: the client was closed; whether the mutation committed is unknown.
        """
        return await self._call(CallKind.MUTATION, path, args, type, timeout, update=optimistic, key=idempotency_key)

    @overload
    async def action(self, path: str, args: Arguments = None, *, type: type[T], timeout: float | None = None) -> T: ...
    @overload
    async def action(
        self, path: str, args: Arguments = None, *, type: Any = Any, timeout: float | None = None
    ) -> Any: ...
    async def action(
        self,
        path: str,
        args: Arguments = None,
        *,
        type: Any = Any,  # noqa: A002 - the public name
        timeout: float | None = None,
    ) -> Any:
        """
        Run an action at most once.

        Cancelling stops the wait, not an action that was sent.

        Args:
            path: the action, as `module:function`.
            args: its arguments by name.
            type: the type to decode the value to.
            timeout: see `Client`.

        Raises:
            RemoteError: the action failed.
            ConnectionLost: the connection was lost while it ran; whether it finished is unknown.
            DecodeError: the value does not fit `type`; the action did run.
        """
        return await self._call(CallKind.ACTION, path, args, type, timeout)

    async def drain(self, *, timeout: float | None = None) -> None:
        """
        Wait until every call made so far has finished, including those that were cancelled or timed out after they were sent.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.

        Raises:
            CallTimeout: some calls have not finished within `timeout`; the client continues with them.
            TinyvexError: the client is closed, or was closed meanwhile.
        """
        self._require_usable()
        seconds = check_timeout(timeout)
        last = -1
        try:
            async with asyncio.timeout(seconds):
                async with self._call_slots:  # it is free once the callers that wait for one have queued their calls
                    last = next(reversed(self._answers), -1)
                while next(iter(self._answers), last + 1) <= last:
                    await self._finished_calls.wait()
        except TimeoutError:
            number = sum(number <= last for number in self._answers)
            raise CallTimeout(
                f"{number} calls have not finished within {seconds:g} seconds; they stay pending", wasSent=True
            ) from None
        if self._session.error is not None:
            raise copy_error(self._session.error)

    def _require_usable(self) -> None:
        """Raise if the client was never entered, or the caller is on another loop: it would wait forever."""
        self._loop.check()
        if not self._entered and self._session.error is None:
            raise RuntimeError(
                "the client was not opened; write `async with tv.connect(…) as client:`, or call `await client.open()`"
            )

    async def _call(
        self,
        kind: CallKind,
        path: str,
        args: Arguments,
        target: Any,
        timeout: float | None,
        *,
        at: int | None = None,
        update: Update | None = None,
        key: str | None = None,
    ) -> Any:
        self._require_usable()
        encoded = encode_arguments(args)
        check_path(path)
        check_ts(at)
        check_idempotency_key(key)
        seconds = self._timeout_seconds if timeout is None else check_timeout(timeout)
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        try:
            await self._acquire_slot(deadline)
        except TimeoutError:
            assert seconds is not None
            raise call_timeout(kind, path, seconds, was_sent=False) from None
        # No await between the call and the registered future: an answer must find it.
        try:
            request = self._session.call(kind, path, encoded, at=at, update=update, idempotency_key=key)
        except BaseException:
            self._call_slots.release()
            raise
        future = self._answers[request.number] = asyncio.get_running_loop().create_future()
        self._dispatch(self._session.events())
        self._connection.wake()
        try:
            answer = await self._wait_for_answer(future, deadline)
        except TinyvexError as error:
            log_function_lines(path, error.log_lines)
            raise
        except asyncio.CancelledError:
            # A cancelled mutation runs nevertheless: a program that ends a task does not undo what it has done.
            self._abandon(request, withdraw=kind is not CallKind.MUTATION)
            raise
        except TimeoutError:
            assert seconds is not None
            self._abandon(request, withdraw=True)
            raise call_timeout(kind, path, seconds, was_sent=request.was_sent) from None
        log_function_lines(path, answer.log_lines)
        return decode_value(answer.value, target, path)

    async def _acquire_slot(self, deadline: float | None) -> None:
        if deadline is None:
            await self._call_slots.acquire()
            return
        if deadline <= asyncio.get_running_loop().time():
            raise TimeoutError
        async with asyncio.timeout_at(deadline):
            await self._call_slots.acquire()

    async def _wait_for_answer(self, future: asyncio.Future[Answer], deadline: float | None) -> Answer:
        if deadline is not None:
            # Unlike `asyncio.timeout`, this returns an answer that arrives in the same turn of the loop.
            await asyncio.wait([future], timeout=deadline - asyncio.get_running_loop().time())
            if not future.done():
                raise TimeoutError
        return await future

    def _abandon(self, request: PendingRequest, *, withdraw: bool) -> None:
        """Forget the caller of a request, and if `withdraw` the request too, unless it was sent."""
        if request.number in self._answers:
            self._answers[request.number] = None
        if withdraw and self._session.withdraw(request):
            self._finish(request.number)
            self._dispatch(self._session.events())

    def _finish(self, number: int) -> asyncio.Future[Answer] | None:
        """Remove a call; return what its caller waits for, if it still does."""
        self._call_slots.release()
        self._finished_calls.wake()
        return self._answers.pop(number, None)

    # Events of the session.

    def _dispatch(self, events: list[Event]) -> None:
        """Wake subscriptions and callers; a mutation's subscriptions before its caller."""
        for event in events:
            match event:
                case ResultsChanged(query_ids=query_ids):
                    for query_id in query_ids:
                        self._wake_readers(query_id)
                case Completed(number=number, answer=answer):
                    self._resolve(number, answer)
                case Failed(number=number, error=error):
                    self._resolve(number, error)
                case Connected() | IdentityChanged():
                    self._tokens.wake()
                    self._connection.wake()
                    self._status.notify()
                case Ended():
                    for query_id in self._readers:
                        self._wake_readers(query_id)
                    self._status.notify()

    def _wake_readers(self, query_id: int) -> None:
        if (readers := self._readers.get(query_id)) is not None:
            readers.wake()

    def _resolve(self, number: int, outcome: Answer | TinyvexError) -> None:
        future = self._finish(number)
        if future is None or future.done():
            return
        if isinstance(outcome, Answer):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
