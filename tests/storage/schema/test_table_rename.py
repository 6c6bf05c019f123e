"""Renaming a table in a schema change: its documents, ids, indexes and history stay, whatever runs in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest

from tests.support.imports import began, filled, finished
from tests.support.storage import MemoryStore, insert, numbers, scan, unit
from tinyvex import errors
from tinyvex.storage.engine.group_commit import Unit
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.maintenance.check import check
from tinyvex.storage.schema.table_drop import drop
from tinyvex.values.codec import decode, encode

BEFORE = {"items": {"by_n": ("n",)}}
AFTER = {"things": {"by_n": ("n",), "by_m": ("m",)}}
FROM_ITEMS = {"things": ("items",)}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryStore]:
    """Open a table with three documents; steps are small."""
    for module in ("index_backfill", "schema_change"):
        monkeypatch.setattr(f"tinyvex.storage.schema.{module}.BACKFILL_STEP_ROWS", 2)
    store = MemoryStore()
    store.declare(BEFORE)
    store.run(unit(lambda t: [insert({"n": n, "m": -n})(t) for n in (2, 1, 3)]))
    yield store
    assert check(store.connection) == []


def names(log: MemoryStore, at: int | None = None) -> list[str]:
    """Return the tables at a timestamp."""
    return log.look(lambda snapshot: snapshot.catalog.names(), at)


def _run_before(store: MemoryStore, step: int, work: Unit, is_over: Callable[[], object]) -> list[int]:
    """Run a unit once, before a change's unit of this number, unless the change is over; return a list, empty until then."""
    ran: list[int] = []
    left = iter(range(step))

    def run() -> None:
        if not ran and next(left, None) is None and not is_over():
            ran.append(step)
            store.run(work)

    store.between = run
    return ran


def _has_by_m(store: MemoryStore) -> bool:
    return store.look(lambda snapshot: "by_m" in snapshot.catalog.table("items").indexes)


def things(log: MemoryStore, index: str = "by_n") -> list[Any]:
    """Return `n` of each document along an index."""
    return log.look(lambda snapshot: numbers(snapshot, index=index, table="things"))


def test_a_renamed_table_has_its_documents(log: MemoryStore) -> None:
    """With their ids and the table's number, in kept and in new indexes."""
    before = log.look(lambda snapshot: (snapshot.catalog.table("items").number, scan(snapshot)))
    log.declare(AFTER, renamed_from=FROM_ITEMS)
    assert names(log) == ["things"]
    table = "things"
    assert log.look(lambda snapshot: (snapshot.catalog.table(table).number, scan(snapshot, table=table))) == before
    assert (things(log, "by_n"), things(log, "by_m")) == ([1, 2, 3], [3, 2, 1])


def test_an_older_timestamp_has_the_older_name(log: MemoryStore) -> None:
    """A name is part of the snapshot."""
    ts = log.last_ts
    log.declare(AFTER, renamed_from=FROM_ITEMS)
    log.run(unit(insert({"n": 4}, "things")))
    assert names(log, ts) == ["items"]
    assert log.look(numbers, ts) == [1, 2, 3]


def test_a_rename_that_was_made_is_not_made_again(log: MemoryStore) -> None:
    """The declaration may stay; it commits nothing."""
    log.declare(AFTER, renamed_from=FROM_ITEMS)
    ts = log.last_ts
    log.declare(AFTER, renamed_from=FROM_ITEMS)
    assert log.last_ts == ts


def test_the_latest_of_several_earlier_names_is_taken(log: MemoryStore) -> None:
    """A database may be several changes behind."""
    log.declare({"things": {}}, renamed_from={"things": ("articles", "items")})
    assert names(log) == ["things"]


def test_without_a_table_of_an_earlier_name_the_table_is_new() -> None:
    """As in an empty database."""
    store = MemoryStore()
    store.declare(AFTER, renamed_from=FROM_ITEMS)
    assert names(store) == ["things"]


def test_an_empty_table_with_the_new_name_is_replaced(log: MemoryStore) -> None:
    """It was created by a save before `renamed_from` was written."""
    log.declare(AFTER)
    ts = log.last_ts
    log.declare(AFTER, renamed_from=FROM_ITEMS, fingerprint="2")
    assert names(log) == ["things"]
    assert things(log, "by_m") == [3, 2, 1]
    assert names(log, ts) == ["items", "things"]


def test_a_table_with_documents_is_not_replaced(log: MemoryStore) -> None:
    """No document may be lost."""
    log.declare(AFTER)
    log.run(unit(insert({"n": 9}, "things")))
    log.declare(AFTER, renamed_from=FROM_ITEMS, fingerprint="2")
    assert names(log) == ["items", "things"]
    assert things(log) == [9]


def test_a_document_that_arrives_during_the_change_prevents_it(log: MemoryStore) -> None:
    """In whichever step it arrives in the table that would be replaced."""
    for step in count():
        store = MemoryStore()
        store.declare(BEFORE)
        store.run(unit(insert({"n": 1})))
        store.declare(AFTER)
        arrived = _run_before(store, step, unit(insert({"n": 9}, "things")), partial(things, store))
        store.declare(AFTER, renamed_from=FROM_ITEMS, fingerprint="2")
        store.between = None
        assert things(store) == ([9] if arrived else [1]), step
        assert check(store.connection) == []
        if not arrived:  # the change has fewer steps
            break
    assert step > 4


def test_documents_written_during_the_change_are_in_it(log: MemoryStore) -> None:
    """They are validated and upgraded by the new class, and entered into the new index."""
    waiting = list(range(12))

    def work() -> None:
        if waiting and "items" in names(log):
            number = waiting.pop()
            log.run(unit(insert({"n": 100 + number, "m": number})))

    log.between = work
    log.declare(
        AFTER,
        renamed_from=FROM_ITEMS,
        validators={"things": lambda json: ([], encode({"new": 1} | decode(json)))},
        table_fingerprints={"things": "with a default"},
    )
    log.between = None
    assert not waiting
    documents = log.look(lambda snapshot: scan(snapshot, table="things"))
    assert [document["new"] for document in documents] == [1] * len(documents)
    assert len(documents) == 15
    assert sorted(things(log, "by_m")) == sorted(things(log))


def test_a_refused_rename_changes_nothing(log: MemoryStore) -> None:
    """The documents do not fit the new class: the table keeps its name."""
    with pytest.raises(errors.SchemaRejected, match="wrong"):
        log.declare(
            AFTER,
            renamed_from=FROM_ITEMS,
            validators={"things": lambda json: (["wrong"], json)},
            table_fingerprints={"things": "strict"},
        )
    assert names(log) == ["items"]


def test_an_interrupted_rename_is_repeated(log: MemoryStore) -> None:
    """Whichever step failed."""
    for died_at in range(12):
        store = MemoryStore()
        store.declare(BEFORE)
        store.run(unit(lambda t: [insert({"n": n, "m": -n})(t) for n in (2, 1, 3)]))
        store.declare(AFTER)  # an empty table in its place
        left = iter(range(died_at))

        def die(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        store.between = die
        try:
            store.declare(AFTER, renamed_from=FROM_ITEMS, fingerprint="2")
        except KeyboardInterrupt:
            store.between = None
            store.declare(AFTER, renamed_from=FROM_ITEMS, fingerprint="2")
        store.between = None
        assert names(store) == ["things"]
        assert things(store, "by_m") == [3, 2, 1]
        assert check(store.connection) == []


def test_an_import_into_the_former_name_is_refused(log: MemoryStore) -> None:
    """It would create a second table with the same number."""
    begun = log.run(began("replace", items=None))
    log.run(filled(begun, "items", {"n": 7}))
    log.declare(AFTER, renamed_from=FROM_ITEMS)
    with pytest.raises(errors.ImportRefused, match="renamed"):
        log.run(finished(begun))
    assert things(log) == [1, 2, 3]


def test_a_table_that_is_dropped_during_a_change_is_created_anew(log: MemoryStore) -> None:
    """The new code declares it, so it exists afterwards, in whichever step it was dropped."""
    for step in count():
        store = MemoryStore()
        store.declare(BEFORE)
        store.run(unit(lambda t: [insert({"n": n})(t) for n in (2, 1, 3)]))
        store.declare({}, fingerprint="without")
        dropped = _run_before(
            store, step, lambda snapshot, ts: Outcome(None, drop(snapshot, ts, "items")), partial(_has_by_m, store)
        )
        store.declare({"items": {"by_n": ("n",), "by_m": ("m",)}}, table_fingerprints={"items": "new"})
        store.between = None
        assert store.look(numbers) == ([] if dropped else [1, 2, 3]), step
        assert check(store.connection) == []
        if not dropped:  # the change has fewer steps
            break
    assert step > 4
