"""
Admission of reads with large results, so that results do not pile up in memory faster than they leave it.

Three rules, all applied before a read runs, because only the reads themselves are small:

1.  *A client has one large result at a time* between a reader and the event loop. Its next read runs when that one is
    delivered.
2.  *All clients together* have at most UNDELIVERED_BYTES_MAX of large results there (`UndeliveredResults`). Above it no read
    starts. A result that exceeds the bound alone is delivered like any other, because the bound stops reads and never a
    delivery.
3.  *A client that does not read its answers* has no further one-shot queries run until it reads (`HeldReads`). They keep
    their order.

Delivered results belong to the connection: `server/transport/slow_clients.py` has their bounds.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from tinyvex import limits
from tinyvex.storage.engine.fair_shares import Work

__all__ = ["HeldReads", "UndeliveredResults"]

T = TypeVar("T", bound=Work)


class UndeliveredResults:
    """
    The bytes of large results that readers have computed and the loop has not delivered; thread-safe.

    Attributes:
        bytes: their sum.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Return whether no read may start."""
        return self.bytes > limits.UNDELIVERED_BYTES_MAX

    def add(self, size: int) -> None:
        """Count a result that was computed."""
        with self._lock:
            self.bytes += size

    def remove(self, size: int) -> None:
        """Stop counting a result that was delivered."""
        with self._lock:
            self.bytes -= size


class HeldReads(Generic[T]):
    """The reads of clients that do not read their answers; used on the loop."""

    def __init__(self) -> None:
        self._by_client: dict[str, deque[T]] = {}

    def hold(self, client: str, waiting: Iterable[T]) -> None:
        """Hold this client's reads from now on, those that wait already before others."""
        self._by_client.setdefault(client, deque()).extend(waiting)

    def add(self, read: T) -> bool:
        """Hold a new read if its client's reads are held; return whether they are."""
        held = self._by_client.get(read.client)
        if held is None:
            return False
        held.append(read)
        return True

    def release(self, client: str) -> Iterable[T]:
        """Stop holding this client's reads, and return them in order."""
        return self._by_client.pop(client, ())

    def most(self) -> int:
        """Return the largest number of reads held for one client."""
        return max(map(len, self._by_client.values()), default=0)

    def evict(self, newcomer: str) -> T | None:
        """Remove and return the newest read of the client with the most; None if none has more than the newcomer."""
        heaviest = max(self._by_client.values(), key=len, default=None)
        if not heaviest or len(heaviest) <= len(self._by_client.get(newcomer, ())):
            return None
        return heaviest.pop()
