"""
The queue between the loop and the threads that work for it; shared fairly, and thread-safe.

`fair_shares.py` decides the order. The lock is held for about a microsecond.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic

from tinyvex.storage.engine.fair_shares import FairShares, T

__all__ = ["WorkQueue"]


class WorkQueue(Generic[T]):
    """
    `FairShares` behind a lock; see there.

    Args:
        running_max: pieces of one client that may run concurrently; None for no bound.
    """

    def __init__(self, running_max: int | None = None) -> None:
        self._shares: FairShares[T] = FairShares(running_max)
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return self._shares.is_ready()

    def push(self, work: T) -> None:
        """Queue a piece of work behind its client's others."""
        with self._lock:
            self._shares.push(work)

    def put_back(self, work: T) -> None:
        """Queue a piece that was taken before its client's others, because it must run again."""
        with self._lock:
            self._shares.put_back(work)

    def popleft(self) -> T:
        """
        Remove and return the next piece.

        Raises:
            IndexError: no client may be served.
        """
        with self._lock:
            return self._shares.take()

    def charge(self, client: str, seconds: float) -> None:
        """Charge a client for a piece that has run."""
        with self._lock:
            self._shares.charge(client, seconds)

    def turn_of(self, client: str) -> float:
        """Return a number that is lower the sooner a further piece of the client would run."""
        with self._lock:
            return self._shares.turn_of(client)

    def move(self, work: T, client: str) -> bool:
        """Move a waiting piece to the end of another client's queue if it runs sooner there; return whether it moved."""
        with self._lock:
            return self._shares.move(work, client)

    def withdraw(self, client: str, chosen: Callable[[T], bool]) -> list[T]:
        """Remove and return those pieces of a client that wait and are chosen, in order."""
        with self._lock:
            return self._shares.withdraw(client, chosen)

    def evict(self, newcomer: str, more_than: int = 0) -> T | None:
        """Remove and return the newest piece of the client with the most; None if none has more than the newcomer."""
        with self._lock:
            return self._shares.evict(newcomer, more_than)

    def drain(self) -> list[T]:
        """Remove and return everything that waits."""
        with self._lock:
            return self._shares.drain()
