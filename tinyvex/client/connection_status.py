"""The status of a client's connection: its current state, and the callers that wait for it to change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from tinyvex.client.client_loop import Waiters
from tinyvex.client.error_copy import copy_error
from tinyvex.errors import ConnectionLost

if TYPE_CHECKING:
    from tinyvex.client.state import ClientState
    from tinyvex.errors import TinyvexError

__all__ = ["ConnectionPhase", "ConnectionState", "ConnectionStatus"]

ConnectionPhase: TypeAlias = Literal["connecting", "connected", "disconnected", "closed"]


class ConnectionState(Struct, frozen=True):
    """
    The state of a connection.

    Attributes:
        phase: `connecting` (dialling, or waiting for the first answer), `connected`,
            `disconnected` (waiting before the next attempt) or `closed` (will not reconnect).
        retries: attempts since a connection last caught up; 0 once this one has.
        last_error: why the last connection ended, or why the client is closed; None before anything failed, and once
            a connection has caught up.
        auth_error: why the client has no user, or is about to lose it, although it has an `auth` callable.
    """

    phase: ConnectionPhase
    retries: int = 0
    last_error: TinyvexError | None = None
    auth_error: TinyvexError | None = None


class ConnectionStatus:
    """
    The status of one client.

    Args:
        session: its errors are part of the state.
    """

    def __init__(self, session: ClientState) -> None:
        self._session = session
        self._socket = ConnectionState("connecting")
        self._waiters = Waiters()

    @property
    def socket(self) -> ConnectionState:
        """The last state set by `change`, without the errors of the session."""
        return self._socket

    @property
    def state(self) -> ConnectionState:
        """The current state."""
        error = self._session.error
        if error is not None:
            return replace(self._socket, phase="closed", last_error=error)
        failure = self._session.identity.failure
        return self._socket if failure is None else replace(self._socket, auth_error=failure)

    def change(self, phase: ConnectionPhase, retries: int, error: TinyvexError | None) -> None:
        """Set the state of the socket."""
        self._socket = ConnectionState(phase, retries, error)
        self.notify()

    def notify(self) -> None:
        """Wake the callers that wait for a change."""
        self._waiters.wake()

    async def states(self) -> AsyncIterator[ConnectionState]:
        """Yield the current state, then every new one; a slow caller skips states. Ends after `closed`."""
        last: ConnectionState | None = None
        while True:
            state = self.state
            if state != last:
                last = state
                yield state
            if state.phase == "closed":
                return
            if state == self.state:
                await self._waiters.wait()

    async def wait_connected(self, seconds: float | None) -> None:
        """
        Wait until the client is connected.

        Raises:
            ConnectionLost: no connection within `seconds`.
            TinyvexError: the client is closed.
        """
        try:
            async with asyncio.timeout(seconds):
                while self.state.phase != "connected":
                    if self._session.error is not None:
                        raise copy_error(self._session.error)
                    await self._waiters.wait()
        except TimeoutError:
            reason = self.state.last_error or "the server does not answer"
            raise ConnectionLost(f"no connection within {seconds:g} seconds: {reason}") from None
