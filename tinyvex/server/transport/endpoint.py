"""The server's end of one socket, whatever it speaks."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyvex.errors import TinyvexError
    from tinyvex.server.access.pairing import PairedToken

__all__ = ["Endpoint"]


class Endpoint(asyncio.Protocol):
    """
    An asyncio protocol that the server can address.

    Attributes:
        number: the connection's number, as in log records.
        address: the client's IP address; empty if it has none.
        socket: the transport of its socket, below TLS; None before it is open.
        paired: the token from a pairing that admitted the client, if it was one: it can be revoked.
    """

    number: int
    address: str = ""
    socket: asyncio.Transport | None = None
    paired: PairedToken | None = None

    @abstractmethod
    def tick(self, now: float, *, heartbeat: bool) -> None:
        """
        Enforce deadlines; called once a second.

        Args:
            now: the time by `Runtime.awake_seconds`.
            heartbeat: whether a ping is due, which is every HEARTBEAT_SECONDS.
        """

    @abstractmethod
    def fail(self, error: TinyvexError) -> None:
        """Send the error, if the protocol has a place for it, then close; at most once."""

    @abstractmethod
    def abort(self) -> None:
        """Close without another byte."""
