"""
Wrong pairing codes, by the network that sent them: after a few, it has to wait between two.

A pairing stays open whatever strangers send. They need not be stopped by closing it: a code has 40 bits, so a
million attempts in its lifetime find it with a probability of one in a million.
"""

from __future__ import annotations

from collections.abc import Callable

from tinyvex import limits
from tinyvex.server.access.peer_address import network_of

__all__ = ["CodeAttempts"]


class CodeAttempts:
    """
    The wrong attempts on one code.

    Above PAIRING_NETWORKS_MAX networks, the one that was counted first is evicted, which gives it a few more attempts.

    Args:
        now_us: the clock, in microseconds since the epoch.
    """

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._digest = ""
        self._failures: dict[str, tuple[int, int]] = {}  # number and time of the last one, by network

    def seconds_to_wait(self, digest: str, address: str) -> float:
        """Return the seconds until an address may try a code; 0.0 if it may now. A new code starts new counts."""
        if digest != self._digest:
            self._digest = digest
            self._failures.clear()
        count, last_us = self._failures.get(network_of(address), (0, 0))
        if count < limits.PAIRING_TRIES_MAX:
            return 0.0
        # A clock that was set back must not lengthen the wait.
        elapsed = max(self._now_us() - last_us, 0) / 1e6
        return max(limits.PAIRING_PAUSE_SECONDS - elapsed, 0.0)

    def failed(self, address: str) -> int:
        """Count a wrong code of an address; return how many its network has sent."""
        network = network_of(address)
        count = self._failures.get(network, (0, 0))[0] + 1
        self._failures[network] = (count, self._now_us())
        if len(self._failures) > limits.PAIRING_NETWORKS_MAX:
            del self._failures[next(iter(self._failures))]
        return count
