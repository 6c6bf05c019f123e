"""
The server: one data folder, one port, one ordered list of services.

`Server` starts the parts in order and stops them in reverse order. The work is done elsewhere: requests arrive at
`front_door.py`; WebSockets and their sessions are in `sessions.py`, their bytes in `transport`, their messages in
`dialects`, their queries and calls in `sync`; functions run in `functions/run`, and everything that runs on its own is in
`services`.

::

    new ──enter──► starting ──► serving ──stop(), or a service failed──► stopping ──► stopped
                       └──any step fails──► the steps before it are undone, and the error is raised
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tinyvex import errors, limits
from tinyvex.functions.app.loader import App, load_app
from tinyvex.functions.run.code_switch import CodeSwitch
from tinyvex.functions.run.stuck_calls import StuckCalls
from tinyvex.runtime import Runtime
from tinyvex.server.access import origin_rules
from tinyvex.server.access.audit_log import AuditLog
from tinyvex.server.access.dashboard_links import DashboardLinks
from tinyvex.server.access.pairing import Pairing
from tinyvex.server.access.token_auth import ServerTokens, TokenAuth
from tinyvex.server.background_tasks import BackgroundTasks, shielded
from tinyvex.server.front_door import FrontDoor
from tinyvex.server.options import ServerOptions
from tinyvex.server.services.discovery import Discovery, DiscoveryFile
from tinyvex.server.services.garbage_collector import GarbageCollector
from tinyvex.server.services.recent_activity import RecentActivity
from tinyvex.server.services.reload import Reload
from tinyvex.server.services.retention_schedule import RetentionSchedule
from tinyvex.server.services.service import Service, Services
from tinyvex.server.services.stuck_timer import StuckTimer, stuck_timer
from tinyvex.server.services.ticker import Ticker
from tinyvex.server.services.watchdog import Watchdog
from tinyvex.server.transport.listener import PortListener
from tinyvex.storage.engine.store import Store
from tinyvex.storage.schema.schema_plan import fits, has_code
from tinyvex.storage.schema.tablets import abandon_all
from tinyvex.sync.counters import Counters
from tinyvex.version import __version__

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tinyvex.dialects.dialect import CreateDialect
    from tinyvex.functions.run.executor import Executor
    from tinyvex.server.access.jwt import UserTokens
    from tinyvex.server.serving import Serving
    from tinyvex.server.sessions import Sessions
    from tinyvex.server.transport.connection import Connection
    from tinyvex.server.undeclared_tables import UndeclaredTables
    from tinyvex.storage.engine.store_statistics import StoreStatistics
    from tinyvex.sync.live_queries import LiveQueries

__all__ = ["Server", "ServerOptions"]

log = logging.getLogger("tinyvex.server")


def _load_tinyvex_dialect() -> CreateDialect:
    from tinyvex.dialects.tinyvex.dialect import TinyvexDialect

    return TinyvexDialect


DIALECTS: dict[bytes, Callable[[], CreateDialect]] = {b"/sync": _load_tinyvex_dialect}
"""The dialects of WebSockets, by the path of the upgrade request; each is imported by its first connection."""


class Server:
    """
    A running server: `async with Server(options) as server: await server.wait_stopped()`.

    Raises (on entering):
        AppNotFound, AppInvalid, SchemaRejected: the app; nothing was changed.
        StorageError: the data folder.
        StartError: the certificate, a missing library, or an address beyond loopback without TLS and a token.
        PortTaken: the port.

    Raises (on leaving):
        InternalError: a service failed that the server cannot work without.
    """

    def __init__(self, options: ServerOptions, runtime: Runtime | None = None) -> None:
        self.options = options
        self.runtime = runtime or Runtime()
        self.counters = Counters()
        self.services = Services()
        self.tasks = BackgroundTasks(self.runtime, self._service_failed)
        pairing = Pairing(options.data, self.runtime.now_us, self.runtime.token)
        links = DashboardLinks(self.runtime.monotonic, self.runtime.token)
        tokens = ServerTokens(self.runtime.token(), options.client_token)
        self._token_auth = TokenAuth(tokens, pairing, links, AuditLog(self.runtime.monotonic))
        rules = origin_rules.AccessRules(
            options.allowed_hosts, options.allowed_origins, options.host, secure=options.tls is not None
        )
        self._front_door = FrontDoor(
            self.runtime, self.counters, rules, self._token_auth,
            dialects={path: partial(self._create_connection, load) for path, load in DIALECTS.items()},
            create_application=self._create_application,
            run=self.tasks.start_for_client,
        )  # fmt: skip
        # Services that exist before the server starts: each may be asked for something while it starts.
        self._watchdog = Watchdog(self.runtime, self._create_stuck_timer)
        self._stuck: StuckCalls | None = None
        self._users: UserTokens | None = None
        self._reload = Reload(self)
        self.garbage_collector = GarbageCollector(self.runtime, self.counters, self._statistics)
        """A service that a process adds if it runs nothing but this server."""
        self._discovery_file = DiscoveryFile(options.data, self._discovery)
        self._added_services: list[Service] = []
        self._undeclared_tables: UndeclaredTables | None = None
        # Stopping.
        self._is_serving = False
        self._stop_requested = False
        self._stopping = False
        self._stopped = asyncio.Event()
        self._failure: errors.InternalError | None = None

    # Start.

    def add_service(self, service: Service) -> None:
        """Add a service, before the server starts. It starts after the server's own and before the discovery file."""
        assert not self._is_serving, "services are added before the server starts"
        self._added_services.append(service)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as undo:
            # 1. The app, the certificate and the keys of users' tokens. Nothing is changed yet.
            self.listening = PortListener(self.options, self.runtime)
            self.runtime.bind(asyncio.get_running_loop())
            app = self._load_app()
            if self.options.auth is not None:
                from tinyvex.server.access.jwt import UserTokens

                self._users = UserTokens(self.options.auth, self.runtime)
            # 2. The folder's lock and the file, which may have to be upgraded.
            if Store.is_older(self.options.data):
                await asyncio.to_thread(Store.upgrade, self.options.data, self._upgrading)
            self.store = Store.open(self.options.data, self.runtime, durability=self.options.durability)
            undo.push_async_callback(_shielded, self.store.close)
            # 3. Tables, indexes and existing documents. An import under way belonged to a process that has ended.
            await abandon_all(self.store)
            if self.options.app is not None or not await self.store.read(has_code):
                await self._change_schema(app)
            if self.options.watchdog:
                self._stuck = StuckCalls(self.options.data)
            # 4. The code that serves from here on; the first client creates the rest of `serving`.
            self._code = CodeSwitch(app)
            self.store.add_participant(self._code)
            self.store.on_abandoned = self._thread_abandoned
            self._activity = RecentActivity(self.store, self.counters, self.runtime, reveal=self.options.dev)
            self._started_us = self.runtime.now_us()
            # 5. The list of services, which may find that a library is missing.
            services = self._ordered_services()
            # 6. The port.
            await self.listening.listen(self._front_door.accept, lambda: self._front_door.strangers)
            undo.callback(self.listening.close)
            # 7. The services; the discovery file is the last, because a program that finds it connects.
            await undo.enter_async_context(self.tasks)
            await self.services.start(services, self.tasks)
            undo.pop_all()
        self._is_serving = True
        if self._stop_requested:
            self.request_stop()
        return self

    def _load_app(self) -> App:
        return App([], []) if self.options.app is None else load_app(self.options.app)

    def _upgrading(self, _rows_done: int, _rows_total: int) -> None:
        if self._stop_requested:
            raise errors.ServerStopping("stopped while the database file was upgraded; the next start continues")

    def _statistics(self) -> StoreStatistics:
        return self.store.statistics()

    def _ordered_services(self) -> list[Service]:
        """Return the services in the order in which they start; `services/service.py` has the table."""
        options = self.options
        services: list[Service] = []
        if options.watchdog:
            services.append(self._watchdog)
        services += [
            Ticker(self.runtime, self._front_door.endpoints, self._token_auth),
            self._activity,
            RetentionSchedule(self.store, options.retention, self.runtime, self.counters),
            self._reload,
        ]
        if self._users is not None and self._users.has_key_set:
            from tinyvex.server.services.signing_keys import SigningKeys

            services.append(SigningKeys(self._users))
        if options.parent_pid is not None:
            from tinyvex.server.services.parent_watch import ParentWatch

            services.append(ParentWatch(self.runtime, options.parent_pid, self.request_stop))
        services += self._added_services
        if options.advertise is not None:
            from tinyvex.server.services.mdns import MdnsAdvertising

            services.append(MdnsAdvertising(self, options.advertise))
        services.append(self._discovery_file)
        return services

    # Serving.

    @cached_property
    def serving(self) -> Serving:
        """The parts that only clients need, imported and created by the first one, after the ready line."""
        from tinyvex.server.serving import Serving

        return Serving(
            self.options, self.store, self._code, self._stuck,
            self._front_door, self.tasks, self._users,
        )  # fmt: skip

    @property
    def executor(self) -> Executor:
        """Runs the app's functions."""
        return self.serving.executor

    @property
    def live(self) -> LiveQueries:
        """The live queries of all connections."""
        return self.serving.live

    @property
    def sessions(self) -> Sessions:
        """The sessions of the connected clients."""
        return self.serving.sessions

    @property
    def connections(self) -> Mapping[int, Connection]:
        """The open WebSockets, by number."""
        return self.sessions.connections

    # Stop.

    def request_stop(self) -> None:
        """Begin to stop, without waiting for the end; idempotent. A server that is still starting stops afterwards."""
        self._stop_requested = True
        if self._is_serving and not self._stopping:
            self._stopping = True
            self.tasks.start_uncancelled(self._stop, name="tinyvex-stop")

    async def stop(self) -> None:
        """Stop within SHUTDOWN_SECONDS; idempotent. If the wait is cancelled, stopping continues and leaving waits for it."""
        self.request_stop()
        await self._stopped.wait()

    async def wait_stopped(self) -> None:
        """Wait until the server has stopped, for whatever reason."""
        await self._stopped.wait()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with shielded():
            await self.stop()
            await self.tasks.__aexit__(None, None, None)
        if self._failure is not None and error is None:
            raise self._failure

    async def _stop(self) -> None:
        try:
            await self._stop_in_steps()
        finally:
            self._stopped.set()

    async def _stop_in_steps(self) -> None:
        now = asyncio.get_running_loop().time
        deadline = now() + limits.SHUTDOWN_SECONDS
        # 1. Accept no more connections.
        self.listening.close()
        # 2. Send each client the reason and when to reconnect. HTTP responses under way are completed.
        self._front_door.begin_close(
            errors.ServerStopping("the server is stopping", retry_after_ms=limits.RETRY_AFTER_MS)
        )
        # 3. Stop the services in reverse order: the discovery file first, so that no program finds this server.
        await self.services.stop(deadline - limits.SHUTDOWN_SECONDS / 2)
        # 4. Wait for the clients' close frames; then close the sockets that are left.
        await self._front_door.wait_closed()
        # 5. Cancel actions. Their commits are kept.
        self.tasks.cancel()
        if "serving" in vars(self):
            self.serving.close()
        # 6. Drain the writer, checkpoint, release the folder. A mutation that does not end is not acknowledged.
        await self.store.close(limit_seconds=max(deadline - now(), 0.1))
        # 7. Disarm the watchdog: nothing of the server can block any more.
        if self.options.watchdog:
            self._watchdog.disarm()
        if self._stuck is not None:
            self._stuck.close()

    def _service_failed(self, description: str, error: Exception) -> None:
        """Stop, because a service failed that the server cannot work without."""
        log.critical("%s failed and the server cannot work without it: stopping", description)
        self._failure = errors.InternalError(f"{description} failed; the log has the reason")
        self._failure.__cause__ = error
        self.request_stop()

    def _thread_abandoned(self, stuck_threads: int) -> None:
        log.error("a function ignored its time limit; %d threads are stuck", stuck_threads)
        if self.options.watchdog:
            self._watchdog.thread_abandoned(stuck_threads)

    # Addresses.

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self.listening.number

    @property
    def url(self) -> str:
        """The URL at which clients on this machine connect."""
        return self.listening.url

    def ready_record(self) -> dict[str, Any]:
        """Return the content of the ready line, which reports that the server can serve."""
        return self._discovery().ready_record()

    def _discovery(self) -> Discovery:
        return Discovery(
            url=self.url,
            port=self.port,
            pid=os.getpid(),
            token=self._token_auth.tokens.client,
            admin_token=self.admin_token,
            version=__version__,
            database_id=self.store.database_id,
            tls_fingerprint=self.listening.fingerprint,
        )

    # Tokens.

    @property
    def admin_token(self) -> str:
        """The admin token."""
        return self._token_auth.tokens.admin

    def renew_tokens(self) -> None:
        """
        Replace the admin token, and the client token if clients need one, and close the connections that the old ones admitted.

        Raises:
            DataFolderUnusable, DiskFull: the discovery file cannot be written; the old tokens stay valid.
        """
        old = self._token_auth.tokens
        self._token_auth.tokens = ServerTokens(
            self.runtime.token(), None if old.client is None else self.runtime.token()
        )
        try:
            self._discovery_file.write()
        except errors.TinyvexError:
            self._token_auth.tokens = old
            raise
        self._token_auth.renewed()
        for connection in list(self.connections.values()):
            session = connection.session
            needs_token = connection.paired is None and old.client is not None
            if session is not None and (needs_token or session.identity.is_admin):
                connection.fail(errors.Unauthenticated("the token was renewed; `server.json` has the new one"))

    # Certificate.

    @property
    def certificate_fingerprint(self) -> str | None:
        """The fingerprint of the certificate in use; None without TLS."""
        return self.listening.fingerprint

    def reload_certificate(self) -> None:
        """
        Use the current content of the certificate's files for new connections; without TLS there is nothing to do.

        Raises:
            StartError: the files cannot be used; the old certificate stays in use.
            OSError: the new certificate is in use, but the discovery file cannot be written.
        """
        if self.options.tls is not None:
            self.listening.reload_certificate()
            self._discovery_file.write()

    # Code.

    def request_reload(self, *, certificate: bool) -> None:
        """Request a reload of the app, and of the certificate too; also before the server has started."""
        self._reload.request(certificate=certificate)

    async def reload(self) -> App:
        """
        Load the app again and switch to it when its files have settled; live queries run again with the new code.

        Raises:
            AppNotFound, AppInvalid, SchemaRejected: the last good version keeps serving.
        """
        from tinyvex.server.settled_app import load_settled

        app = await load_settled(self._load_app, self._code.newest, self.runtime.sleep)
        # It stays when the wait is cancelled, because the commit that switches to it may be queued. If the change is
        # refused, no commit has its fingerprint.
        self._code.next_app = app
        await self._change_schema(app)
        return app

    async def _change_schema(self, app: App) -> None:
        declaration, fingerprints = app.declaration(), app.table_fingerprints()
        if not await self.store.read(partial(fits, declaration, app.fingerprint, fingerprints)):
            from tinyvex.storage.schema.schema_change import change_schema

            await change_schema(
                self.store,
                declaration,
                validators=app.validators(),
                fingerprint=app.fingerprint,
                table_fingerprints=fingerprints,
            )
        if self.options.dev:
            if self._undeclared_tables is None:
                from tinyvex.server.undeclared_tables import UndeclaredTables

                self._undeclared_tables = UndeclaredTables(self.store)
            await self._undeclared_tables.warn(app)

    # The front door's choices.

    def _create_connection(
        self, load_dialect: Callable[[], CreateDialect], number: int, opened_at: float
    ) -> Connection:
        return self.sessions.create_connection(load_dialect(), number, opened_at)

    def _create_stuck_timer(self) -> StuckTimer:
        assert self._stuck is not None
        return stuck_timer(self._stuck.record)

    def _create_application(self) -> ASGIApp:
        from tinyvex.server.http.application import create_application
        from tinyvex.server.http.dashboard import Dashboard

        dashboard = Dashboard(self, self._token_auth, self._activity, self._started_us)
        return create_application(
            self.store,
            self.counters,
            self.garbage_collector.seconds,
            self.services,
            dashboard,
            self._front_door.dialects,
        )


async def _shielded(close: Callable[[], Awaitable[None]]) -> None:
    """Close something completely, also while the caller is being cancelled."""
    with shielded():
        await close()
