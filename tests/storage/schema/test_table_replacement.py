"""
Replacement of table contents: invisible until one commit, the old contents readable before it, and refused on a
mismatch.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.imports import abandoned, began, filled, finished, imported, states, tablet_of
from tests.support.storage import MemoryStore, insert, numbers, opened, scan, unit
from tinyvex import errors
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.maintenance.check import check
from tinyvex.values.codec import decode
from tinyvex.values.ids import TABLE_NUMBER_MAX, parse_id

TABLES = {"items": {"by_n": ("n",)}, "others": {"by_n": ("n",)}}


@pytest.fixture
def log():
    """Open two tables; the first has three documents."""
    store = MemoryStore()
    store.declare(TABLES)
    store.run(unit(lambda t: [insert({"n": n})(t) for n in (2, 1, 3)]))
    yield store
    assert check(store.connection) == []


def table_numbers(store: MemoryStore) -> dict[str, int]:
    """Return the number of each table."""
    return store.look(lambda snapshot: {name: snapshot.catalog.table(name).number for name in snapshot.catalog.names()})


def facts(store: MemoryStore) -> Any:
    """Return the catalog, without tablets and ids of indexes."""

    def read(snapshot: Snapshot) -> Any:
        return [
            (table.name, table.number, table.fingerprint, {index.name: index.fields for index in table.maintained})
            for table in map(snapshot.catalog.table, snapshot.catalog.names())
        ]

    return store.look(read)


# Published in one commit.


def test_nothing_is_seen_before_the_end(log: MemoryStore) -> None:
    """Neither documents nor tables are visible."""
    before = facts(log)
    begun = log.run(began("replace", items=None, fresh=None))
    log.run(filled(begun, "items", {"n": 7}))
    log.run(filled(begun, "fresh", {"n": 8}))
    assert log.look(numbers) == [1, 2, 3]
    assert facts(log) == before


def test_all_tables_change_in_one_commit(log: MemoryStore) -> None:
    """At its `ts` everything is new, and just before it everything is old, through every index."""
    begun = log.run(began("replace", items=None, others=None))
    log.run(filled(begun, "items", {"n": 8}, {"n": 7}))
    log.run(filled(begun, "others", {"n": 9}))
    before = log.last_ts
    log.run(finished(begun))
    assert log.look(numbers) == log.look(numbers, log.last_ts) == [7, 8]
    assert log.look(lambda snapshot: numbers(snapshot, table="others")) == [9]
    assert log.look(numbers, before) == [1, 2, 3]
    assert log.look(lambda snapshot: numbers(snapshot, index="by_creation_time"), before) == [2, 1, 3]
    assert log.look(lambda snapshot: numbers(snapshot, table="others"), before) == []


def test_tables_keep_their_numbers_indexes_and_classes(log: MemoryStore) -> None:
    """A replacement changes only documents."""
    log.declare(TABLES, table_fingerprints={"items": "a class"})
    before = facts(log)
    imported(log, "replace", {"items": [{"n": 1}]})
    assert facts(log) == before


def test_an_undeclared_table_is_created(log: MemoryStore) -> None:
    """The table gets the next number and the built-in index."""
    imported(log, "empty", {"fresh": [{"n": 1}]})
    assert facts(log)[0] == ("fresh", 10_003, None, {"by_creation_time": ("_creationTime",)})
    assert log.look(lambda snapshot: scan(snapshot, "by_creation_time", table="fresh"))[0]["n"] == 1


def test_replacing_all_empties_the_tables_that_are_not_named(log: MemoryStore) -> None:
    """The tables themselves remain."""
    imported(log, "replaceAll", {"others": [{"n": 5}]})
    assert log.look(numbers) == []
    assert log.look(lambda snapshot: numbers(snapshot, table="others")) == [5]
    assert set(table_numbers(log)) == {"items", "others"}


def test_the_new_documents_are_written_like_any_others(log: MemoryStore) -> None:
    """They can be changed and deleted, and others added."""
    imported(log, "replace", {"items": [{"n": 1}, {"n": 2}]})

    def work(transaction: Transaction) -> None:
        table = transaction.catalog.table("items")
        first, second = transaction.scan(table, table.index("by_n"), b"", b"\xff")
        transaction.put(table, first.internal, {"n": 9})
        transaction.put(table, second.internal, None)
        insert({"n": 4})(transaction)

    log.run(unit(work))
    assert log.look(numbers) == [4, 9]


def test_a_table_can_be_replaced_again_and_again(log: MemoryStore) -> None:
    """Each timestamp keeps its own contents."""
    moments = []
    for n in range(4):
        imported(log, "replace", {"items": [{"n": n}]})
        moments.append(log.last_ts)
    assert [log.look(numbers, at) for at in moments] == [[0], [1], [2], [3]]


# Numbers.


def test_a_table_takes_the_number_that_its_documents_ids_have(log: MemoryStore) -> None:
    """No later table gets this number."""
    begun = log.run(began("replace", items=20_000))
    log.run(filled(begun, "items", {"n": 1}))
    log.run(finished(begun))
    (document,) = log.look(scan)
    assert parse_id(document["_id"]).table == table_numbers(log)["items"] == 20_000
    log.declare({**TABLES, "fresh": {}})
    assert table_numbers(log)["fresh"] == 20_001


def test_an_empty_table_makes_way(log: MemoryStore) -> None:
    """The empty table gets another number; two tables may also exchange theirs."""
    begun = log.run(began("replace", items=10_002))
    log.run(finished(begun))
    assert table_numbers(log) == {"items": 10_002, "others": 10_003}
    log.run(finished(log.run(began("replaceAll", items=10_003, others=10_002))))
    assert table_numbers(log) == {"items": 10_003, "others": 10_002}


def test_a_table_that_makes_way_keeps_its_indexes_and_its_class(log: MemoryStore) -> None:
    """Only its number changes."""
    log.declare(TABLES, table_fingerprints={"others": "a class"})
    log.run(finished(log.run(began("replace", items=10_002))))
    assert facts(log)[1] == ("others", 10_003, "a class", {"by_creation_time": ("_creationTime",), "by_n": ("n",)})


def test_a_table_with_documents_does_not_make_way(log: MemoryStore) -> None:
    """Its documents' ids contain its number."""
    with pytest.raises(errors.ImportRefused, match="have the table number 10001, which belongs to table `items`"):
        log.run(began("empty", others=10_001))


def test_a_table_that_made_way_must_still_be_empty_in_the_end(log: MemoryStore) -> None:
    """Documents written to it meanwhile must not be lost."""
    begun = log.run(began("replace", items=10_002))
    log.run(unit(insert({"n": 1}, "others")))
    with pytest.raises(errors.ImportRefused, match="`others` received documents during the import"):
        log.run(finished(begun))
    assert log.look(lambda snapshot: numbers(snapshot, table="others")) == [1]


def test_of_all_tables_replaced_none_is_in_the_way(log: MemoryStore) -> None:
    """Their documents are deleted anyway, including those written meanwhile."""
    begun = log.run(began("replaceAll", others=10_001))
    log.run(unit(insert({"n": 9})))
    log.run(finished(begun))
    assert table_numbers(log) == {"items": 10_003, "others": 10_001}
    assert log.look(numbers) == []


@pytest.mark.parametrize("number", [0, 4, 10_000, TABLE_NUMBER_MAX // 2, TABLE_NUMBER_MAX])
def test_numbers_of_system_tables_are_refused(log: MemoryStore, number: int) -> None:
    """Numbers that leave too few for later tables, or that no id can have, are refused too."""
    with pytest.raises(errors.ImportRefused, match=f"cannot have the number {number}"):
        log.run(began("replace", items=number))


def test_two_tables_cannot_have_one_number(log: MemoryStore) -> None:
    """An id would be ambiguous."""
    with pytest.raises(errors.ImportRefused, match="`items` and `others` have the same table number, 20000"):
        log.run(began("replace", items=20_000, others=20_000))


def test_documents_are_appended_under_the_tables_own_number(log: MemoryStore) -> None:
    """The number in the file is ignored, because existing documents use the table's own."""
    log.run(began("append", items=20_000))
    assert log.look(lambda snapshot: snapshot.globals()["next_table_number"]) == 10_003


# Only into empty tables.


def test_a_table_with_documents_is_not_replaced_unasked(log: MemoryStore) -> None:
    """The beginning is refused."""
    with pytest.raises(errors.ImportRefused, match="`items` has documents"):
        log.run(began("empty", items=None))


def test_nor_one_that_got_documents_meanwhile(log: MemoryStore) -> None:
    """The end is refused; the import can still be abandoned."""
    begun = log.run(began("empty", others=None))
    log.run(unit(insert({"n": 1}, "others")))
    with pytest.raises(errors.ImportRefused, match="`others` received documents during the import"):
        log.run(finished(begun))
    log.run(abandoned(begun))
    assert log.look(states) == [("others", "abandoned")]


def test_a_table_whose_documents_were_deleted_is_empty(log: MemoryStore) -> None:
    """Deleted documents do not matter."""
    imported(log, "replace", {"items": []})
    imported(log, "empty", {"items": [{"n": 4}]})
    assert log.look(numbers) == [4]


# Appending.


@pytest.mark.parametrize("step", [1, 2, 3, 7, 8])
def test_appended_documents_are_copied_some_at_a_time(
    log: MemoryStore, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """All of them are copied, whatever their number."""
    monkeypatch.setattr("tinyvex.storage.log.apply.MOVE_STEP_ROWS", step)
    imported(log, "append", {"items": [{"n": n} for n in range(4, 11)]})
    for index in ("by_n", "by_creation_time"):
        in_index = log.look(lambda snapshot, index=index: numbers(snapshot, index=index))
        assert sorted(in_index) == list(range(1, 11))


def test_appended_documents_appear_in_one_commit(log: MemoryStore) -> None:
    """They appear in one commit alongside existing ones, through every index."""
    begun = log.run(began("append", items=None, others=None))
    log.run(filled(begun, "items", {"n": 0}, {"n": 4}))
    log.run(filled(begun, "others", {"n": 5}))
    before = log.last_ts
    assert log.look(numbers) == [1, 2, 3]
    log.run(finished(begun))
    assert log.look(numbers) == log.look(numbers, log.last_ts) == [0, 1, 2, 3, 4]
    assert log.look(numbers, before) == [1, 2, 3]
    assert log.look(lambda snapshot: numbers(snapshot, table="others")) == [5]


def test_appending_to_a_table_that_is_not_there_makes_it(log: MemoryStore) -> None:
    """The table gets the number in the file."""
    begun = log.run(began("append", fresh=20_000))
    log.run(filled(begun, "fresh", {"n": 5}))
    log.run(finished(begun))
    assert table_numbers(log)["fresh"] == 20_000


def test_an_id_that_is_there_already_is_refused(log: MemoryStore) -> None:
    """This includes ids inserted after the import's check, and ids of deleted documents."""
    internal = b"sixteen bytes 01"
    begun = log.run(began("append", items=None))
    log.run(filled(begun, "items", {"n": 0, "internal": internal}))
    other = log.run(began("append", items=None))  # gives the first up
    log.run(filled(other, "items", {"n": 0, "internal": internal}))
    log.run(finished(other))
    again = log.run(began("append", items=None))
    log.run(filled(again, "items", {"n": 0, "internal": internal}))
    with pytest.raises(errors.IdExists):
        log.run(finished(again))
    log.run(unit(lambda t: t.put(t.catalog.table("items"), internal, None)))
    with pytest.raises(errors.IdExists, match="or existed before"):
        log.run(finished(again))
    assert log.look(numbers) == [1, 2, 3]


def test_what_was_appended_is_not_in_the_tail(log: MemoryStore) -> None:
    """Rows cached before the append are read again; rows cached later are updated."""
    index = log.look(lambda snapshot: snapshot.catalog.table("items").index("by_n"))
    begun = log.run(began("append", items=None))
    log.run(filled(begun, "items", {"n": 0}))
    before = log.last_ts
    log.run(finished(begun))
    after = log.last_ts
    log.run(unit(insert({"n": 4})))
    assert log.look(lambda snapshot: snapshot.changes(index, before)) is None
    changes = log.look(lambda snapshot: snapshot.changes(index, after))
    assert changes is not None
    assert [decode(stored.json)["n"] for _, stored in changes if stored is not None] == [4]


async def test_the_log_goes_on_after_an_append(tmp_path: Path) -> None:
    """The writer knows the next row number in the same group, in the next, and after a restart."""
    async with opened(tmp_path, TABLES) as store:
        begun = await store.write(began("append", items=None))
        await store.write(filled(begun, "items", *({"n": n} for n in range(20))))
        waiting = [store.write(finished(begun)), *(store.write(unit(insert({"n": n}))) for n in (20, 21))]
        await asyncio.gather(*waiting)
        await store.write(unit(insert({"n": 22})))
        assert await store.read(numbers) == list(range(23))
    async with opened(tmp_path, TABLES) as store:
        await store.write(unit(insert({"n": 23})))
        assert await store.read(numbers) == list(range(24))


# Concurrent changes.


def test_a_second_import_abandons_the_first(log: MemoryStore) -> None:
    """The first import fails with this reason."""
    first = log.run(began("replace", items=None))
    second = log.run(began("replace", items=None))
    assert log.look(states) == [("items", "abandoned"), ("items", "filling")]
    for step in (filled(first, "items", {"n": 1}), finished(first), abandoned(first)):
        with pytest.raises(errors.ImportRefused, match="abandoned"):
            log.run(step)
    log.run(finished(second))


def test_an_import_ends_once(log: MemoryStore) -> None:
    """A finished or abandoned import no longer exists."""
    for end in (finished, abandoned):
        begun = log.run(began("replace", items=None))
        log.run(end(begun))
        with pytest.raises(errors.ImportRefused, match="abandoned"):
            log.run(finished(begun))


def test_abandoning_changes_nothing(log: MemoryStore) -> None:
    """The filled tablets belong to no table."""
    before = facts(log)
    begun = log.run(began("replaceAll", items=20_000))
    log.run(filled(begun, "items", {"n": 9}))
    log.run(abandoned(begun))
    assert log.look(numbers) == [1, 2, 3]
    assert facts(log) == before


@pytest.mark.parametrize(
    ("tables", "fingerprints"),
    [
        ({**TABLES, "items": {}}, {}),
        ({**TABLES, "items": {"by_n": ("n",), "by_m": ("m",)}}, {}),
        ({**TABLES, "items": {"by_n": ("m",)}}, {}),
        (TABLES, {"items": "another class"}),
    ],
)
def test_a_table_that_changed_meanwhile_is_not_replaced(log: MemoryStore, tables: Any, fingerprints: Any) -> None:
    """The filled tablet has other indexes, or was validated against another class."""
    begun = log.run(began("replace", items=None))
    log.run(filled(begun, "items", {"n": 9}))
    log.declare(tables, table_fingerprints=fingerprints)
    with pytest.raises(errors.ImportRefused, match="class or the indexes"):
        log.run(finished(begun))


def test_a_table_of_the_same_name_made_meanwhile_is_taken_where_it_is_the_same(log: MemoryStore) -> None:
    """It gets the import's number then; with a class it is refused."""
    begun = log.run(began("replace", fresh=None))
    log.run(filled(begun, "fresh", {"n": 9}))
    log.declare({**TABLES, "fresh": {}})
    log.run(finished(begun))
    assert table_numbers(log)["fresh"] == 10_003
    begun = log.run(began("replace", late=None))
    log.declare({**TABLES, "fresh": {}, "late": {}}, table_fingerprints={"late": "a class"})
    with pytest.raises(errors.ImportRefused, match="class of table|class or the indexes"):
        log.run(finished(begun))


def test_documents_of_a_table_made_meanwhile_are_not_lost_by_an_append(log: MemoryStore) -> None:
    """The table did not exist when the append began, and an append never deletes documents."""
    begun = log.run(began("append", fresh=None))
    log.run(filled(begun, "fresh", {"n": 9}))
    log.declare({**TABLES, "fresh": {}})
    log.run(unit(insert({"n": 7}, "fresh")))
    with pytest.raises(errors.ImportRefused, match="`fresh` received documents during the import"):
        log.run(finished(begun))


def test_a_table_with_an_unfinished_index_is_not_replaced(log: MemoryStore) -> None:
    """Both the beginning and the end of an import are refused."""
    begun = log.run(began("replace", items=None))
    refused = []

    def look() -> None:
        building = log.look(lambda snapshot: any(not i.ready for i in snapshot.catalog.table("items").maintained))
        if building:
            for step in (began("replace", items=None), began("replaceAll", others=None), finished(begun)):
                with pytest.raises(errors.ImportRefused, match="still being built"):
                    log.run(step)
                refused.append(step)

    log.between = look
    log.declare({**TABLES, "items": {"by_n": ("n",), "by_m": ("m",)}})
    log.between = None
    assert refused


def test_each_step_belongs_to_its_own_table(log: MemoryStore) -> None:
    """An import's tablets have the indexes of their tables, with ids of their own."""
    begun = log.run(began("replace", items=None, others=None))
    ids = [
        log.look(lambda snapshot, name=name: {i.id for i in tablet_of(snapshot, begun, name).table.maintained})
        for name in ("items", "others")
    ]
    assert len(ids[0] | ids[1]) == 4


# Concurrent schema changes.


def no_sevens(data: bytes) -> tuple[list[str], bytes]:
    """Return a class that accepts every number but one."""
    return ["seven"] if decode(data)["n"] == 7 else [], data


CHANGES = {
    "the class": TABLES,
    "and a new index": {**TABLES, "items": {"by_n": ("n",), "by_m": ("m",)}},
    "and an index less": {**TABLES, "items": {}},
    "and another index": {**TABLES, "items": {"by_m": ("m",)}},
}
STEPS = 12
"""More than any of these changes has."""


def test_there_are_not_more_steps() -> None:
    """The cases below cover every step."""
    for tables in CHANGES.values():
        store = MemoryStore()
        store.declare(TABLES)
        store.run(unit(insert({"n": 1})))
        steps: list[None] = []
        store.between = lambda steps=steps: steps.append(None)
        store.declare(tables, validators={"items": no_sevens}, table_fingerprints={"items": "no sevens"})
        assert 1 < len(steps) <= STEPS


@pytest.mark.parametrize("tables", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("n", [7, 8])
def test_an_import_between_two_steps_of_a_change_is_validated(log: MemoryStore, tables: Any, step: int, n: int) -> None:
    """
    At any point, one of the two refuses documents that do not match the new class; the indexes are those declared.
    """
    begun = log.run(began("replace", items=None))
    log.run(filled(begun, "items", {"n": n, "m": 1}))
    left = [step]
    refused: list[errors.TinyvexError] = []

    def come_between() -> None:
        left[0] -= 1
        if left[0] == -1:
            try:
                log.run(finished(begun))
            except errors.ImportRefused as error:
                refused.append(error)

    log.between = come_between
    try:
        log.declare(tables, validators={"items": no_sevens}, table_fingerprints={"items": "no sevens"})
    except errors.SchemaRejected as error:
        refused.append(error)
    log.between = None
    present = log.look(lambda snapshot: numbers(snapshot, index="by_creation_time"))
    items = log.look(lambda snapshot: snapshot.catalog.table("items"))
    assert present == (
        [n] if left[0] < 0 and not any(isinstance(e, errors.ImportRefused) for e in refused) else [2, 1, 3]
    )
    if items.fingerprint == "no sevens":
        assert present != [7]
        assert set(items.indexes) == {"by_creation_time", *tables["items"]}
        for name in items.indexes:
            assert sorted(log.look(lambda snapshot, name=name: numbers(snapshot, index=name))) == sorted(present)
    else:
        assert present == [7]
        assert set(items.indexes) == {"by_creation_time", "by_n"}


def test_the_first_commit_of_a_change_plans_again_after_an_import(log: MemoryStore) -> None:
    """New indexes belong to the table's tablet of that time."""
    begun = log.run(began("replace", items=None))
    log.run(filled(begun, "items", {"n": 8, "m": 1}))
    seen = []

    def come_between() -> None:
        # Before the unit that makes the new index: the plan has been read.
        if not seen and log.look(lambda snapshot: snapshot.catalog.table("items").fingerprint) is None:
            seen.append(log.run(finished(begun)))

    original = log.read

    async def read(look: Any) -> Any:
        value = await original(look)
        if type(value).__name__ == "SchemaPlan":
            come_between()
        return value

    log.read = read
    log.declare(CHANGES["and a new index"])
    assert seen
    assert log.look(lambda snapshot: numbers(snapshot, index="by_m")) == [8]


@pytest.mark.parametrize("step", range(STEPS))
def test_a_table_made_by_both_at_once_is_one(log: MemoryStore, step: int) -> None:
    """The change uses the import's table, or the import is refused."""
    begun = log.run(began("empty", fresh=None))
    log.run(filled(begun, "fresh", {"n": 5}))
    left = [step]

    def come_between() -> None:
        left[0] -= 1
        if left[0] == -1:
            with contextlib.suppress(errors.ImportRefused):
                log.run(finished(begun))

    log.between = come_between
    log.declare({**TABLES, "fresh": {"by_n": ("n",)}}, validators={"fresh": no_sevens})
    log.between = None
    assert log.look(lambda s: [table.name for table in s.catalog.tables()].count("fresh")) == 1
    assert log.look(lambda snapshot: numbers(snapshot, table="fresh")) in ([], [5])
