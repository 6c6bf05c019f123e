"""
The feed of commits: in order, each listener at its own pace, and the interval that a slow listener must read from the
log.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.storage import MemoryStore, insert, opened, unit
from tinyvex.errors import SnapshotUnavailable
from tinyvex.storage.log import commit_feed
from tinyvex.storage.log.commit_feed import Behind, CommitFeed, CommitListener
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.operations import Write, WriteDocuments
from tinyvex.storage.log.revisions import LogRevision


def commit(ts: int, size: int = 0) -> CommitRecord:
    """Build a commit of one document."""
    return CommitRecord(ts, (WriteDocuments((Write(101, b"i", b"x" * size, None, (), (), ()),)),))


def no_report(error: Exception) -> None:
    raise AssertionError(error)


def ignore() -> None:
    """Do nothing: the listener polls."""


def taken(listener: CommitListener) -> list[Any]:
    """Take everything available: timestamps, and missed intervals."""
    items: list[Any] = []
    while (one := listener.take()) is not None:
        items.append(one if isinstance(one, Behind) else one.ts)
    return items


@pytest.fixture
def feed() -> CommitFeed:
    return CommitFeed(10, no_report)


def test_every_listener_takes_every_record_in_order(feed: CommitFeed) -> None:
    """Each listener proceeds at its own pace."""
    first, second = feed.follow(ignore), feed.follow(ignore)
    feed.publish([commit(11), commit(12)])
    assert taken(first) == [11, 12]
    feed.publish([commit(13)])
    assert (taken(first), taken(second)) == ([13], [11, 12, 13])


def test_a_listener_takes_only_what_was_published_after_it_began(feed: CommitFeed) -> None:
    """Earlier records, up to `taken_ts`, are read from the log."""
    feed.publish([commit(11)])
    listener = feed.follow(ignore)
    assert listener.taken_ts == 11
    feed.publish([commit(12)])
    assert taken(listener) == [12]


def test_a_listener_is_woken_when_there_is_something_again(feed: CommitFeed) -> None:
    """A listener is not woken again until it has taken the first records."""
    woken: list[None] = []
    listener = feed.follow(lambda: woken.append(None))
    feed.publish([commit(11)])
    feed.publish([commit(12)])
    assert len(woken) == 1
    taken(listener)
    feed.publish([commit(13)])
    assert len(woken) == 2


@pytest.mark.parametrize("bound", ["LISTENER_RECORDS_MAX", "LISTENER_BYTES_MAX"])
def test_a_slow_listener_loses_its_buffer_and_learns_where_to_read(
    feed: CommitFeed, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """It gets the interval from its last record to the last published one; then it follows again."""
    monkeypatch.setattr(commit_feed, bound, 3 if bound == "LISTENER_RECORDS_MAX" else 3 * commit(1).memory_bytes)
    slow, quick = feed.follow(ignore), feed.follow(ignore)
    feed.publish([commit(11)])
    assert (taken(slow), taken(quick)) == ([11], [11])
    for ts in range(12, 20):
        feed.publish([commit(ts)])
        assert taken(quick) == [ts]
    assert taken(slow) == [Behind(11, 19)]
    feed.publish([commit(20)])
    assert (taken(slow), taken(quick)) == ([20], [20])


def test_a_group_larger_than_the_buffer_leaves_a_listener_behind(
    feed: CommitFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener is woken once, and misses the whole group."""
    monkeypatch.setattr(commit_feed, "LISTENER_RECORDS_MAX", 2)
    woken: list[None] = []
    listener = feed.follow(lambda: woken.append(None))
    feed.publish([commit(ts) for ts in range(11, 15)])
    assert (taken(listener), len(woken)) == ([Behind(10, 14)], 1)


def test_a_failing_listener_does_not_keep_records_from_the_others() -> None:
    """Its error is reported."""
    reported: list[Exception] = []
    feed = CommitFeed(10, reported.append)
    failing, other = feed.follow(lambda: 1 // 0), feed.follow(ignore)  # type: ignore[arg-type, return-value]
    feed.publish([commit(11)])
    assert [type(error) for error in reported] == [ZeroDivisionError]
    assert (taken(failing), taken(other)) == ([11], [11])


def test_a_closed_listener_holds_no_records(feed: CommitFeed) -> None:
    """A closed listener receives nothing; closing again has no effect."""
    listener = feed.follow(ignore)
    feed.publish([commit(11)])
    listener.close()
    listener.close()
    feed.publish([commit(12)])
    assert taken(listener) == []


def test_a_gap_in_what_is_published_is_a_defect(feed: CommitFeed) -> None:
    """Published timestamps only increase."""
    with pytest.raises(AssertionError, match="in order"):
        feed.publish([commit(10)])


@given(st.lists(st.one_of(st.integers(1, 4), st.just("take")), max_size=40))
def test_what_is_taken_and_missed_is_everything(steps: list[Any]) -> None:
    """Records and missed intervals follow one another without gap or overlap, at any pace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit_feed, "LISTENER_RECORDS_MAX", 5)
        feed, ts = CommitFeed(0, no_report), 0
        listener = feed.follow(ignore)
        items: list[Any] = []
        for step in [*steps, "take"]:
            if step == "take":
                items += taken(listener)
            else:
                feed.publish([commit(ts + number + 1) for number in range(step)])
                ts += step
        position = 0
        for one in items:
            if isinstance(one, Behind):
                assert one.after == position < one.until
                position = one.until
            else:
                assert one == position + 1
                position = one
        assert position == ts == listener.taken_ts


# In the store.


async def test_the_synchronous_listener_is_first(tmp_path: Any) -> None:
    """`on_commits` is called before the feed gets the records, and the caller is answered after both."""
    async with opened(tmp_path) as store:
        order: list[str] = []
        store.on_commits = lambda commits: order.append("on_commits")
        listener = store.feed.follow(lambda: order.append("feed"))
        store.write_nowait(unit(insert({"n": 1})), lambda value, error: order.append("done"))
        await store.write(unit(insert({"n": 2})))
        assert order[:2] == ["on_commits", "feed"]
        assert order.index("done") > 1
        assert taken(listener)[-1] == store.last_ts


# The log, for a listener that fell behind.


def changed_by(record: CommitRecord) -> list[tuple[int, int, bytes, int | None, bytes | None]]:
    """Return the revisions in a record, as stored in the log."""
    writes = [write for operation in record.operations for write in getattr(operation, "writes", ())]
    return [(record.ts, write.tablet, write.internal, write.prev_ts, write.json) for write in writes]


@settings(max_examples=40)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_the_log_has_every_revision_since_a_timestamp(counts: list[int], data: st.DataObject) -> None:
    """The log returns the missed records in the order of commits, at any page size."""
    log = MemoryStore()
    log.declare({"items": {"by_n": ("n",)}})
    for count in counts:
        log.run(unit(lambda transaction, many=count: [insert({"n": n})(transaction) for n in range(many)]))
    after = data.draw(st.sampled_from([0, *(record.ts for record in log.commits)]))
    page = data.draw(st.integers(1, 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinyvex.storage.log.document_log.SCAN_PAGE_ROWS", page)
        revisions = log.look(lambda snapshot: list(snapshot.revisions_since(after)))
    expected = [one for record in log.commits if record.ts > after for one in changed_by(record)]
    assert [(one.ts, one.tablet, one.internal, one.prev_ts, one.json) for one in revisions] == expected


def test_the_log_ends_at_the_snapshot() -> None:
    """Later commits arrive through the feed."""
    log = MemoryStore()
    log.declare({"items": {}})
    at = log.run(unit(insert({"n": 1}))).ts
    log.run(unit(insert({"n": 2})))
    revisions: list[LogRevision] = log.look(lambda snapshot: list(snapshot.revisions_since(at - 1)), at)
    assert [revision.ts for revision in revisions] == [at]


def test_below_the_floor_revisions_may_be_missing() -> None:
    """A read below the floor is refused; at the floor it is complete."""
    log = MemoryStore()
    log.declare({"items": {}})
    floor = log.run(unit(insert({"n": 1}))).ts
    log.run(unit(insert({"n": 2})))
    log.keep_house(lambda house: house.raise_floor(floor))
    assert len(log.look(lambda snapshot: list(snapshot.revisions_since(floor)))) == 1
    with pytest.raises(SnapshotUnavailable):
        log.look(lambda snapshot: list(snapshot.revisions_since(floor - 1)))
