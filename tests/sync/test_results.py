"""Results and versions: one patch for all holders of a version, and weights without the memory that they share."""

import pytest

from tinyvex import errors, limits
from tinyvex.functions.result.chunked_rows import ChunkedRows
from tinyvex.functions.result.result_body import Body, RowsPart
from tinyvex.functions.run.call import QueryOutcome
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.storage.log.revisions import StoredDocument
from tinyvex.sync.counters import Counters
from tinyvex.sync.results import Result, Version

INDEX = 7


def rows(count: int, text: str = "text") -> ChunkedRows:
    """Rows with the keys and ids 0, 1, 2, …"""
    made = []
    for number in range(count):
        name = number.to_bytes(16, "big")
        made.append(StoredDocument(name, name, 1, b'{"_id":"%d","text":"%s"}' % (number, text.encode())))
    return ChunkedRows.of(made)


def body(found: ChunkedRows) -> Body:
    return Body([RowsPart(found, INDEX, reverse=False)])


def changed(found: ChunkedRows, number: int, text: bytes = b"new") -> ChunkedRows:
    name = number.to_bytes(16, "big")
    return found.changed({name: StoredDocument(name, name, 2, b'{"_id":"%d","text":"%s"}' % (number, text))})


def result(made: Body, **flags: object) -> Result:
    outcome = QueryOutcome(5, made, None, ReadSet())
    return Result.of(outcome, None, Version(outcome.hash, made), "q1")


def test_a_patch_is_computed_once_for_all_holders_of_a_version() -> None:
    """Each caller gets the same bytes."""
    before, counters = rows(200), Counters()
    base = Version("old", body(before))
    new = result(body(changed(before, 100)))
    first = new.patch_from(base, counters)
    assert first is not None
    assert new.patch_from(base, counters) is first
    assert counters.diffs == 1


def test_a_version_without_its_body_gives_no_patch() -> None:
    """The full value is sent instead."""
    assert result(body(rows(3))).patch_from(Version("old", None), Counters()) is None


def test_large_texts_are_not_compared_on_the_loop() -> None:
    """Literal JSON above the bound is not compared on the loop."""
    size = limits.DIFF_ON_LOOP_BYTES_MAX + 1
    base = Version("old", Body([b'["%s"]' % (b"x" * size)]))
    counters = Counters()
    assert result(Body([b'["%s",1]' % (b"x" * size)])).patch_from(base, counters) is None
    assert counters.diffs == 0


def test_many_changed_rows_are_not_compared_on_the_loop() -> None:
    """If most chunks differ, the full value is sent."""
    counters = Counters()
    assert (
        result(body(rows(2_000, "b" * 300))).patch_from(Version("old", body(rows(2_000, "a" * 300))), counters) is None
    )
    assert counters.diffs == 0


def test_what_versions_share_is_weighed_once() -> None:
    """An older version weighs only the chunks that the newest one lacks."""
    before = rows(2_000)
    old = Version("old", body(before))
    new = Version("new", body(changed(before, 1_000)))
    assert old.weight_without(new) < old.weight_without(old) / 5


def test_a_failure_needs_no_body() -> None:
    """It can be sent to every client."""
    error = errors.AppError("no")
    outcome = QueryOutcome(5, None, error, ReadSet())
    failed = Result.of(outcome, None, Version(outcome.hash, None), "q1")
    assert failed.is_sendable(None)


@pytest.mark.parametrize(("client_hash", "sendable"), [("other", False), (None, False), ("same", True)])
def test_a_result_without_its_body_is_sendable_only_to_its_holders(client_hash: str | None, sendable: bool) -> None:
    """Every other client needs the value."""
    evicted = result(body(rows(3)))
    evicted.version.body = None
    assert evicted.is_sendable(evicted.hash if client_hash == "same" else client_hash) is sendable


@pytest.mark.parametrize("reverse", [False, True])
def test_large_rows_are_not_compared_on_the_loop(reverse: bool) -> None:
    """The rows may have been added or removed."""
    counters = Counters()
    some, large = body(rows(10)), body(rows(10, text="x" * limits.DIFF_ON_LOOP_ROWS_BYTES_MAX))
    before, after = (large, some) if reverse else (some, large)
    assert result(after).patch_from(Version("old", before), counters) is None
    assert counters.diffs == 0


def test_few_patches_are_cached() -> None:
    """The one from the oldest version is evicted first; the others count as memory."""
    new = result(body(rows(200)))
    new.fragments["of a dialect"] = b"12345"
    for number in range(2 * limits.PATCHES_CACHED_MAX):
        new.set_patch(Version(str(number), None), b"[%d]" % number)
    assert len(new._patches) == limits.PATCHES_CACHED_MAX
    assert new.weight == sum(len(patch) for patch in new._patches.values() if patch) + 5
    assert str(2 * limits.PATCHES_CACHED_MAX - 1) in new._patches
