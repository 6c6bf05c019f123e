"""Building indexes in steps that mutations can wait for."""

from functools import partial

import pytest

from tests.support.storage import MemoryStore, declare, drive, insert, numbers, unit
from tinyvex.limits import BACKFILL_STEP_BYTES, BACKFILL_STEP_ROWS
from tinyvex.storage.log.operations import BackfillIndex, DropIndexEntries


@pytest.mark.parametrize("count", [1, 30])
def test_a_step_adds_a_bounded_number_of_entries(count: int) -> None:
    """With many new indexes of one table, a step covers fewer documents; all of them are indexed in the end."""
    store = MemoryStore()
    drive(declare(store, {"items": {}}))
    for number in range(100):
        store.run(unit(insert({"n": number})))
    drive(declare(store, {"items": {f"by_n{index}": ("n",) for index in range(count)}}))
    steps = [operation for commit in store.commits for operation in commit.operations]
    rows = [step.rows for step in steps if isinstance(step, BackfillIndex)]
    assert sum(rows) == 100
    assert max(rows) * count <= BACKFILL_STEP_ROWS
    for index in range(count):
        assert drive(store.read(partial(numbers, index=f"by_n{index}"))) == list(range(100))


def test_a_step_reads_a_bounded_number_of_bytes() -> None:
    """With large documents, a step covers fewer of them."""
    store = MemoryStore()
    drive(declare(store, {"items": {}}))
    for number in range(20):
        store.run(unit(insert({"n": number, "text": "x" * (BACKFILL_STEP_BYTES // 4)})))
    drive(declare(store, {"items": {"by_n": ("n",)}}))
    rows = [step.rows for commit in store.commits for step in commit.operations if isinstance(step, BackfillIndex)]
    assert rows == [4, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("indexes", "documents"), [(60, 0), (60, 10), (3, BACKFILL_STEP_ROWS), (3, BACKFILL_STEP_ROWS + 1)]
)
def test_indexes_are_dropped_together_in_steps_of_a_bounded_size(indexes: int, documents: int) -> None:
    """The work grows with their entries, and not with the square of their number."""
    store = MemoryStore()
    drive(declare(store, {"items": {f"by_n{index}": ("n",) for index in range(indexes)}}))
    store.run(unit(lambda transaction: [insert({"n": number})(transaction) for number in range(documents)]))
    before = len(store.commits)
    drive(declare(store, {"items": {}}))
    commits = store.commits[before:]
    rows = [
        sum(operation.rows for operation in commit.operations if isinstance(operation, DropIndexEntries))
        for commit in commits
    ]
    assert sum(rows) == indexes * documents
    assert max(rows) <= BACKFILL_STEP_ROWS
    # The change, the deletion of the indexes, the steps that they fill, and the last.
    assert len(commits) <= 2 + indexes * documents // BACKFILL_STEP_ROWS + 1
