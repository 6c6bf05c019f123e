"""The check of older timestamps: it finds missing and surplus entries in every readable index, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from tests.storage.maintenance.test_retention import retention
from tests.support.imports import imported
from tests.support.storage import MemoryStore, drive, insert, seal, unit
from tinyvex.storage.maintenance.check import check

TABLES = {"items": {"by_n": ("n",)}}


@pytest.fixture
def log() -> MemoryStore:
    """
    Open a log with documents changed, moved and deleted; a later index and a dropped one; a replaced and extended
    table.
    """
    store = MemoryStore()
    store.declare(TABLES)
    first, second, third = (store.run(unit(insert({"n": n, "text": f"text {n}"}))).internal for n in range(3))
    change(store, first, {"n": 10, "text": "text 0"})
    store.declare({"items": {"by_text": ("text",)}})
    change(store, second, {"n": 1, "text": "new"})
    change(store, third, None)
    change(store, first, {"n": 0, "text": "text 0"})
    imported(store, "replace", {"items": [{"n": 5}, {"n": 6}]})
    imported(store, "append", {"items": [{"n": 7}]})
    store.run(unit(insert({"n": 8})))
    return store


def change(store: MemoryStore, internal: bytes, fields: dict[str, Any] | None) -> None:
    """Write another revision of an item; None deletes it."""
    store.run(unit(lambda t: t.put(t.catalog.table("items"), internal, fields)))


def read_sometime(store: MemoryStore) -> list[tuple[Any, ...]]:
    """
    Return the index entries that some timestamp reads: all except those of the tablet whose rows were appended
    elsewhere.
    """
    entries = store.connection.execute("SELECT index_id, key, ts FROM indexes WHERE index_id >= 101").fetchall()
    documents = store.connection.execute("SELECT json_value FROM documents WHERE table_id = 2 AND NOT deleted")
    known = " ".join(data.decode() for (data,) in documents)
    return [entry for entry in entries if f'"indexId":{entry[0]},' in known]


def without(store: MemoryStore, entries: list[tuple[Any, ...]]) -> Iterator[sqlite3.Connection]:
    """Yield copies of the database that lack one of these entries each."""
    for entry in entries:
        copy = sqlite3.connect(":memory:", isolation_level=None)
        store.connection.backup(copy)
        copy.execute("DELETE FROM indexes WHERE index_id = ? AND key = ? AND ts = ?", entry)
        yield copy
        copy.close()


def test_nothing_is_wrong_with_a_healthy_past(log: MemoryStore) -> None:
    """Documents, indexes and tables may change in any way."""
    assert check(log.connection) == []


def test_every_missing_entry_is_found(log: MemoryStore) -> None:
    """Start and end entries are found, also of indexes that were dropped or belong to a replaced table."""
    entries = read_sometime(log)
    assert len({index_id for index_id, _, _ in entries}) > 4
    assert [entry for entry, copy in zip(entries, without(log, entries), strict=True) if check(copy) == []] == []


def test_an_entry_missing_from_its_beginning_to_its_end_is_found(log: MemoryStore) -> None:
    """The index itself has no trace of such an entry."""
    (end,) = log.connection.execute(
        "SELECT index_id, key FROM indexes WHERE index_id = 102 AND deleted ORDER BY ts LIMIT 1"
    ).fetchall()
    log.connection.execute("DELETE FROM indexes WHERE index_id = ? AND key = ?", end)
    assert any(f"lacks the key {end[1].hex()}" in problem for problem in check(log.connection))


def test_what_is_below_the_floor_is_not_asked_for(log: MemoryStore) -> None:
    """Only entries that some timestamp can read must exist."""
    log.declare(TABLES)
    floor = log.last_ts
    log.run(unit(insert({"n": 9})))
    drive(retention(log, floor).sweep(thorough=True))
    assert check(log.connection) == []
    entries = read_sometime(log)
    assert [entry for entry, copy in zip(entries, without(log, entries), strict=True) if check(copy) == []] == []


@pytest.mark.parametrize("name", ["name", "number", "tablet"])
def test_two_tables_with_one_name_number_or_tablet_are_found(name: str) -> None:
    """Names, numbers and tablets are unique."""
    store = MemoryStore()
    store.declare(TABLES | {"other": {}})
    store.connection.execute(
        "UPDATE documents SET json_value = CAST(json_set(CAST(json_value AS TEXT), ?1, (SELECT"
        " json_extract(CAST(json_value AS TEXT), ?1) FROM documents WHERE table_id = 1 LIMIT 1)) AS BLOB)"
        " WHERE table_id = 1",
        (f"$.{name}",),
    )
    seal(store.connection)
    assert f"two tables share a {name}" in check(store.connection)
