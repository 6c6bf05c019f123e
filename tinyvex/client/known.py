"""What a client knows of its server without asking."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyvex.client.state import ClientState
    from tinyvex.client.verification import Counters

__all__ = ["Known"]


class Known:
    """The part of `Client` that only looks."""

    _session: ClientState

    @property
    def epoch(self) -> str | None:
        """Which history of the database the results belong to; another one after a restore, None before connecting."""
        return self._session.epoch

    @property
    def counters(self) -> Counters:
        """What has been received, and how: whole, as patches, in parts."""
        return self._session.counters

    @property
    def token(self) -> str | None:
        """What it connects with. After `pairing:CODE` that is the token it was given: keep it for the next time."""
        return self._session.token
