"""The readable past of one document, across the tablets of its table."""

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


def revisions_of(store: MemoryStore, internal: bytes, after: int = 0) -> Told:
    """Return the time since the start of the store, and `n`, of each revision; None for a deletion."""
    history = store.look(
        lambda snapshot: list(document_history(snapshot, snapshot.catalog.table("items"), internal, after))
    )
    return [
        (revision.ts, None if revision.json is None else decode(revision.json)["n"])  # type: ignore[index, call-overload]
        for revision in history
    ]


def set_floor(store: MemoryStore, ts: int) -> None:
    set_global(store.connection, "floor_ts", ts)


def replace(store: MemoryStore, documents: dict[bytes, int]) -> int:
    """Replace the table's contents as an import does; return the commit's `ts`."""
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


def test_every_revision_is_returned_in_order(store: MemoryStore) -> None:
    """The insertion is first, the deletion last."""
    internal = write(store, 1)
    first = store.last_ts
    change(store, internal, 2)
    change(store, internal, None)
    assert revisions_of(store, internal) == [(first, 1), (first + 1, 2), (first + 2, None)]


def test_a_page_goes_on_after_the_last(store: MemoryStore) -> None:
    """The next page continues, wherever a page ended."""
    internal = write(store, 1)
    for n in range(2, 6):
        change(store, internal, n)
    whole = revisions_of(store, internal)
    for index, (ts, _) in enumerate(whole):
        assert revisions_of(store, internal, ts) == whole[index + 1 :]


def test_the_state_at_the_floor_is_the_first(store: MemoryStore) -> None:
    """Revisions replaced below the floor are omitted, even while they still exist."""
    internal = write(store, 1)
    first = store.last_ts
    change(store, internal, 2)
    change(store, internal, 3)
    set_floor(store, first + 1)
    assert revisions_of(store, internal) == [(first + 1, 2), (first + 2, 3)]


def test_a_document_deleted_at_the_floor_is_omitted(store: MemoryStore) -> None:
    """Such a document is indistinguishable from one that never existed."""
    internal = write(store, 1)
    change(store, internal, None)
    write(store, 2)
    set_floor(store, store.last_ts)
    assert revisions_of(store, internal) == []


def test_a_document_that_a_replaced_table_kept_goes_on(store: MemoryStore) -> None:
    """Its revisions in both tablets form one history, without an entry for the unchanged move."""
    internal, other = write(store, 1), write(store, 1)
    first = store.last_ts - 1
    moved = replace(store, {internal: 7, other: 1})
    change(store, internal, 8)
    assert revisions_of(store, internal) == [(first, 1), (moved, 7), (moved + 1, 8)]
    assert [ts for ts, _ in revisions_of(store, other)] == [first + 1, moved]  # its creation time is another


def test_a_document_that_a_replaced_table_lost_was_deleted_then(store: MemoryStore) -> None:
    """The replacement is its deletion, and it stays deleted."""
    internal = write(store, 1)
    first = store.last_ts
    moved = replace(store, {})
    assert revisions_of(store, internal) == [(first, 1), (moved, None)]
    assert revisions_of(store, internal, first) == [(moved, None)]
    assert revisions_of(store, internal, moved) == []


def test_a_document_that_came_with_a_replacement_begins_there(store: MemoryStore) -> None:
    """Its history begins with the replacement, because it was not visible before."""
    write(store, 1)
    internal = bytes(16)
    moved = replace(store, {internal: 5})
    assert revisions_of(store, internal) == [(moved, 5)]


def test_pages_go_on_over_a_replacement(store: MemoryStore) -> None:
    """No revision of either tablet is repeated or omitted."""
    internal = write(store, 1)
    change(store, internal, 2)
    replace(store, {internal: 3})
    change(store, internal, 4)
    whole = revisions_of(store, internal)
    for index, (ts, _) in enumerate(whole):
        assert revisions_of(store, internal, ts) == whole[index + 1 :]


def test_a_replacement_below_the_floor_is_omitted(store: MemoryStore) -> None:
    """The state at the floor is the new tablet's."""
    internal = write(store, 1)
    replace(store, {internal: 3})
    change(store, internal, 4)
    set_floor(store, store.last_ts)
    assert revisions_of(store, internal) == [(store.last_ts, 4)]


@pytest.mark.parametrize("floor", range(8))
def test_expiry_changes_no_history(store: MemoryStore, floor: int) -> None:
    """The floor hides revisions whether or not they are deleted already; only the start of the oldest state is lost."""
    first = store.last_ts
    internal = write(store, 1)
    change(store, internal, 2)
    replace(store, {internal: 3})
    change(store, internal, 4)
    change(store, internal, None)
    set_floor(store, first + floor)
    before = revisions_of(store, internal)
    drive(retention(store, first + floor).sweep(thorough=True))
    after = revisions_of(store, internal)
    assert [n for _, n in after] == [n for _, n in before]
    assert after[1:] == before[1:]
    assert floor > 5 or len(before) > 1
