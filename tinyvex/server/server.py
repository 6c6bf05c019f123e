"""
The server: one data folder, one port, one task group.

`Server.start` and `Server.stop` are numbered procedures; what happens in between is in
`connection` (bytes), `sync.worker` (what a connection is owed), `sync.live` (live queries) and `functions.executor`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
from msgspec import UNSET

from tinyvex import errors, limits
from tinyvex.functions.app.loader import load_app
from tinyvex.functions.run.executor import Executor
from tinyvex.runtime import Runtime
from tinyvex.server.access import origin_rules
from tinyvex.server.access.dashboard_links import DashboardLinks
from tinyvex.server.access.jwt import UserTokens
from tinyvex.server.access.pairing import Pairing
from tinyvex.server.access.token_auth import TokenAuth
from tinyvex.server.http import routes
from tinyvex.server.http.dashboard import Dashboard
from tinyvex.server.options import ServerOptions
from tinyvex.server.services import discovery
from tinyvex.server.services.recent_activity import Activity
from tinyvex.server.services.retention import forget_forever
from tinyvex.server.services.ticker import every_second
from tinyvex.server.transport.connection import Answer, Connection
from tinyvex.server.transport.fair_queue import FairQueue
from tinyvex.server.transport.listener import PortListener
from tinyvex.storage.engine.store import Store
from tinyvex.storage.schema.schema_change import change_schema
from tinyvex.storage.schema.tablets import abandon_all
from tinyvex.sync.authentication import Credentials
from tinyvex.sync.counters import Counters
from tinyvex.sync.live_queries import LiveQueries
from tinyvex.sync.worker import SyncWorker
from tinyvex.version import __version__
from tinyvex.wire import messages

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from websockets.http11 import Request

    from tinyvex.functions.app.registry import App

__all__ = ["Server", "ServerOptions"]

log = logging.getLogger("tinyvex.server")

WATCHDOG_EXIT_CODE = 1
"""What `faulthandler` ends a process with when its interpreter is stuck; the same when too many threads are."""

CONNECTIONS_REFUSED_MAX = 2 * limits.CONNECTIONS_MAX
"""Sockets above this are cut at once; those between are told why before they are closed."""


class Server:
    """
    A running server: `async with Server(options) as server: await server.wait_stopped()`.

    Raises (on entering):
        AppNotFound, AppInvalid, SchemaRejected: the app; nothing was changed.
        StorageError: the data folder.
        StartError: the certificate, or an address beyond loopback without TLS and a token.
        PortTaken: the port.
    """

    def __init__(self, options: ServerOptions, runtime: Runtime | None = None) -> None:
        self.options = options
        self.runtime = runtime or Runtime()
        self.counters = Counters()
        self.turns = FairQueue(self.runtime)
        self.admin_token = self.runtime.token()
        self._tokens = origin_rules.Tokens(self.admin_token, options.client_token)
        pairing = Pairing(options.data, self.runtime.now_us, self.runtime.token)
        links = DashboardLinks(self.runtime.monotonic, self.runtime.token)
        self._admission = TokenAuth(self._tokens, pairing, links)
        self._rules = origin_rules.AccessRules(
            options.allowed_hosts, options.allowed_origins, options.host, secure=options.tls is not None
        )
        self._connections: dict[int, Connection] = {}
        self._sessions: dict[str, Connection] = {}
        self._accepted = 0
        self._stopping = False
        self._stopped = anyio.Event()
        self._all_closed = anyio.Event()  # set when the last connection goes while stopping
        self._tasks: TaskGroup
        self._scopes: set[anyio.CancelScope] = set()

    # Life.

    async def __aenter__(self) -> Self:
        # 1. The app and the certificate, which touch nothing.
        self.listening = PortListener(self.options, self.runtime)
        self.runtime.bind(asyncio.get_running_loop())
        app = load_app(self.options.app)
        self._users = UserTokens(self.options.auth, self.runtime)
        self._credentials = Credentials(self._admission.is_admin, self._users.check)
        # 2. The folder's lock and the file.
        self.store = Store.open(self.options.data, self.runtime, durability=self.options.durability)
        try:
            # 3. Tables, indexes, and whether existing documents fit. Whoever was importing is gone.
            await abandon_all(self.store)
            await self._change_schema(app)
            # 4. Functions and live queries.
            self.executor = Executor(
                self.store, self.runtime, app,
                function_seconds=self.options.function_seconds, slow_ms=self.options.slow_ms, reveal=self.options.dev,
            )  # fmt: skip
            self.live = LiveQueries(self.executor, self.counters)
            self.store.on_commits = self.live.publish
            self.store.on_abandoned = self._thread_abandoned
            self._activity = Activity(self.store, self.counters, reveal=self.options.dev)
            dashboard = Dashboard(self.options, self._admission, self.live, self._activity, self._connections)
            self._routes = routes.Routes(self._rules, self._admission, dashboard, self.counters, self.store)
            # 5. The port.
            await self.listening.listen(self._accept)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.store.close()
            raise
        # 6. The discovery file, last: whoever finds it can connect.
        try:
            self._write_discovery()
        except OSError as error:
            self.listening.close()
            await self.store.close()
            raise errors.DataFolderUnusable(f"{self.options.data} cannot be written: {error.strerror}") from error
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._activity.start()
        self._users.start()
        self._tasks.start_soon(self._until_stopped, self._tick_forever, name="tinyvex-ticks")
        forget = partial(forget_forever, self.store, self.options.retention, self.runtime, self.counters)
        self._tasks.start_soon(self._until_stopped, forget, name="tinyvex-retention")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()
        await self._tasks.__aexit__(None, None, None)

    async def stop(self) -> None:
        """Stop serving, within SHUTDOWN_SECONDS; idempotent; where the wait is cancelled it goes on, and leaving waits."""
        if not self._stopping:
            self._stopping = True
            self._tasks.start_soon(self._stop, name="tinyvex-stop")
        await self._stopped.wait()

    async def _stop(self) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await self._stop_in_steps()
            finally:
                self._stopped.set()

    async def _stop_in_steps(self) -> None:
        deadline = anyio.current_time() + limits.SHUTDOWN_SECONDS
        # 1. Accept nobody; tell those who look that nobody is here.
        self.listening.close()
        discovery.remove(self.options.data)
        # 2. Tell clients why, and when to come back. Those half-open are cut.
        for connection in list(self._connections.values()):
            connection.fail(errors.ServerStopping("the server is stopping", retry_after_ms=limits.RETRY_AFTER_MS))
        # 3. Wait for their close frames, then cut.
        if self._connections:
            with anyio.move_on_after(limits.CLOSE_SECONDS):
                await self._all_closed.wait()
        for connection in list(self._connections.values()):
            connection.abort()
        # 4. Cancel actions: what they had committed stays.
        for scope in list(self._scopes):
            scope.cancel()
        self.executor.close()
        self._users.close()
        self._activity.stop()
        # 5. Drain the writer, checkpoint, release the folder. What a stuck function holds up is not acknowledged.
        await self.store.close(limit_seconds=max(deadline - anyio.current_time(), 0.1))
        if self.options.watchdog:
            faulthandler.cancel_dump_traceback_later()

    async def wait_stopped(self) -> None:
        """Wait until `stop` has ended."""
        await self._stopped.wait()

    def _thread_abandoned(self, stuck: int) -> None:
        """A function does not come back; when too many do not, only a new process helps, and a supervisor starts one."""
        log.error("a function did not react to being stopped; %d threads are stuck", stuck)
        if stuck >= limits.THREADS_ABANDONED_MAX and self.options.watchdog:
            log.critical("%d threads are stuck: ending the process", stuck)
            os._exit(WATCHDOG_EXIT_CODE)

    def _accept(self) -> Connection:
        self._accepted += 1
        return Connection(self, self._accepted, self.options.chunk_bytes)

    async def _tick_forever(self) -> None:
        heartbeat_every = int(limits.HEARTBEAT_SECONDS)
        async for count in every_second(self.runtime):
            if self.options.watchdog and count % heartbeat_every == 0:
                faulthandler.dump_traceback_later(limits.WATCHDOG_SECONDS, exit=True)
            self._admission.close_revoked(self._connections.values())
            self._activity.sample(self.runtime.now_us())
            now = self.runtime.monotonic()
            for connection in list(self._connections.values()):
                try:
                    connection.tick(now, heartbeat=(count + connection.number) % heartbeat_every == 0)
                except Exception:
                    number = connection.number
                    log.exception("connection %d: a defect in its heartbeat", number, extra={"connection": number})
                    connection.abort()

    # What is told about it.

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.listening.number

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self.listening.url

    def ready_record(self) -> dict[str, Any]:
        """The machine-readable line that says it can serve."""
        found = self._discovery()
        return {
            "event": "ready",
            "url": found.url,
            "port": found.port,
            "pid": found.pid,
            "token": found.token,
            "version": found.version,
            **({} if found.tls_fingerprint is None else {"tlsFingerprint": found.tls_fingerprint}),
        }

    def _discovery(self) -> discovery.Discovery:
        return discovery.Discovery(
            url=self.url,
            port=self.port,
            pid=os.getpid(),
            token=self.options.client_token,
            admin_token=self.admin_token,
            version=__version__,
            database_id=self.store.database_id,
            tls_fingerprint=self.listening.fingerprint,
        )

    def _write_discovery(self) -> None:
        discovery.write(self.options.data, self._discovery())

    def reload_certificate(self) -> None:
        """
        Use what the certificate's files hold now, for new connections; nothing without TLS.

        Raises:
            StartError: they cannot be used; the old certificate stays.
            OSError: the data folder cannot be written.
        """
        if self.options.tls is not None:
            self.listening.reload_certificate()
            self._write_discovery()

    # Code.

    async def reload(self) -> App:
        """
        Load the app again and switch to it; live queries run again with the new code.

        Raises:
            AppNotFound, AppInvalid, SchemaRejected: the last good version goes on serving.
        """
        app = load_app(self.options.app)
        await self._change_schema(app, switch=lambda ts: self.executor.switch(app, ts), unswitch=self.executor.unswitch)
        return app

    async def _change_schema(
        self, app: App, switch: Callable[[int], None] | None = None, unswitch: Callable[[int], None] | None = None
    ) -> None:
        await change_schema(
            self.store,
            app.declaration(),
            validators=app.validators(),
            fingerprint=app.fingerprint,
            table_fingerprints=app.table_fingerprints(),
            switch=switch,
            unswitch=unswitch,
        )

    # Connections (connection.Host).

    def opened(self, connection: Connection) -> None:
        """A socket was accepted."""
        if len(self._connections) >= CONNECTIONS_REFUSED_MAX or self._stopping:
            connection.abort()
            return
        self._connections[connection.number] = connection
        self.counters.connections = len(self._connections)
        self.counters.connections_total += 1

    def closed(self, connection: Connection) -> None:
        """A socket ended."""
        self._connections.pop(connection.number, None)
        self.counters.connections = len(self._connections)
        worker = connection.worker
        if worker is not None and self._sessions.get(worker.session_id) is connection:
            del self._sessions[worker.session_id]
        if self._stopping and not self._connections:
            self._all_closed.set()

    def answer_http(self, request: Request) -> Answer:
        """Refuse strangers, answer plain HTTP, let WebSocket upgrades of /sync go on."""
        return self._routes.answer(request, len(self._connections))

    def run_action(self, action: Callable[[], Any]) -> None:
        """Run a coroutine function in the server's task group."""
        if not self._stopping:
            self._tasks.start_soon(self._until_stopped, partial(self._guarded, action))

    async def _guarded(self, run: Callable[[], Any]) -> None:
        """A task of one client: its defect must not end the group, which is everybody's."""
        try:
            await run()
        except Exception:
            log.exception("a defect in a task of a client")

    async def _until_stopped(self, run: Callable[[], Any]) -> None:
        """Run inside a scope of its own: the group's scope belongs to whoever entered the server, and is not ours to end."""
        if self._stopping:
            return  # it had no time to begin
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await run()
            finally:
                self._scopes.discard(scope)

    def connect(self, connection: Connection, params: messages.ConnectParams) -> messages.ConnectResult:
        """
        Let a client in.

        Raises:
            UnsupportedVersion, Unauthenticated, ObservedTsAhead: the connection ends.
        """
        if params.protocol_version < messages.PROTOCOL_VERSION:
            raise errors.UnsupportedVersion(
                f"the server speaks protocol {messages.PROTOCOL_VERSION}, the client {params.protocol_version}",
                supported=[messages.PROTOCOL_VERSION],
            )
        token = params.token or origin_rules.bearer_token(connection.authorization) or ""
        is_admin, secret = self._admission.admit(connection, token)
        if params.observed_epoch == self.store.epoch and params.max_observed_ts > self.store.last_ts:
            raise errors.ObservedTsAhead(
                f"the client has seen ts {params.max_observed_ts}, this database's last is {self.store.last_ts}"
            )
        older = self._sessions.get(params.session_id)
        if older is not None:
            older.fail(errors.SessionReplaced("a newer socket connected with the same session id"))
        self._sessions[params.session_id] = connection
        connection.capabilities = frozenset(params.capabilities)
        connection.worker = SyncWorker(
            outbox=connection,
            live=self.live,
            executor=self.executor,
            counters=self.counters,
            runtime=self.runtime,
            session_id=params.session_id,
            is_admin=is_admin,
            takes_patches=messages.CAPABILITY_PATCH in params.capabilities,
            credentials=self._credentials,
        )
        return messages.ConnectResult(
            protocol_version=messages.PROTOCOL_VERSION,
            server_version=__version__,
            database_id=self.store.database_id,
            epoch=self.store.epoch,
            last_ts=self.live.published,
            client_clock_skew=params.client_ts - self.runtime.now_us() // 1000,
            limits=messages.ConnectLimits(
                message_bytes_max=limits.MESSAGE_BYTES_MAX,
                queries_max=limits.QUERIES_PER_CONNECTION_MAX,
                requests_max=limits.REQUESTS_PER_CONNECTION_MAX,
            ),
            heartbeat_ms=int(limits.HEARTBEAT_SECONDS * 1000),
            token=UNSET if secret is None else secret,
        )
