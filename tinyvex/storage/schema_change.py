"""
Changing tables, indexes and code while the old ones go on serving.

::

    1. drop what an interrupted change left unfinished
    2. validate existing documents of tables whose class changed      reading, page by page
    3. commit: new tables, new indexes as *building*                  mutations maintain them from here on
    4. backfill the new indexes                                       one short unit after another
    5. commit: new indexes *ready*, removed ones *dropping*, the code's fingerprint; documents written since 2 fit too
    6. delete the entries of removed indexes                          one short unit after another

A change that is refused, or interrupted before 5, changes nothing that is served.
Commit 5 is the code change: every query's read set has the one document of `_code`, so all live queries run again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tinyvex.errors import SchemaRejected
from tinyvex.limits import BACKFILL_STEP_ROWS, SCAN_PAGE_ROWS, SCHEMA_VIOLATIONS_MAX
from tinyvex.storage import queries
from tinyvex.storage.catalog import (
    BY_CREATION_TIME,
    CODE_TABLET,
    INDEXES_TABLET,
    TABLES_TABLET,
    Catalog,
    IndexState,
    TableInfo,
)
from tinyvex.storage.database import set_global
from tinyvex.storage.log import Outcome, Snapshot, StoredDocument
from tinyvex.storage.ranges import KEY_MAX, KEY_MIN, successor
from tinyvex.storage.system import SystemChange, SystemDocument, documents
from tinyvex.values.codec import decode_canonical
from tinyvex.values.ids import DocumentId

if TYPE_CHECKING:
    from tinyvex.storage.store import Store

__all__ = ["CODE_INTERNAL", "CODE_TABLET", "Declaration", "change_schema"]

CODE_INTERNAL = b"the served code."
"""The internal id of the one document of `_code`."""

Validator = Callable[[bytes], list[str]]


@dataclass(frozen=True, slots=True)
class Declaration:
    """The tables that an app declares: for each its indexes, and for each of those its fields."""

    tables: Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(slots=True)
class _Plan:
    """What differs between the file and the app."""

    new_tables: list[str] = field(default_factory=list)
    new_indexes: list[tuple[str, str]] = field(default_factory=list)
    dropped_indexes: list[int] = field(default_factory=list)
    fingerprints: dict[str, str | None] = field(default_factory=dict)
    code: bool = False
    newest_row: int = 0

    def empty(self) -> bool:
        return not (self.new_tables or self.new_indexes or self.dropped_indexes or self.fingerprints or self.code)


async def change_schema(
    store: Store,
    declaration: Declaration,
    *,
    validators: Mapping[str, Validator],
    fingerprint: str,
    table_fingerprints: Mapping[str, str],
    switch: Callable[[int], None] | None = None,
    unswitch: Callable[[int], None] | None = None,
) -> Catalog:
    """
    Make the database fit an app; one call at a time.

    Tables that are no longer declared stay in the file and stay readable.
    Where nothing differs, nothing is committed.

    Args:
        store: open for writing.
        declaration: the app's tables and indexes.
        validators: for each table with a class: a document's JSON to what is wrong with it.
        fingerprint: of the app's code.
        table_fingerprints: of each table's class; documents are validated only where it changed.
        switch: called on the writer's thread with the code change's `ts`, so that units after it run the new code.
        unswitch: takes a `switch` back, because its commit failed.

    Returns:
        The catalog afterwards.

    Raises:
        SchemaRejected: existing documents do not fit; `violations` lists up to 100 of `total`, with id and problem.
        StorageError: the file cannot be written.
    """
    change = _SchemaChange(store, declaration, validators, fingerprint, table_fingerprints, switch, unswitch)
    return await change.run()


class _SchemaChange:
    def __init__(
        self,
        store: Store,
        declaration: Declaration,
        validators: Mapping[str, Validator],
        fingerprint: str,
        table_fingerprints: Mapping[str, str],
        switch: Callable[[int], None] | None,
        unswitch: Callable[[int], None] | None,
    ) -> None:
        self._store = store
        self._declaration = declaration
        self._validators = validators
        self._fingerprint = fingerprint
        self._table_fingerprints = table_fingerprints
        self._switch = switch
        self._unswitch = unswitch
        self._switched: int | None = None
        self._violations = _Violations(validators)

    async def run(self) -> Catalog:
        store = self._store
        await _drop_unfinished(store)
        plan = await store.read(self._plan)
        if not plan.empty():
            await self._validate_existing(plan)
            await store.write(partial(self._prepare, plan))
            await self._backfill()
            await self._switch_over(plan)
            await _drop_unfinished(store)
        return await store.read(lambda snapshot: snapshot.catalog)

    # 1. What differs.

    def _plan(self, snapshot: Snapshot) -> _Plan:
        plan = _Plan(newest_row=snapshot.newest_row())
        code = snapshot.get(CODE_TABLET, CODE_INTERNAL)
        plan.code = code is None or _fields(code)["fingerprint"] != self._fingerprint
        existing = set(snapshot.catalog.names())
        for name, indexes in self._declaration.tables.items():
            fingerprint = self._table_fingerprints.get(name)
            if name not in existing:
                plan.new_tables.append(name)
                plan.fingerprints[name] = fingerprint
                continue
            table = snapshot.catalog.table(name)
            if table.fingerprint != fingerprint:
                plan.fingerprints[name] = fingerprint
            for index_name, index in table.indexes.items():
                if index_name != BY_CREATION_TIME and indexes.get(index_name) != index.fields:
                    plan.dropped_indexes.append(index.id)
            for index_name, fields in indexes.items():
                if index_name not in table.indexes or table.indexes[index_name].fields != fields:
                    plan.new_indexes.append((name, index_name))
        # What is written to a table that no class describes must be looked at when one does again.
        for name in existing - set(self._declaration.tables):
            if snapshot.catalog.table(name).fingerprint is not None:
                plan.fingerprints[name] = None
        return plan

    # 2. Do the documents fit?

    async def _validate_existing(self, plan: _Plan) -> None:
        for name in plan.fingerprints:
            if name in self._validators and name not in plan.new_tables:
                lo: bytes | None = KEY_MIN
                while lo is not None:
                    lo = await self._store.read(partial(self._validate_page, name, lo))
        self._violations.refuse()

    def _validate_page(self, name: str, lo: bytes, snapshot: Snapshot) -> bytes | None:
        """Look at some documents; where to go on, None at the end."""
        table = snapshot.catalog.table(name)
        page = snapshot.page(table.indexes[BY_CREATION_TIME], lo, KEY_MAX, limit=SCAN_PAGE_ROWS)
        for stored in page:
            self._violations.look(table, stored)
        return None if page.complete else successor(page[-1].key)

    # 3. New tables, which are empty, so their indexes are ready; new indexes of others, to be built.

    def _prepare(self, plan: _Plan, snapshot: Snapshot, ts: int) -> Outcome[None]:
        change = SystemChange(snapshot, ts)
        numbers = snapshot.globals()
        number, tablet, index_id = (numbers[f"next_{name}"] for name in ("table_number", "tablet", "index_id"))
        catalog = snapshot.catalog
        tables, indexes = _system_tables(catalog)

        def add_index(of: int, name: str, fields: tuple[str, ...], state: IndexState) -> None:
            nonlocal index_id
            change.insert(
                indexes,
                {
                    "tablet": of, "indexId": index_id, "name": name, "fields": list(fields), "state": state,
                    "everReady": state == "ready",
                },
            )  # fmt: skip
            index_id += 1

        for name in plan.new_tables:
            change.insert(tables, {"name": name, "number": number, "tablet": tablet, "fingerprint": None})
            add_index(tablet, BY_CREATION_TIME, ("_creationTime",), "ready")
            for index_name, fields in self._declaration.tables[name].items():
                add_index(tablet, index_name, fields, "ready")
            number += 1
            tablet += 1
        for name, index_name in plan.new_indexes:
            fields = self._declaration.tables[name][index_name]
            add_index(catalog.table(name).tablet, index_name, fields, "building")

        def store_numbers(connection: sqlite3.Connection) -> None:
            set_global(connection, "next_table_number", number)
            set_global(connection, "next_tablet", tablet)
            set_global(connection, "next_index_id", index_id)

        record = change.record()
        return Outcome(None, record, None if record is None else store_numbers)

    # 4. Documents that are older than an index.

    async def _backfill(self) -> None:
        catalog = await self._store.read(lambda snapshot: snapshot.catalog)
        for table in catalog.tables():
            if not all(index.ready for index in table.maintained):
                lo: bytes | None = KEY_MIN
                while lo is not None:
                    lo = await self._store.write(partial(_backfill_step, table.name, lo))

    # 5. The code change.

    async def _switch_over(self, plan: _Plan) -> None:
        try:
            while not await self._store.write(partial(self._code_change, plan)):
                pass
        except BaseException:
            if self._switched is not None and self._unswitch is not None:
                self._unswitch(self._switched)
            raise

    def _code_change(self, plan: _Plan, snapshot: Snapshot, ts: int) -> Outcome[bool]:
        """The commit that makes all of it current; the value is False where there is more to validate first."""
        if not self._validate_since(plan, snapshot):
            return Outcome(value=False)
        change = SystemChange(snapshot, ts)
        tables, indexes = _system_tables(snapshot.catalog)
        for found in list(documents(snapshot, indexes)):
            if found.fields["state"] == "building":
                change.update(indexes, found, state="ready", everReady=True)
            elif found.fields["indexId"] in plan.dropped_indexes:
                change.update(indexes, found, state="dropping")
        for found in list(documents(snapshot, tables)):
            name = found.fields["name"]
            if name in plan.fingerprints:
                change.update(tables, found, fingerprint=plan.fingerprints[name])
        code_table = snapshot.catalog.table("_code")
        code = snapshot.get(CODE_TABLET, CODE_INTERNAL)
        if code is None:
            change.insert(code_table, {"fingerprint": self._fingerprint}, CODE_INTERNAL)
        else:
            change.update(code_table, SystemDocument(code, _fields(code)), fingerprint=self._fingerprint)

        def switch(_: sqlite3.Connection) -> None:
            if self._switched is not None and self._unswitch is not None:
                self._unswitch(self._switched)  # the group was rolled back, and this is its second run
            if self._switch is not None:
                self._switch(ts)
                self._switched = ts

        return Outcome(True, change.record(), switch)

    def _validate_since(self, plan: _Plan, snapshot: Snapshot) -> bool:
        """Look at what the old code wrote meanwhile, some of it at a time; True when that was all."""
        tablets = {
            table.tablet: table
            for table in snapshot.catalog.tables()
            if table.name in plan.fingerprints and table.name in self._validators
        }
        rows = snapshot.rows_since(plan.newest_row, BACKFILL_STEP_ROWS)
        for log_row, tablet, internal, _, _ in rows:
            plan.newest_row = log_row
            if tablet in tablets and (stored := snapshot.get(tablet, internal)) is not None:
                self._violations.look(tablets[tablet], stored)
        self._violations.refuse()
        return len(rows) < BACKFILL_STEP_ROWS


class _Violations:
    """What does not fit."""

    def __init__(self, validators: Mapping[str, Validator]) -> None:
        self._validators = validators
        self._listed: list[dict[str, Any]] = []
        self._total = 0

    def look(self, table: TableInfo, stored: StoredDocument) -> None:
        """Validate one document."""
        for problem in self._validators[table.name](stored.json):
            self._total += 1
            if len(self._listed) < SCHEMA_VIOLATIONS_MAX:
                text = DocumentId(table.number, stored.internal).text
                self._listed.append({"table": table.name, "id": text, "problem": problem})

    def refuse(self) -> None:
        """
        Raise if there were any.

        Raises:
            SchemaRejected: there were.
        """
        if self._total:
            first = self._listed[0]
            raise SchemaRejected(
                f"{self._total} problems in existing documents, the first in table {first['table']!r},"
                f" document {first['id']}: {first['problem']}",
                violations=self._listed,
                total=self._total,
            )


def _fields(stored: StoredDocument) -> dict[str, Any]:
    fields = decode_canonical(stored.json)
    assert isinstance(fields, dict), fields
    return fields


def _system_tables(catalog: Catalog) -> tuple[TableInfo, TableInfo]:
    tables, indexes = catalog.tablet(TABLES_TABLET), catalog.tablet(INDEXES_TABLET)
    assert tables is not None
    assert indexes is not None
    return tables, indexes


def _backfill_step(name: str, lo: bytes, snapshot: Snapshot, ts: int) -> Outcome[bytes | None]:
    """
    Enter some documents into the indexes being built; where to go on, None at the end.

    A document that was written since the index began has its entry already.
    An entry gets the `ts` of its document's revision: there is no older one that could be read through this index.
    """
    table = snapshot.catalog.table(name)
    building = [index for index in table.maintained if not index.ready]
    page = snapshot.page(table.indexes[BY_CREATION_TIME], lo, KEY_MAX, limit=BACKFILL_STEP_ROWS)
    entries = []
    for stored in page:
        document = _fields(stored)
        for index in building:
            key = index.key(document, stored.internal)
            entries.append(
                {"index": index.id, "key": key, "ts": stored.ts, "tablet": table.tablet, "internal": stored.internal}
            )

    def enter(connection: sqlite3.Connection) -> None:
        connection.executemany(queries.BACKFILL_INDEX, entries)
        connection.executemany(queries.BACKFILL_CURRENT, entries)

    return Outcome(None if page.complete else successor(page[-1].key), None, enter)


async def _drop_unfinished(store: Store) -> None:
    """
    Drop the indexes whose time is over: those that are *dropping*, and those whose building was interrupted.

    Of a dropped index the log keeps its entries, so that reads at an older `ts` can use it;
    one that was never ready leaves nothing.
    """
    for found in await store.write(_stop_building):
        index_id = found.fields["indexId"]
        statements = [queries.DROP_CURRENT_STEP]
        if not found.fields["everReady"]:
            statements.append(queries.DROP_INDEX_STEP)
        for statement in statements:
            while await _delete_step(store, statement, index_id) == BACKFILL_STEP_ROWS:
                pass
        await store.write(partial(_forget_index, index_id))


def _stop_building(snapshot: Snapshot, ts: int) -> Outcome[list[SystemDocument]]:
    change = SystemChange(snapshot, ts)
    _, indexes = _system_tables(snapshot.catalog)
    over = [found for found in documents(snapshot, indexes) if found.fields["state"] != "ready"]
    for found in over:
        if found.fields["state"] == "building":
            change.update(indexes, found, state="dropping")
    return Outcome(over, change.record())


async def _delete_step(store: Store, statement: str, index_id: int) -> int:
    deleted = 0

    def delete(connection: sqlite3.Connection) -> None:
        nonlocal deleted
        deleted = connection.execute(statement, (index_id, BACKFILL_STEP_ROWS)).rowcount

    await store.write(lambda _snapshot, _ts: Outcome(None, None, delete))
    return deleted


def _forget_index(index_id: int, snapshot: Snapshot, ts: int) -> Outcome[None]:
    change = SystemChange(snapshot, ts)
    _, indexes = _system_tables(snapshot.catalog)
    for found in documents(snapshot, indexes):
        if found.fields["indexId"] == index_id:
            change.delete(indexes, found)
    return Outcome(None, change.record())
