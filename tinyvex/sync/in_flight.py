"""The unanswered requests of one connection, and their bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvex import limits
from tinyvex.errors import Overloaded, TooManyRequests

if TYPE_CHECKING:
    from tinyvex.sync.counters import Counters

__all__ = ["InFlight"]


class InFlight:
    """
    Count unanswered requests.

    Long arguments and actions are counted for the whole server, because they outlive their connection: a client could
    otherwise exceed every bound by reconnecting.

    Attributes:
        count: the unanswered requests of this connection.
    """

    __slots__ = ("_counters", "count")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.count = 0

    def open(self, args: bytes, *, action: bool = False) -> None:
        """
        Count one more request.

        Raises:
            TooManyRequests: this connection has too many.
            Overloaded: all connections together have too many long arguments or actions.
        """
        counters, long_bytes = self._counters, _long_bytes(args)
        if self.count >= limits.REQUESTS_PER_CONNECTION_MAX:
            raise TooManyRequests(
                f"{self.count} requests are unanswered; the limit is {limits.REQUESTS_PER_CONNECTION_MAX}"
            )
        if long_bytes and counters.long_arguments_bytes + long_bytes > limits.LONG_ARGUMENTS_BYTES_MAX:
            raise Overloaded(
                f"calls with {counters.long_arguments_bytes:,} bytes of long arguments are unanswered; "
                f"the limit is {limits.LONG_ARGUMENTS_BYTES_MAX:,}"
            )
        if action and counters.actions_running >= limits.ACTIONS_MAX:
            raise Overloaded(f"{counters.actions_running} actions are running; the limit is {limits.ACTIONS_MAX}")
        self.count += 1
        counters.long_arguments_bytes += long_bytes
        counters.actions_running += action

    def close(self, args: bytes, *, action: bool = False) -> None:
        """Count one request less: it was answered or could not be started."""
        self.count -= 1
        self._counters.long_arguments_bytes -= _long_bytes(args)
        self._counters.actions_running -= action


def _long_bytes(args: bytes) -> int:
    size = len(args)
    return size if size > limits.LONG_ARGUMENTS_BYTES else 0
