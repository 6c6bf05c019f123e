"""What a client knows without asking its server, how its connection is among it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from tinyvex.client.connection import ConnectionState
from tinyvex.client.events import fresh

if TYPE_CHECKING:
    from tinyvex.client.connection import Connection
    from tinyvex.client.patch_verification import PatchCounters
    from tinyvex.client.state import ClientState

__all__ = ["Known"]


class Known:
    """The part of `Client` that only looks, and waits for what it sees to change."""

    _session: ClientState

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._state_waiters: list[asyncio.Future[None]] = []

    @property
    def epoch(self) -> str | None:
        """Which history of the database the results belong to; another one after a restore, None before connecting."""
        return self._session.epoch

    @property
    def counters(self) -> PatchCounters:
        """What has been received, and how: whole, as patches, in parts."""
        return self._session.counters

    @property
    def token(self) -> str | None:
        """What it connects with. After `pairing:CODE` that is the token it was given: keep it for the next time."""
        return self._session.token

    @property
    def connection_state(self) -> ConnectionState:
        """How the connection is, now."""
        state = ConnectionState("connecting") if self._connection is None else self._connection.state
        error = self._session.error
        if error is not None:
            return dataclasses.replace(state, phase="closed", last_error=error)
        failure = self._session.identity.failure
        return state if failure is None else dataclasses.replace(state, auth_error=failure)

    async def connection_states(self) -> AsyncIterator[ConnectionState]:
        """How the connection is, now and after every change; ends when the client is closed. Changes are coalesced."""
        told: ConnectionState | None = None
        while True:
            state = self.connection_state
            if state != told:
                told = state
                yield state
            if state.phase == "closed":
                return
            if state == self.connection_state:
                await self._wait_for_change()

    async def wait_connected(self) -> None:
        """
        Wait until the client is connected.

        Raises:
            TinyvexError: it is closed for good.
        """
        while self.connection_state.phase != "connected":
            if self._session.error is not None:
                raise fresh(self._session.error)
            await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._state_waiters.append(waiter)
        try:
            await waiter
        finally:
            self._state_waiters.remove(waiter)

    def _state_changed(self) -> None:
        for waiter in self._state_waiters:
            if not waiter.done():
                waiter.set_result(None)
