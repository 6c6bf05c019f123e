"""What can be read of one document's past, over the tablets that its table had."""

from __future__ import annotations

from typing import Any

import pytest

from tests.storage.maintenance.test_retention import retention
from tests.support.storage import ITEMS, MemoryStore, drive, insert, unit
from tinyvex.storage.file.database_file import set_global
from tinyvex.storage.log.commit_record import CommitRecord, Outcome
from tinyvex.storage.log.operations import FillTablet
from tinyvex.storage.maintenance.document_history import document_history
from tinyvex.storage.schema.table_replacement import begin, filling, finish, write_of
from tinyvex.values.codec import decode

Told = list[tuple[int, Any]]


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    made.declare(ITEMS)
    return made


def write(store: MemoryStore, n: int) -> bytes:
    return store.run(unit(insert({"n": n}))).internal


def change(store: MemoryStore, internal: bytes, n: int | None) -> None:
    fields = None if n is None else {"n": n}
    store.run(unit(lambda transaction: transaction.put(transaction.catalog.table("items"), internal, fields)))


def told(store: MemoryStore, internal: bytes, after: int = 0) -> Told:
    """When, since the store began to count, and which `n`; None where it was deleted."""
    found = store.look(
        lambda snapshot: list(document_history(snapshot, snapshot.catalog.table("items"), internal, after))
    )
    return [
        (revision.ts, None if revision.json is None else decode(revision.json)["n"])  # type: ignore[index, call-overload]
        for revision in found
    ]


def set_floor(store: MemoryStore, ts: int) -> None:
    set_global(store.connection, "floor_ts", ts)


def replace(store: MemoryStore, documents: dict[bytes, int]) -> int:
    """Replace what is in the table, as an import does; the commit's `ts`."""
    begun = store.run(lambda snapshot, ts: begin(snapshot, ts, "replace", {"items": None}))

    def fill(snapshot: Any, ts: int) -> Outcome[None]:
        (tablet,) = filling(snapshot, begun.import_id)
        writes = [
            write_of(tablet.table, internal, {"_creationTime": 1.0, "_id": "x", "n": n})
            for internal, n in documents.items()
        ]
        return Outcome(None, CommitRecord(ts, (FillTablet(tuple(writes)),)))

    store.run(fill)
    store.run(lambda snapshot, ts: finish(snapshot, ts, begun.import_id))
    return store.last_ts


def test_every_revision_is_told_in_order(store: MemoryStore) -> None:
    """The insertion first, the deletion last."""
    internal = write(store, 1)
    first = store.last_ts
    change(store, internal, 2)
    change(store, internal, None)
    assert told(store, internal) == [(first, 1), (first + 1, 2), (first + 2, None)]


def test_a_page_goes_on_after_the_last(store: MemoryStore) -> None:
    """Wherever a page ended, the next has the rest."""
    internal = write(store, 1)
    for n in range(2, 6):
        change(store, internal, n)
    whole = told(store, internal)
    for place, (ts, _) in enumerate(whole):
        assert told(store, internal, ts) == whole[place + 1 :]


def test_the_state_at_the_floor_is_the_first(store: MemoryStore) -> None:
    """What was replaced below it is not told, even while it is still there."""
    internal = write(store, 1)
    first = store.last_ts
    change(store, internal, 2)
    change(store, internal, 3)
    set_floor(store, first + 1)
    assert told(store, internal) == [(first + 1, 2), (first + 2, 3)]


def test_a_document_that_was_gone_at_the_floor_is_not_told(store: MemoryStore) -> None:
    """Its deletion cannot be told from its never having been."""
    internal = write(store, 1)
    change(store, internal, None)
    write(store, 2)
    set_floor(store, store.last_ts)
    assert told(store, internal) == []


def test_a_document_that_a_replaced_table_kept_goes_on(store: MemoryStore) -> None:
    """Its revisions in both tablets are one history; that it was moved unchanged is none."""
    internal, other = write(store, 1), write(store, 1)
    first = store.last_ts - 1
    moved = replace(store, {internal: 7, other: 1})
    change(store, internal, 8)
    assert told(store, internal) == [(first, 1), (moved, 7), (moved + 1, 8)]
    assert [ts for ts, _ in told(store, other)] == [first + 1, moved]  # its creation time is another


def test_a_document_that_a_replaced_table_lost_was_deleted_then(store: MemoryStore) -> None:
    """The replacement is its deletion, and it stays deleted."""
    internal = write(store, 1)
    first = store.last_ts
    moved = replace(store, {})
    assert told(store, internal) == [(first, 1), (moved, None)]
    assert told(store, internal, first) == [(moved, None)]
    assert told(store, internal, moved) == []


def test_a_document_that_came_with_a_replacement_begins_there(store: MemoryStore) -> None:
    """Not when it was written: nobody saw it before."""
    write(store, 1)
    internal = bytes(16)
    moved = replace(store, {internal: 5})
    assert told(store, internal) == [(moved, 5)]


def test_pages_go_on_over_a_replacement(store: MemoryStore) -> None:
    """None of the two tablets' revisions is told twice or left out."""
    internal = write(store, 1)
    change(store, internal, 2)
    replace(store, {internal: 3})
    change(store, internal, 4)
    whole = told(store, internal)
    for place, (ts, _) in enumerate(whole):
        assert told(store, internal, ts) == whole[place + 1 :]


def test_a_replacement_below_the_floor_is_forgotten(store: MemoryStore) -> None:
    """The state at the floor is the new tablet's."""
    internal = write(store, 1)
    replace(store, {internal: 3})
    change(store, internal, 4)
    set_floor(store, store.last_ts)
    assert told(store, internal) == [(store.last_ts, 4)]


@pytest.mark.parametrize("floor", range(8))
def test_forgetting_changes_nothing_that_is_told(store: MemoryStore, floor: int) -> None:
    """What the floor hides is hidden whether it was deleted already or not; when the oldest state began is forgotten."""
    first = store.last_ts
    internal = write(store, 1)
    change(store, internal, 2)
    replace(store, {internal: 3})
    change(store, internal, 4)
    change(store, internal, None)
    set_floor(store, first + floor)
    before = told(store, internal)
    drive(retention(store, first + floor).sweep(thorough=True))
    after = told(store, internal)
    assert [n for _, n in after] == [n for _, n in before]
    assert after[1:] == before[1:]
    assert floor > 5 or len(before) > 1
