"""
The memory of live queries: bounded, evicted oldest first, and never taken from a result that a subscriber waits for.
"""

import pytest

from tinyvex import limits
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


def computed(memory: ResultCache, name: str, size: int = 40_000, *, held: bool = True) -> LiveQuery:
    """A live query with one subscriber and a result of about that size, which the subscriber holds or waits for."""
    live = LiveQuery(LiveQueryKey(name, b"{}", False, None), Call(name, b"{}"))
    live.subscribers[object()] = 1  # type: ignore[index]
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
