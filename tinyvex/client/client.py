"""
The Python client: `connect`, `subscribe`, `query`, `mutation`, `action`.

It speaks the protocol and nothing else, so it works from any process and proves that the protocol is enough.
`state` decides, `connection` moves bytes; this file turns calls into requests and events into results.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from tinyvex import limits
from tinyvex.client.connection import Connection, socket_uri
from tinyvex.client.decoding import check_path, decode_value, encode_arguments
from tinyvex.client.events import Changed, Completed, Connected, Ended, Event, Failed, IdentityChanged
from tinyvex.client.known import Known
from tinyvex.client.requests import Answer, Kind
from tinyvex.client.server_verification import ServerVerification
from tinyvex.client.state import ClientState
from tinyvex.client.subscription import Subscription
from tinyvex.client.token_source import TokenSource
from tinyvex.errors import ClientClosed, TinyvexError
from tinyvex.runtime import Runtime

if TYPE_CHECKING:
    from tinyvex.client.optimistic import Update
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
    runtime: Runtime | None = None,
) -> Client:
    """
    A client of the server at `url`, to be used as `async with tv.connect(url) as client:`.

    Entering does not wait for the server: calls do, and the client connects again whenever it has to.
    `Client.wait_connected` waits.

    Args:
        url: such as `ws://127.0.0.1:3210/sync`, or `wss://` with TLS, as in the ready line and the discovery file.
        token: the client or admin token, if the server asks for one; or `pairing:CODE`, once, and from then on `Client.token`.
        auth: gives the JSON Web Token of the user for whom functions are called, or None for nobody; may be async.
            It is asked on every new connection, when the token is refused or has ended, and before it ends.
            Calls and subscriptions wait for it. Where it fails, the client goes on as nobody,
            and `ConnectionState.auth_error` says why. One that is not async is called on the loop: it should be quick.
        tls: whom to believe over `wss://`: None, the system's authorities; a file with those of your own in PEM;
            an `ssl.SSLContext`; or `sha256:` and the fingerprint of the only certificate to accept.
            A server that does not prove itself is not asked again: `ServerUntrusted` ends every call.
        verify: compare every result that came as a patch with a fresh query at the same moment, for development;
            what disagrees is logged, counted in `Client.counters` and asked for again.
            A query that looks at `ctx.now` disagrees by its nature.
        runtime: for tests.

    Raises:
        ValueError: this is no URL of a server, or `tls` does not fit it or cannot be read.
    """
    return Client(url, token, runtime or Runtime(), auth=auth, tls=tls, verify=verify)


class Client(Known):
    """
    One session with a server; made by `connect`.

    Every call may raise, beside what its docstring names:
        ClientClosed: the client was closed.
        RemoteError: the server ended the session for good: wrong token, no common protocol version, session replaced.
        RuntimeError: the client was not entered.

    Use it on the loop that entered it.
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
    ) -> None:
        super().__init__()
        self._session = ClientState(runtime.token(), token, verify=verify)
        self._uri = socket_uri(url)
        self._trust = ServerVerification(tls, secure=self._uri.secure)
        self._runtime = runtime
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._subscriptions: dict[int, list[Subscription[Any]]] = {}
        self._room = asyncio.Semaphore(limits.CLIENT_REQUESTS_MAX)
        # asyncio's group and not anyio's: it may be left in another task than the one that entered it,
        # as fixtures of tests and start-up hooks of frameworks do.
        self._task_group = asyncio.TaskGroup()
        self._tokens = TokenSource(self._session.identity, runtime, self._identity_changed)
        self._tokens.set(auth)

    # Life.

    async def __aenter__(self) -> Self:
        if self._connection is not None:
            raise RuntimeError("a client is entered once; make another with connect()")
        self._connection = Connection(
            self._uri, self._session, self._runtime, self._trust, on_events=self._take, on_state=self._state_changed
        )
        await self._task_group.__aenter__()
        self._task_group.create_task(self._connection.run(), name="tinyvex-client")
        self._task_group.create_task(self._tokens.run(), name="tinyvex-client-tokens")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close: calls under way raise ClientClosed, then the socket is closed within CLOSE_SECONDS."""
        self.close()
        # The group must not see the body's error: it would wrap it in an ExceptionGroup.
        await self._task_group.__aexit__(None, None, None)

    def close(self) -> None:
        """
        End every call and subscription with ClientClosed and begin to close the socket; idempotent.

        A mutation that was sent may still commit; one that was not sent is lost.
        """
        self._session.close(ClientClosed("the client was closed"))
        if self._connection is not None:
            self._connection.stop()
        self._tokens.stop()
        self._take(self._session.events())

    def set_auth(self, auth: Source | None) -> None:
        """
        Ask this for the user's token from now on; None signs out.

        Until it has answered, nothing is said by anybody.
        A client is one user's: for another one, connect another client.
        """
        self._tokens.set(auth)
        self._identity_changed()

    def _identity_changed(self) -> None:
        self._wake()
        self._state_changed()

    # Calls.

    @overload
    def subscribe(self, path: str, args: Arguments = None, *, type: type[T]) -> Subscription[T]: ...
    @overload
    def subscribe(self, path: str, args: Arguments = None, *, type: Any = Any) -> Subscription[Any]: ...
    def subscribe(self, path: str, args: Arguments = None, *, type: Any = Any) -> Subscription[Any]:  # noqa: A002 - the public name
        """
        Keep a query's result live until the subscription is closed; equal ones of one client share one query.

        Args:
            path: the query, as `module:function`.
            args: its arguments by name.
            type: what to decode values to: a `tv.Document`, any struct, dataclass or typed dict, lists of them, …

        Raises:
            InvalidValue, ValueTooLarge, InvalidParams: the arguments or the path.
            TooManyQueries: CLIENT_QUERIES_MAX are subscribed.
        """
        self._require_entered()
        query = self._session.subscribe(check_path(path), encode_arguments(args))
        subscription: Subscription[Any]
        subscription = Subscription(
            query, type, lambda: self._session.error, lambda: self._unsubscribe(query.query_id, subscription)
        )
        self._subscriptions.setdefault(query.query_id, []).append(subscription)
        self._take(self._session.events())
        self._wake()
        return subscription

    def _unsubscribe(self, query_id: int, subscription: Subscription[Any]) -> None:
        readers = self._subscriptions[query_id]
        readers.remove(subscription)
        if not readers:
            del self._subscriptions[query_id]
        self._session.queries.release(query_id)
        self._wake()

    @overload
    async def query(self, path: str, args: Arguments = None, *, type: type[T], at: int | None = None) -> T: ...
    @overload
    async def query(self, path: str, args: Arguments = None, *, type: Any = Any, at: int | None = None) -> Any: ...
    async def query(self, path: str, args: Arguments = None, *, type: Any = Any, at: int | None = None) -> Any:  # noqa: A002 - the public name
        """
        Run a query once.

        Cancelling loses the result only.

        Args:
            path: the query, as `module:function`.
            args: its arguments by name.
            type: what to decode the value to.
            at: the `ts` of the snapshot to read; None is the newest.

        Raises:
            RemoteError: it failed.
            ConnectionLost: the connection was lost before the answer came; ask again.
            DecodeError: the value does not fit `type`.
        """
        return await self._call(Kind.QUERY, path, args, type, at=at)

    @overload
    async def mutation(
        self, path: str, args: Arguments = None, *, type: type[T], optimistic: Update | None = None
    ) -> T: ...
    @overload
    async def mutation(
        self, path: str, args: Arguments = None, *, type: Any = Any, optimistic: Update | None = None
    ) -> Any: ...
    async def mutation(
        self,
        path: str,
        args: Arguments = None,
        *,
        type: Any = Any,  # noqa: A002 - the public name
        optimistic: Update | None = None,
    ) -> Any:
        """
        Run a mutation, exactly once, across lost connections and restarts of the server.

        Returns when the commit is durable and this client's subscriptions show it.
        Cancelling the wait does not cancel the mutation: it may still commit.

        Args:
            path: the mutation, as `module:function`.
            args: its arguments by name.
            type: what to decode the value to.
            optimistic: shows what the mutation is expected to do to subscribed queries until the server has said,
                as `lambda store: store.set("m:list", {}, [...])`; it may run many times.

        Raises:
            RemoteError: it failed and nothing was written; but where its name is `RequestIdReused` it did commit,
                for who was signed in when it was first sent, and nobody else is told its result.
            DecodeError: the value does not fit `type`; the mutation did commit.
            ClientClosed: the client was closed; whether it committed is unknown.
        """
        return await self._call(Kind.MUTATION, path, args, type, update=optimistic)

    @overload
    async def action(self, path: str, args: Arguments = None, *, type: type[T]) -> T: ...
    @overload
    async def action(self, path: str, args: Arguments = None, *, type: Any = Any) -> Any: ...
    async def action(self, path: str, args: Arguments = None, *, type: Any = Any) -> Any:  # noqa: A002 - the public name
        """
        Run an action, at most once.

        Cancelling the wait does not stop an action that was sent.

        Args:
            path: the action, as `module:function`.
            args: its arguments by name.
            type: what to decode the value to.

        Raises:
            RemoteError: it failed.
            ConnectionLost: the connection was lost while it ran; whether it finished is unknown.
            DecodeError: the value does not fit `type`; the action did run.
        """
        return await self._call(Kind.ACTION, path, args, type)

    def _require_entered(self) -> None:
        """A client that nobody entered connects to nothing: its calls would wait for ever."""
        if self._connection is None and self._session.error is None:
            raise RuntimeError("the client was not entered: write `async with tv.connect(…) as client:`")

    async def _call(
        self,
        kind: Kind,
        path: str,
        args: Arguments,
        target: Any,
        *,
        at: int | None = None,
        update: Update | None = None,
    ) -> Any:
        self._require_entered()
        encoded = encode_arguments(args)
        check_path(path)
        await self._room.acquire()
        # No await from here to the registered future: nothing can be answered before somebody waits for it.
        try:
            request = self._session.call(kind, path, encoded, at=at, update=update)
        except BaseException:
            self._room.release()
            raise
        answer = self._answers[request.number] = asyncio.get_running_loop().create_future()
        self._take(self._session.events())
        self._wake()
        try:
            done = await answer
        except asyncio.CancelledError:
            self._answers.pop(request.number, None)
            if self._session.requests.abandon(request.number):
                self._room.release()
            raise
        for line in done.log_lines:
            logger.info("%s: %s", path, line)
        return decode_value(done.value, target, path)

    # What happens.

    def _wake(self) -> None:
        if self._connection is not None:
            self._connection.wake()

    def _take(self, events: list[Event]) -> None:
        """Readers of changed queries go on before the caller of the mutation that changed them."""
        for event in events:
            match event:
                case Changed(query_ids=query_ids):
                    for query_id in query_ids:
                        self._wake_readers(query_id)
                case Completed(number=number, answer=answer):
                    self._settle(number, answer)
                case Failed(number=number, error=error):
                    self._settle(number, error)
                case Connected() | IdentityChanged():
                    self._tokens.look_up()
                    self._identity_changed()
                case Ended():
                    for query_id in self._subscriptions:
                        self._wake_readers(query_id)
                    self._state_changed()

    def _wake_readers(self, query_id: int) -> None:
        for subscription in self._subscriptions.get(query_id, ()):
            subscription.wake()

    def _settle(self, number: int, outcome: Answer | TinyvexError) -> None:
        self._room.release()
        future = self._answers.pop(number, None)
        if future is None or future.done():
            return
        if isinstance(outcome, Answer):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
