"""Dropping a table: gone from the newest state, readable before it, and in the end deleted without a trace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.storage.maintenance.test_retention import retention
from tests.support.imports import began, filled, finished
from tests.support.storage import MemoryStore, drive, insert, numbers, unit
from tinyvex import errors
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.maintenance.check import check
from tinyvex.storage.schema.table_drop import drop

TABLES = {"items": {"by_n": ("n",)}, "others": {"by_n": ("n",)}}


@pytest.fixture
def log() -> Iterator[MemoryStore]:
    """Open two tables; the first has three documents."""
    store = MemoryStore()
    store.declare(TABLES)
    store.run(unit(lambda t: [insert({"n": n})(t) for n in (2, 1, 3)]))
    yield store
    assert check(store.connection) == []


def dropped(log: MemoryStore, name: str = "items") -> int:
    """Drop a table; return the last timestamp that has it."""
    ts = log.last_ts
    log.run(lambda snapshot, at: Outcome(None, drop(snapshot, at, name)))
    return ts


def test_a_dropped_table_is_unknown(log: MemoryStore) -> None:
    """The other tables stay."""
    dropped(log)
    assert log.look(lambda snapshot: snapshot.catalog.names()) == ["others"]
    with pytest.raises(errors.UnknownTable, match="there is no table `items`; the tables are `others`"):
        log.look(numbers)


def test_an_unknown_table_cannot_be_dropped(log: MemoryStore) -> None:
    """And a dropped one not again."""
    dropped(log)
    with pytest.raises(errors.UnknownTable):
        dropped(log)


def test_older_timestamps_have_the_table(log: MemoryStore) -> None:
    """With its index."""
    ts = dropped(log)
    assert log.look(numbers, ts) == [1, 2, 3]


def test_a_new_table_of_the_name_is_empty(log: MemoryStore) -> None:
    """It has another number, so that no old id means one of its documents."""
    old = log.look(lambda snapshot: snapshot.catalog.table("items").number)
    dropped(log)
    log.declare(TABLES, fingerprint="2")
    assert log.look(numbers) == []
    assert log.look(lambda snapshot: snapshot.catalog.table("items").number) != old


def test_it_can_be_imported_again_under_its_number(log: MemoryStore) -> None:
    """An export made before is the way back."""
    number = log.look(lambda snapshot: snapshot.catalog.table("items").number)
    dropped(log)
    begun = log.run(began("empty", items=number))
    log.run(filled(begun, "items", {"n": 7}))
    log.run(finished(begun))
    assert log.look(lambda snapshot: numbers(snapshot, index="by_creation_time")) == [7]


def test_an_import_into_it_is_abandoned(log: MemoryStore) -> None:
    """In every mode: it would bring the table back, without its other documents."""
    for mode in ("append", "replace"):
        log.declare(TABLES, fingerprint=mode)
        begun = log.run(began(mode, items=None, others=None))
        log.run(filled(begun, "items", {"n": 7}))
        dropped(log)
        with pytest.raises(errors.ImportRefused, match="a table was dropped"):
            log.run(finished(begun))


def test_nothing_of_it_is_left_when_its_history_has_expired(log: MemoryStore) -> None:
    """Neither revisions nor index entries."""
    tablet, index = log.look(lambda snapshot: (snapshot.catalog.table("items").tablet, snapshot.catalog.table("items").index("by_n").id))  # fmt: skip
    dropped(log)
    for _ in range(2):  # the first also deletes its indexes, at a later timestamp
        drive(retention(log, log.last_ts).sweep(thorough=True))
    count = log.connection.execute
    assert count("SELECT COUNT(*) FROM documents WHERE table_id = ?", (tablet,)).fetchone() == (0,)
    assert count("SELECT COUNT(*) FROM indexes WHERE index_id = ?", (index,)).fetchone() == (0,)
    assert count("SELECT COUNT(*) FROM current WHERE index_id = ?", (index,)).fetchone() == (0,)
