"""
The sessions of a server and the WebSockets that carry them.

A session belongs to one client and survives its connections: when a client reconnects, its session moves to the new
socket, and the older socket is closed. At most one socket carries a session at any time, so that requests of one session
are never answered twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from tinyvex import errors
from tinyvex.server.transport.connection import Connection
from tinyvex.server.transport.fair_queue import FairQueue
from tinyvex.server.transport.unread_total import UnreadTotal
from tinyvex.sync.identity import Credentials
from tinyvex.sync.session import SessionOpened, SyncSession

if TYPE_CHECKING:
    from tinyvex.dialects.dialect import CreateDialect
    from tinyvex.server.background_tasks import BackgroundTasks
    from tinyvex.server.front_door import FrontDoor
    from tinyvex.sync.commands import OpenSession
    from tinyvex.sync.events import Peer
    from tinyvex.sync.identity import CheckUserToken, UserIdentity
    from tinyvex.sync.live_queries import LiveQueries

__all__ = ["Sessions"]


class Sessions:
    """
    The host of all WebSocket connections (`connection.Host`).

    Args:
        front_door: the rules for upgrades and tokens.
        tasks: runs actions.
        live: the live queries that sessions share; their executor and counters as well.
        check_user: verifies users' tokens.
        chunk_bytes: the size of the chunks of a long transition.
    """

    def __init__(
        self,
        front_door: FrontDoor,
        tasks: BackgroundTasks,
        live: LiveQueries,
        check_user: CheckUserToken,
        chunk_bytes: int,
    ) -> None:
        self.runtime = tasks.runtime
        self.counters = live.counters
        self.fair_queue = FairQueue(self.runtime)
        self.unread = UnreadTotal()
        self._relieving = False
        self.connections: dict[int, Connection] = {}
        """The open WebSockets, by number."""
        self.by_id: dict[str, Connection] = {}
        """The connection that carries a session, by session id."""
        self._front_door = front_door
        self._tasks = tasks
        self._live = live
        self._check_user = check_user
        self._chunk_bytes = chunk_bytes

    def create_connection(self, create_dialect: CreateDialect, number: int, opened_at: float) -> Connection:
        """Create the protocol of a socket whose first request asks for a dialect's path."""
        return Connection(self, create_dialect, number, opened_at, self._chunk_bytes)

    def opened(self, connection: Connection) -> None:
        """Register a WebSocket."""
        self.connections[connection.number] = connection

    def closed(self, connection: Connection) -> None:
        """Remove a WebSocket whose socket is closed; its session ends unless a newer socket carries it."""
        self.connections.pop(connection.number, None)
        session = connection.session
        if session is not None and self.by_id.get(session.session_id) is connection:
            del self.by_id[session.session_id]
        self._front_door.closed(connection.number)

    def _check_user_at(
        self, address: str, token: str, done: Callable[[UserIdentity | errors.TinyvexError], None]
    ) -> None:
        """Verify a user's token that a client at this address sent; a refusal is recorded."""

        def checked(outcome: UserIdentity | errors.TinyvexError) -> None:
            if isinstance(outcome, errors.Unauthenticated):
                self._front_door.user_refused(address, outcome.message)
            done(outcome)

        self._check_user(token, checked)

    def relieve_memory(self) -> None:
        """Close clients now, because unread answers take too much memory together; one callback may answer many."""
        if self._relieving:
            return
        self._relieving = True
        try:
            self.unread.relieve(self.runtime.awake_seconds())
        finally:
            self._relieving = False

    def find_refusal(self, host_headers: list[str], origin_headers: list[str]) -> tuple[HTTPStatus, str] | None:
        """Return the status and reason if an upgrade with these headers is refused; None if it is allowed."""
        return self._front_door.find_refusal(host_headers, origin_headers)

    def log_refusal(self, sentence: str) -> None:
        """Log why an upgrade was refused."""
        self._front_door.log_refusal(sentence)

    def run_action(self, action: Callable[[], Awaitable[object]]) -> None:
        """Run a coroutine function that outlives the connection that requested it."""
        self._tasks.start_for_client(action)

    def open_session(self, connection: Connection, command: OpenSession, peer: Peer) -> SessionOpened:
        """
        Open the session of a connection; an older connection of the same session is closed.

        Raises:
            Unauthenticated: the token is missing or wrong.
            ObservedTsAhead: the client has seen commits that this database does not contain.
        """
        live, store = self._live, self._live.executor.store

        def confirm() -> None:
            if command.observed_epoch == store.epoch and command.max_observed_ts > store.last_ts:
                raise errors.ObservedTsAhead(
                    f"the client has seen ts {command.max_observed_ts}, this database's last is {store.last_ts}"
                )

        is_admin, issued_token = self._front_door.admit(connection, command.token, connection.authorization, confirm)
        older = self.by_id.get(command.session_id)
        if older is not None:
            older.fail(errors.SessionReplaced("a newer socket connected with the same session id"))
        self.by_id[command.session_id] = connection
        session = SyncSession(
            peer=peer,
            live=live,
            executor=live.executor,
            counters=self.counters,
            runtime=self.runtime,
            session_id=command.session_id,
            is_admin=is_admin,
            takes_patches=command.takes_patches,
            credentials=Credentials(
                partial(self._front_door.is_admin, connection.address), partial(self._check_user_at, connection.address)
            ),
        )
        return SessionOpened(
            session=session,
            database_id=store.database_id,
            epoch=store.epoch,
            last_ts=live.published,
            now_us=self.runtime.now_us(),
            token=issued_token,
        )
