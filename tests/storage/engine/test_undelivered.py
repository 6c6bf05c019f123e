"""Admission of reads with large results: their order, and the memory that they may take."""

import asyncio
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.world import WorldRuntime
from tinyvex import errors, limits
from tinyvex.storage.engine.store import Store
from tinyvex.storage.engine.undelivered import HeldReads

LARGE = 100
BOUND = 250
CLIENTS = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyvex.storage.engine.readers.LARGE_RESULT_BYTES", LARGE)
    monkeypatch.setattr(limits, "UNDELIVERED_BYTES_MAX", BOUND)


class Reads:
    """Reads whose value is their size, and what was observed when each of them started."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.pending: list[asyncio.Future[Any]] = []
        self.running: Counter[str] = Counter()
        self.undelivered: dict[str, int] = defaultdict(int)
        self.most = 0
        self.order: dict[str, list[int]] = defaultdict(list)

    def submit(self, client: str, size: int, *, can_wait: bool = False) -> asyncio.Future[Any]:
        number = len(self.pending)
        done = asyncio.get_running_loop().create_future()
        self.pending.append(done)

        def run(_: object) -> int:
            assert self.undelivered[client] == 0, "its client has a large result that is not delivered"
            assert sum(self.undelivered.values()) <= BOUND, "a read started above the bound"
            self.order[client].append(number)
            if size >= LARGE:
                self.undelivered[client] += size
                self.most = max(self.most, sum(self.undelivered.values()))
            return size

        def answered(value: int | None, error: BaseException | None) -> None:
            if value is not None and value >= LARGE:
                self.undelivered[client] -= value
            if error is None:
                done.set_result(value)
            else:
                done.set_exception(error)

        self.store.read_nowait(run, answered, client=client, measure=lambda value: value, can_wait=can_wait)
        return done


@pytest.mark.parametrize("seed", range(25))
def test_results_are_admitted_before_they_are_computed(tmp_path: Path, seed: int) -> None:
    """
    In every order of events, all reads are answered, one result larger than the bound among them.

    No read starts above the bound, a client has one large result at a time, and its reads keep their order.
    """
    source = random.Random(seed)

    async def main() -> None:
        runtime = WorldRuntime(Network(source), source)
        runtime.bind(asyncio.get_running_loop())
        store = Store.open(tmp_path, runtime)
        reads = Reads(store)
        submitted = defaultdict(list)
        for number in range(60):
            client = source.choice(CLIENTS)
            submitted[client].append(number)
            reads.submit(client, source.choice((1, LARGE, 2 * LARGE, 3 * BOUND)))
            if source.random() < 0.3:
                await asyncio.sleep(source.random() / 50)
        await asyncio.gather(*reads.pending)
        assert reads.order == submitted
        assert reads.most <= BOUND + limits.READER_THREADS * 3 * BOUND
        assert store._readers.undelivered.bytes == 0
        await store.close()

    run_virtual(main())


@pytest.mark.parametrize("seed", range(10))
def test_reads_of_a_client_that_does_not_read_wait(tmp_path: Path, seed: int) -> None:
    """Those that can wait run after `release_reads`, in order; its other reads and other clients are not affected."""
    source = random.Random(seed)

    async def main() -> None:
        runtime = WorldRuntime(Network(source), source)
        runtime.bind(asyncio.get_running_loop())
        store = Store.open(tmp_path, runtime)
        reads = Reads(store)
        waiting = [reads.submit("slow", 1, can_wait=True) for _ in range(3)]
        store.hold_reads("slow")
        waiting += [reads.submit("slow", 1, can_wait=True) for _ in range(3)]
        await asyncio.gather(reads.submit("slow", 1), reads.submit("good", 1, can_wait=True))
        started = len(reads.order["slow"])
        assert started <= 1 + limits.READER_THREADS
        store.release_reads("slow")
        await asyncio.gather(*waiting)
        assert [number for number in reads.order["slow"] if number < len(waiting)] == list(range(len(waiting)))
        await store.close()

    run_virtual(main())


def test_held_reads_count_for_the_queues_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound, the newest read of the client with the most is refused, held or not."""
    monkeypatch.setattr("tinyvex.storage.engine.readers.READER_QUEUE_MAX", 3)

    async def main() -> None:
        source = random.Random(0)
        runtime = WorldRuntime(Network(source), source)
        runtime.bind(asyncio.get_running_loop())
        store = Store.open(tmp_path, runtime)
        reads = Reads(store)
        store.hold_reads("slow")
        held = [reads.submit("slow", 1, can_wait=True) for _ in range(3)]
        assert await reads.submit("good", 1) == 1
        with pytest.raises(errors.Overloaded):
            await held.pop()
        store.release_reads("slow")
        assert await asyncio.gather(*held) == [1, 1]
        await store.close()

    run_virtual(main())


class Held:
    """A read of a client."""

    def __init__(self, client: str) -> None:
        self.client = client


def test_the_client_with_the_most_held_reads_evicts_no_other() -> None:
    """Its own newest read is the one that is refused."""
    held: HeldReads[Held] = HeldReads()
    held.hold("most", [Held("most"), Held("most")])
    held.hold("less", [Held("less")])
    assert held.evict("most") is None
    newest = held.evict("less")
    assert newest is not None
    assert newest.client == "most"
