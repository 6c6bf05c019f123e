"""
The memory of live queries: bounded, evicted oldest first, and never taken from a result that a subscriber waits for.
"""

import pytest

from tinyvex import errors, limits
from tinyvex.functions.result.chunked_rows import ChunkedRows
from tinyvex.functions.result.result_body import Body, RowsPart
from tinyvex.functions.run.call import Call, QueryOutcome
from tinyvex.functions.transaction.range_cache import CachedRanges, Scan
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.storage.log.revisions import StoredDocument
from tinyvex.sync.counters import Counters
from tinyvex.sync.live_query import LiveQuery, LiveQueryKey
from tinyvex.sync.result_cache import ResultCache
from tinyvex.sync.results import Result, Version

SCAN = Scan(7, b"", b"z", reverse=False, limit=None)


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESULT_CACHE_BYTES_MAX", 100_000)


class Client:
    """A subscriber that holds every result, or waits for all of them; when it is closed, it unsubscribes."""

    session_id = "client"

    def __init__(self, memory: ResultCache, *, waits: bool) -> None:
        self.memory = memory
        self.waits = waits
        self.live: list[LiveQuery] = []
        self.error: errors.TinyvexError | None = None

    def invalidated(self, live: LiveQuery) -> bool:
        raise NotImplementedError

    def computed(self, live: LiveQuery, changed: bool) -> None:
        raise NotImplementedError

    def awaits(self, live: LiveQuery) -> bool:
        return self.waits

    def fail(self, error: errors.TinyvexError) -> None:
        self.error = error
        for live in self.live:
            del live.subscribers[self]
            if not live.subscribers:
                self.memory.discard(live)


def computed(
    memory: ResultCache, name: str, size: int = 40_000, *, held: bool = True, clients: tuple[Client, ...] = ()
) -> LiveQuery:
    """A live query with a result of about that size, which its subscriber holds or waits for; or with these subscribers."""
    live = LiveQuery(LiveQueryKey(name, b"{}", False, None), Call(name, b"{}"))
    for client in clients or (Client(memory, waits=not held),):
        live.subscribers[client] = 1
        client.live.append(live)
    row = StoredDocument(b"k", b"\1" * 16, 1, b'"%s%s"' % (name.encode(), b"x" * size))
    rows = ChunkedRows.of([row])
    made = Body([RowsPart(rows, 7, reverse=False)])
    outcome = QueryOutcome(5, made, None, ReadSet())
    version = Version(outcome.hash, made)
    live.result = Result.of(outcome, None, version, "q1")
    live.versions[version.hash] = version
    live.cached_ranges = CachedRanges(5, {SCAN: rows})
    if held:
        live.hold(version)
    memory.update(live)
    return live


def test_a_range_that_is_the_result_is_weighed_once() -> None:
    """The range and the result share their rows."""
    counters = Counters()
    computed(ResultCache(counters), "a")
    assert 40_000 < counters.cached_bytes < 45_000


def test_the_one_computed_longest_ago_is_evicted_first() -> None:
    """Its ranges and its body are evicted; the others are not."""
    counters = Counters()
    memory = ResultCache(counters)
    first, second, third = (computed(memory, name) for name in "abc")
    assert first.cached_ranges is None
    assert first.result is not None
    assert not first.result.is_sendable(None)
    assert all(live.cached_ranges is not None for live in (second, third))
    assert counters.results_evicted == 1
    assert counters.cached_bytes <= 100_000


def test_one_computed_again_is_evicted_last() -> None:
    """A live query in use is not evicted."""
    memory = ResultCache(Counters())
    first, second = (computed(memory, name) for name in "ab")
    memory.update(first)
    computed(memory, "c")
    assert first.cached_ranges is not None
    assert second.cached_ranges is None


def test_a_result_with_waiting_subscribers_is_not_evicted() -> None:
    """Evicting it would trigger an immediate recomputation."""
    memory = ResultCache(Counters())
    waited = computed(memory, "a", held=False)
    for name in "bc":
        computed(memory, name)
    assert waited.result is not None
    assert waited.result.is_sendable(None)


def test_a_discarded_query_weighs_nothing() -> None:
    """Without a subscriber, it uses no memory."""
    counters = Counters()
    memory = ResultCache(counters)
    live = computed(memory, "a")
    memory.discard(live)
    memory.discard(live)
    assert counters.cached_bytes == 0


@pytest.fixture
def awaited_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let results that wait to be sent take 150,000 bytes."""
    monkeypatch.setattr(limits, "AWAITED_BYTES_MAX", 150_000)


@pytest.mark.usefixtures("awaited_bound")
def test_the_client_that_waits_for_the_most_is_closed_until_the_rest_fits() -> None:
    """Each client is within its own bound, but all of them together would fill the memory."""
    counters = Counters()
    memory = ResultCache(counters)
    clients = [Client(memory, waits=True) for _ in range(4)]
    for name, client, size in zip("abcd", clients, (40_000, 70_000, 50_000, 20_000), strict=True):
        computed(memory, name, size, held=False, clients=(client,))
    memory.relieve()
    assert [type(client.error) for client in clients] == [type(None), errors.Overloaded, type(None), type(None)]
    assert counters.cached_bytes <= 150_000


@pytest.mark.usefixtures("awaited_bound")
def test_clients_that_share_a_result_share_its_weight() -> None:
    """A result that only one client waits for goes first, even if the shared one is longer."""
    memory = ResultCache(Counters())
    sharing, alone = [Client(memory, waits=True) for _ in range(2)], Client(memory, waits=True)
    computed(memory, "a", 90_000, held=False, clients=tuple(sharing))
    computed(memory, "b", 70_000, held=False, clients=(alone,))
    memory.relieve()
    assert alone.error is not None
    assert [client.error for client in sharing] == [None, None]


@pytest.mark.usefixtures("awaited_bound")
def test_results_that_were_sent_are_evicted_before_a_client_is_closed() -> None:
    """They only save work."""
    memory = ResultCache(Counters())
    client = Client(memory, waits=True)
    computed(memory, "a", 90_000, held=False, clients=(client,))
    sent = computed(memory, "b", 90_000)
    memory.relieve()
    assert client.error is None
    assert sent.cached_ranges is None
