"""The range cache: after any commits, its rows equal those of a plain scan, at the cost of what changed."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.storage import MemoryStore, insert, unit
from tests.support.values import encode_key
from tinyvex import limits
from tinyvex.functions.transaction.range_cache import CachedRanges, RangeCache
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN
from tinyvex.storage.log.revisions import StoredDocument

ROWS = 300


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    yield filled(ROWS)


def filled(count: int) -> MemoryStore:
    """Return a store with documents 0, 10, 20, … by `n`."""
    made = MemoryStore()
    made.declare({"items": {"by_n": ("n",)}})

    def fill(transaction: Transaction) -> None:
        for n in range(count):
            transaction.insert(transaction.catalog.table("items"), {"n": 10 * n})

    made.run(unit(fill))
    return made


class Range:
    """One scan whose rows are handed from one look to the next, compared with a plain scan each time."""

    def __init__(
        self, store: MemoryStore, lo: bytes = KEY_MIN, hi: bytes = KEY_MAX, *, limit: int | None = None,
        reverse: bool = False,
    ) -> None:  # fmt: skip
        self.store = store
        self.lo, self.hi, self.limit, self.reverse = lo, hi, limit, reverse
        self.cached: CachedRanges | None = None
        self.read = self.applied = 0

    def look(self) -> list[StoredDocument]:
        """Bring the range up to the newest state."""
        return self.store.look(self._look)

    def _look(self, snapshot: Snapshot) -> list[StoredDocument]:
        table = snapshot.catalog.table("items")
        index = table.index("by_n")
        plain, ours = transaction(snapshot), transaction(snapshot)
        expected = list(
            plain.scan(table, index, self.lo, self.hi, reverse=self.reverse, limit=self.limit)
        )  # fmt: skip
        cache = RangeCache(self.cached)
        part = cache.collect(ours, table, index, self.lo, self.hi, reverse=self.reverse, limit=self.limit)
        found = list(part.documents)
        assert found == expected
        assert dict(ours.reads.ranges()) == dict(plain.reads.ranges()), (
            "what was observed is what a plain scan observes"
        )
        part.rows.validate()
        self.cached = CachedRanges(snapshot.ts, cache.current)
        self.read, self.applied = ours.rows_read, cache.rows_applied
        return found


def transaction(snapshot: Snapshot) -> Transaction:
    return Transaction(snapshot, ts=snapshot.ts, writable=False, random=random.Random(0), reads=ReadSet())


def key(n: int) -> bytes:
    return encode_key([n])


def change(store: MemoryStore, place: int, fields: dict[str, object] | None) -> None:
    """Replace the fields of the document at a position of the index; None deletes it."""

    def work(transaction: Transaction) -> None:
        table = transaction.catalog.table("items")
        rows = list(transaction.scan(table, table.index("by_n"), KEY_MIN, KEY_MAX))
        transaction.put(table, rows[place % len(rows)].internal, fields)

    store.run(unit(work))


def test_the_first_look_reads_all(store: MemoryStore) -> None:
    """Nothing is cached yet."""
    items = Range(store)
    items.look()
    assert (items.read, items.applied) == (ROWS, 0)


def test_a_changed_row_is_applied_and_nothing_read(store: MemoryStore) -> None:
    """One row of many costs one row."""
    items = Range(store)
    items.look()
    change(store, 50, {"n": 500, "text": "new"})
    items.look()
    assert (items.read, items.applied) == (0, 1)


def test_commits_elsewhere_cost_nothing(store: MemoryStore) -> None:
    """A range that no commit touched returns the same rows object."""
    items = Range(store, key(0), key(100))
    items.look()
    assert items.cached is not None
    before = list(items.cached.ranges.values())
    change(store, 200, {"n": 2001})
    items.look()
    assert items.applied == 0
    assert items.cached is not None
    assert all(now is then for now, then in zip(items.cached.ranges.values(), before, strict=True))


def test_commits_known_not_to_touch_a_range_are_skipped(store: MemoryStore) -> None:
    """A live query knows the last commit that did not touch its ranges, so only later ones are examined."""
    items = Range(store)
    items.look()
    assert items.cached is not None
    first = items.cached
    change(store, 0, {"n": 1})
    items.look()
    items.cached = replace(first, ts=store.last_ts, ranges=items.cached.ranges)
    items.look()
    assert items.applied == 0


@pytest.mark.parametrize("reverse", [False, True], ids=["first", "last"])
def test_a_take_that_lost_a_row_reads_one(store: MemoryStore, reverse: bool) -> None:
    """The row that moves up is read; the others come from the cache."""
    items = Range(store, limit=100, reverse=reverse)
    items.look()
    change(store, -5 if reverse else 5, None)
    items.look()
    assert (items.read, items.applied) == (1, 1)


def test_a_take_that_gained_a_row_reads_none(store: MemoryStore) -> None:
    """The last row is dropped."""
    items = Range(store, limit=100)
    items.look()
    store.run(unit(insert({"n": 55})))
    items.look()
    assert (items.read, items.applied) == (0, 1)


def test_a_range_older_than_the_recent_commits_is_read_again(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes that memory no longer has are not guessed."""
    items = Range(store)
    items.look()
    monkeypatch.setattr("tinyvex.storage.log.recent_commits.RECENT_COMMITS_BYTES_MAX", 2_000)
    for n in range(10):
        store.run(unit(insert({"n": n, "text": "x" * 1_000})))
    items.look()
    assert (items.read, items.applied) == (ROWS + 10, 0)


def test_two_scans_of_one_range_are_one(store: MemoryStore) -> None:
    """The second scan of an execution returns the rows of the first."""

    def look(snapshot: Snapshot) -> bool:
        table = snapshot.catalog.table("items")
        cache, ours = RangeCache(None), transaction(snapshot)
        first, second = (
            cache.collect(ours, table, table.index("by_n"), KEY_MIN, KEY_MAX, reverse=False, limit=None)
            for _ in range(2)
        )
        return first.rows is second.rows and ours.rows_read == ROWS

    assert store.look(look)


numbers = st.integers(-5, 60)
changes = st.one_of(
    st.tuples(st.just("insert"), st.just(0), numbers),
    st.tuples(st.just("delete"), st.integers(0, 80), st.just(0)),
    st.tuples(st.just("move"), st.integers(0, 80), numbers),
    st.tuples(st.just("touch"), st.integers(0, 80), numbers),
)
ranges = st.tuples(numbers, numbers, st.none() | st.integers(1, 12), st.booleans())


@settings(max_examples=60)
@given(count=st.integers(0, 40), ranges=st.lists(ranges, min_size=1, max_size=4), steps=st.lists(changes, max_size=25))
def test_cached_ranges_equal_a_plain_scan(
    count: int, ranges: list[tuple[int, int, int | None, bool]], steps: list[tuple[str, int, int]]
) -> None:
    """After any commits, for any range, limit and direction, with any number of commits between two looks."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    for n in range(count):
        store.run(unit(insert({"n": n})))
    looks = [
        Range(store, key(lo), key(hi), limit=limit, reverse=reverse) for lo, hi, limit, reverse in ranges if lo < hi
    ]
    looks.append(Range(store, limit=3))
    for kind, place, n in steps:
        size = store.look(lambda snapshot: len(transaction_rows(snapshot)))
        if kind == "insert":
            store.run(unit(insert({"n": n})))
        elif size:
            change(store, place, None if kind == "delete" else {"n": n} if kind == "move" else {"n": n, "text": str(n)})
        for look in looks[: 1 + place % len(looks)]:
            look.look()
    for look in looks:
        look.look()


def transaction_rows(snapshot: Snapshot) -> list[StoredDocument]:
    table = snapshot.catalog.table("items")
    return list(transaction(snapshot).scan(table, table.index("by_n"), KEY_MIN, KEY_MAX))


def test_the_recent_commits_hold_the_largest_document() -> None:
    """A cached range survives at least one document of the maximum size."""
    assert limits.RECENT_COMMITS_BYTES_MAX >= 2 * limits.DOCUMENT_BYTES_MAX
