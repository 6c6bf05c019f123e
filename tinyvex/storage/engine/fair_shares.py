"""
Start-time fair queueing: clients share a thread, or a few, by measured run time. (pure)

Each client has a queue of its own and an account of the run time that it has used, divided by its share. The next piece of
work is the oldest one of the client that will have used the least when it has run: a piece is expected to take as long as
its client's last one, the first piece of a client FAIR_FIRST_COST_SECONDS. A client that was idle starts with an average
account, so that it neither waits for others' past nor saves up time::

    push ──► the client's queue ──┐
                                  ├── least used first ──► take ──► run ──► charge(client, seconds)
    push ──► another's queue ─────┘

However much one client queues, another one's first piece of work waits only for the pieces that are running.
The pieces of one client run in the order in which they were pushed.

Work without a client belongs to `SYSTEM`, which has the share of several clients. Work of `URGENT` runs next.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Generic, Protocol, TypeVar

from tinyvex.limits import FAIR_COST_SECONDS_MIN, FAIR_FIRST_COST_SECONDS, SYSTEM_SHARE

__all__ = ["SYSTEM", "URGENT", "FairShares", "Work"]

SYSTEM = ""
"""The client of work that no connection requested."""

URGENT = "urgent"
"""
The client of work that precedes all other and is never charged. A session id is longer, so no connection can claim it.

Only one piece of it may wait at a time, pushed when the last one has run, so that the others run in between.
"""

SWEPT_AT_MIN = 64


class Work(Protocol):
    """A piece of work; `client` pays for it."""

    client: str


T = TypeVar("T", bound=Work)


class _Account(Generic[T]):
    """
    A client's queue and its use.

    Attributes:
        used: seconds of run time, divided by the client's share.
        last_cost: what its last piece added to `used`.
        running: pieces taken and not finished; counted only if there is a bound.
        listed: whether `FairShares._turns` has an entry.
    """

    __slots__ = ("last_cost", "listed", "running", "share", "used", "waiting")

    def __init__(self, share: float, used: float) -> None:
        self.share = share
        self.used = used
        self.last_cost = FAIR_FIRST_COST_SECONDS / share
        self.waiting: deque[T] = deque()
        self.running = 0
        self.listed = False


class FairShares(Generic[T]):
    """
    The queues of all clients.

    Args:
        running_max: pieces of one client that may run concurrently; None for no bound. `SYSTEM` has none.

    Attributes:
        waiting: the number of pieces in all queues.
    """

    def __init__(self, running_max: int | None = None) -> None:
        self.waiting = 0
        self._running_max = running_max
        self._accounts: dict[str, _Account[T]] = {}
        # (`used` and `last_cost` when listed, number, account) of clients that may be served; `used` may have grown.
        self._turns: list[tuple[float, int, _Account[T]]] = []
        self._number = 0
        self._now = 0.0  # the account with which a client starts; grows by what each waiting client gets on average
        self._latest = 0.0  # the largest account
        self._sweep_at = SWEPT_AT_MIN

    def push(self, work: T) -> None:
        """Queue a piece of work behind its client's others."""
        if not self.waiting:
            self._now = self._latest  # an idle queue keeps no debts
        account = self._accounts.get(work.client) or self._open_account(work.client)
        if not account.waiting and account.used < self._now and work.client != URGENT:
            account.used = self._now
        account.waiting.append(work)
        self.waiting += 1
        self._list(work.client, account)

    def put_back(self, work: T) -> None:
        """Queue a piece that was taken before its client's others, because it must run again."""
        account = self._accounts.get(work.client) or self._open_account(work.client)
        account.waiting.appendleft(work)
        self.waiting += 1
        self._list(work.client, account)

    def is_ready(self) -> bool:
        """Return whether `take` may have a piece; not if all that wait belong to clients at their bound."""
        return bool(self._turns)

    def take(self) -> T:
        """
        Remove and return the next piece.

        Raises:
            IndexError: no client may be served.
        """
        while True:
            key, _, account = heappop(self._turns)
            account.listed = False
            if not account.waiting:
                continue  # evicted
            client = account.waiting[0].client
            if key < account.used + account.last_cost and self._turns:  # it may not be first any more
                self._list(client, account)
                continue
            self._now = max(self._now, account.used)
            self.waiting -= 1
            work = account.waiting.popleft()
            if self._running_max is not None:
                account.running += 1
            self._list(client, account)
            return work

    def charge(self, client: str, seconds: float) -> None:
        """Charge a client for a piece that has run."""
        account = self._accounts.get(client) or self._open_account(client)
        cost = max(FAIR_COST_SECONDS_MIN, seconds) / account.share
        account.last_cost = cost
        account.used += cost
        self._now += cost / (len(self._turns) + 1)  # otherwise ever new clients could starve a waiting one
        self._latest = max(self._latest, account.used)
        if account.running:
            account.running -= 1
            self._list(client, account)

    def turn_of(self, client: str) -> float:
        """Return a number that is lower the sooner a further piece of the client would run."""
        account = self._accounts.get(client)
        if account is None:
            return self._now + FAIR_FIRST_COST_SECONDS
        return max(account.used, self._now) + (len(account.waiting) + 1) * account.last_cost

    def move(self, work: T, client: str) -> bool:
        """Move a waiting piece to the end of another client's queue if it runs sooner there; return whether it moved."""
        account = self._accounts.get(work.client)
        if account is None or work.client == client or work not in account.waiting:
            return False
        before = account.waiting.index(work)
        if self.turn_of(client) >= max(account.used, self._now) + (before + 1) * account.last_cost:
            return False
        account.waiting.remove(work)
        self.waiting -= 1
        work.client = client
        self.push(work)
        return True

    def withdraw(self, client: str, chosen: Callable[[T], bool]) -> list[T]:
        """Remove and return those pieces of a client that wait and are chosen, in order."""
        account = self._accounts.get(client)
        if account is None:
            return []
        works = [work for work in account.waiting if chosen(work)]
        account.waiting = deque([work for work in account.waiting if not chosen(work)])
        self.waiting -= len(works)
        return works

    def evict(self, newcomer: str, more_than: int = 0) -> T | None:
        """
        Remove and return the newest piece of the client with the most pieces for its share.

        Returns:
            None if no client has more than the newcomer, or none has more than `more_than`.
        """
        heaviest = max(self._accounts.values(), key=_weight, default=None)
        own = self._accounts.get(newcomer)
        if heaviest is None or _weight(heaviest) <= max(more_than, 0.0 if own is None else _weight(own)):
            return None
        self.waiting -= 1
        return heaviest.waiting.pop()

    def drain(self) -> list[T]:
        """Remove and return everything that waits."""
        works = [work for account in self._accounts.values() for work in account.waiting]
        for account in self._accounts.values():
            account.waiting.clear()
            account.listed = False
        self._turns.clear()
        self.waiting = 0
        return works

    def _open_account(self, client: str) -> _Account[T]:
        if len(self._accounts) >= self._sweep_at:
            self._sweep()
        if client == URGENT:
            account: _Account[T] = _Account(math.inf, -math.inf)
        else:
            account = _Account(SYSTEM_SHARE if client == SYSTEM else 1.0, self._now)
        self._accounts[client] = account
        return account

    def _sweep(self) -> None:
        """Discard the accounts of idle clients that a new one would equal."""
        self._accounts = {
            client: account
            for client, account in self._accounts.items()
            if account.waiting or account.running or account.listed or account.used > self._now
        }
        self._sweep_at = SWEPT_AT_MIN + 2 * len(self._accounts)

    def _list(self, client: str, account: _Account[T]) -> None:
        """Give a client a turn if it has none and may be served."""
        if account.listed or not account.waiting:
            return
        if self._running_max is not None and account.running >= self._running_max and client != SYSTEM:
            return
        account.listed = True
        self._number += 1
        heappush(self._turns, (account.used + account.last_cost, self._number, account))


def _weight(account: _Account[T]) -> float:
    return len(account.waiting) / account.share
