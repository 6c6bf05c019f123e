"""The requests of one connection that wait for an answer: how many there may be, and what they may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvex import limits
from tinyvex.errors import Overloaded, TooManyRequests

if TYPE_CHECKING:
    from tinyvex.sync.counters import Counters

__all__ = ["InFlight"]


class InFlight:
    """
    Counts them.

    Long arguments and actions are counted for the whole server:
    what was asked for goes on when its connection has ended, and the same client may be back to ask for more.

    Attributes:
        count: how many of this connection there are.
    """

    __slots__ = ("_counters", "count")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.count = 0

    def open(self, args: bytes, *, action: bool = False) -> None:
        """
        One more, unless that is too much.

        Raises:
            TooManyRequests: of this connection.
            Overloaded: of all.
        """
        counters, long_bytes = self._counters, _long_bytes(args)
        if self.count >= limits.REQUESTS_PER_CONNECTION_MAX:
            raise TooManyRequests(
                f"{self.count} requests wait for an answer; the limit is {limits.REQUESTS_PER_CONNECTION_MAX}"
            )
        if long_bytes and counters.long_arguments_bytes + long_bytes > limits.LONG_ARGUMENTS_BYTES_MAX:
            raise Overloaded(
                f"{counters.long_arguments_bytes:,} bytes of long arguments wait, and there is room for few more"
            )
        if action and counters.actions_running >= limits.ACTIONS_MAX:
            raise Overloaded(f"{counters.actions_running} actions run, which is the limit")
        self.count += 1
        counters.long_arguments_bytes += long_bytes
        counters.actions_running += action

    def close(self, args: bytes, *, action: bool = False) -> None:
        """One was answered, or could not be begun."""
        self.count -= 1
        self._counters.long_arguments_bytes -= _long_bytes(args)
        self._counters.actions_running -= action


def _long_bytes(args: bytes) -> int:
    size = len(args)
    return size if size > limits.LONG_ARGUMENTS_BYTES else 0
