"""Steps of housekeeping end early if they take long, and the next one continues."""

from typing import Any

import pytest

from tests.support.storage import MemoryStore, declare, drive, insert, unit
from tinyvex.storage.log.housekeeping import PIECE_ROWS, Housekeeping

ITEMS = {"items": {"by_n": ("n",)}}
DOCUMENTS = 100


class Late:
    """A clock by which a step has run long enough at once."""

    def __init__(self, *, is_late: bool) -> None:
        self.is_late = is_late

    def __call__(self) -> bool:
        return self.is_late


@pytest.fixture
def store() -> MemoryStore:
    """Documents that were each replaced once, so that the first revision of each can be purged."""
    made = MemoryStore()
    drive(declare(made, ITEMS))
    documents = [made.run(unit(insert({"n": number}))) for number in range(DOCUMENTS)]
    for document in documents:
        made.run(unit(lambda tx, key=document.internal: tx.put(tx.catalog.table("items"), key, {"n": -1})))
    return made


def swept(store: MemoryStore, *, is_late: bool) -> list[int]:
    """Sweep the whole log; return how many revisions each step deleted."""
    steps: list[int] = []
    after = 0
    while True:
        step: Any = store.keep_house(
            lambda house, after=after: Housekeeping(
                house._connection, house.snapshot, Late(is_late=is_late)
            ).sweep_revisions(after, 500, store.last_ts)
        )
        if step.last_row == after:
            return steps
        steps.append(step.deleted)
        after = step.last_row


def test_a_sweep_in_time_is_one_step(store: MemoryStore) -> None:
    """Small documents are deleted as many at a time as before."""
    steps = swept(store, is_late=False)
    assert sum(steps) >= DOCUMENTS
    assert len(steps) == 1


def test_a_late_sweep_deletes_the_same_in_more_steps(store: MemoryStore) -> None:
    """Each step deletes something, so that it ends."""
    steps = swept(store, is_late=True)
    assert sum(steps) >= DOCUMENTS
    assert max(steps) <= PIECE_ROWS
