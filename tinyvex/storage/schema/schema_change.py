"""
Change tables, indexes and code while the old ones keep serving.

::

    1. drop what an interrupted change left unfinished
    2. validate existing documents of tables whose class changed      reads, page by page
    3. commit: new tables, new indexes as *building*                  mutations maintain them from here on
    4. backfill the new indexes                                       one short unit after another
    5. stage the documents that the new classes store otherwise       one short unit after another
    6. walk the log for documents written since 2, if a class changed: validate them, and stage them if necessary
    7. commit: new indexes *ready*, removed ones *dropping*, staged documents visible, the code's fingerprint
    8. delete the entries of removed indexes                          one short unit after another

`schema_plan.py` compares the file with the app, and a file that fits needs none of this.

Mutations may write at any rate meanwhile, and the change still ends:

-   2, 4 and 5 read a table from its newest document to its oldest, so what mutations insert is behind them.
-   A step of 6 precedes all mutations that wait, and validates at least twice as many log rows as were written since the
    step before. So the rest shrinks with each step, and a step blocks the writer about as long as those writes did.

A change that is refused, or interrupted before 7, changes nothing that is served; if it is refused, its indexes are dropped.
Commit 7 is the code change. Every query's read set contains the one document of `_code`, so all live queries run again;
and a participant of the group commit that serves functions switches to the new code when it sees that document written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyvex.errors import SchemaRejected, TinyvexError
from tinyvex.limits import (
    BACKFILL_STEP_ROWS,
    DOCUMENT_BYTES_MAX,
    SCAN_PAGE_BYTES,
    SCAN_PAGE_ROWS,
    SCHEMA_VIOLATIONS_MAX,
)
from tinyvex.storage.engine.fair_shares import URGENT
from tinyvex.storage.log.catalog import BY_CREATION_TIME, Catalog, IndexInfo, IndexState, TableInfo
from tinyvex.storage.log.commit_record import CommitRecord, Outcome
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN
from tinyvex.storage.log.operations import SetNumbers
from tinyvex.storage.log.revisions import StoredDocument
from tinyvex.storage.log.system_tablets import CODE_INTERNAL, CODE_TABLET
from tinyvex.storage.schema.document_upgrade import (
    Upgrade,
    Validator,
    abandon_staged,
    is_staged,
    stage,
    upgrade_operations,
)
from tinyvex.storage.schema.index_backfill import backfill_step, drop_unfinished
from tinyvex.storage.schema.schema_plan import Declaration, SchemaPlan, plan_change, table_tablets
from tinyvex.storage.schema.system_tables import (
    SystemChange,
    change_code,
    documents,
    is_empty,
    system_tables,
    table_fields,
)
from tinyvex.storage.schema.table_drop import abandon_imports, remove_table
from tinyvex.values.ids import DocumentId

if TYPE_CHECKING:
    from tinyvex.storage.engine.store import Store

__all__ = ["change_schema"]


async def change_schema(
    store: Store,
    declaration: Declaration,
    *,
    validators: Mapping[str, Validator],
    fingerprint: str,
    table_fingerprints: Mapping[str, str],
) -> Catalog:
    """
    Make the database fit an app; one call at a time.

    A table that has an earlier name of a declared one is renamed: its documents, ids and indexes stay. If a table with the
    new name exists, it is replaced if it is empty; otherwise nothing is renamed.
    Tables that are no longer declared stay in the file and stay readable. If nothing differs, nothing is committed.

    Args:
        store: open for writing.
        declaration: the app's tables and indexes.
        validators: for each table with a class.
        fingerprint: of the app's code.
        table_fingerprints: of each table's class; documents are validated only if it changed.

    Returns:
        The catalog after the change.

    Raises:
        SchemaRejected: existing documents do not fit; `violations` lists up to SCHEMA_VIOLATIONS_MAX of `total`, with id
            and problem; `kinds` counts the documents of each problem.
        StorageError: the file cannot be written.
    """
    change = _SchemaChange(store, declaration, validators, fingerprint, table_fingerprints)
    return await change.run()


class _PlanOutdated(Exception):
    """A table was dropped, or received documents, so that the plan does not fit any more."""


PASSED_ROW = 1 / 32
"""The cost of a log row that need not be validated, such as a staged one, compared with one that must be."""


class _Position(NamedTuple):
    """
    The position of the walk through the log.

    Attributes:
        validated: the last log row that was validated.
        newest: the newest log row after that step, with what it staged.
        tablets: of each table.
    """

    validated: int
    newest: int
    tablets: Mapping[str, int]


class _SchemaChange:
    def __init__(
        self,
        store: Store,
        declaration: Declaration,
        validators: Mapping[str, Validator],
        fingerprint: str,
        table_fingerprints: Mapping[str, str],
    ) -> None:
        self._store = store
        self._declaration = declaration
        self._validators = validators
        self._fingerprint = fingerprint
        self._table_fingerprints = table_fingerprints

    async def run(self) -> Catalog:
        while True:
            try:
                return await self._attempt()
            except _PlanOutdated:
                pass
            except Exception:
                # A table with an index that is being built refuses imports. If this fails too, the next change drops it.
                with contextlib.suppress(TinyvexError):
                    await drop_unfinished(self._store)
                raise

    async def _attempt(self) -> Catalog:
        store = self._store
        await drop_unfinished(store)
        await store.write(_abandon_staged)
        plan = await store.read(self._plan_change)
        if not plan.empty():
            await self._validate_existing(plan)
            while (tablets := await store.write(partial(self._prepare, plan))) is None:
                plan = await store.read(self._plan_change)
                await self._validate_existing(plan)
            await self._backfill()
            await self._stage(plan)
            await self._switch_over(plan, tablets)
            await drop_unfinished(store)
        return await store.read(lambda snapshot: snapshot.catalog)

    def _plan_change(self, snapshot: Snapshot) -> SchemaPlan:
        return plan_change(self._declaration, self._fingerprint, self._table_fingerprints, snapshot)

    def _validators_of(self, plan: SchemaPlan) -> dict[str, Validator]:
        """Return the validators by the names that the tables have in the file."""
        current = {new: old for old, new in plan.renames.items()}
        return {current.get(name, name): validate for name, validate in self._validators.items()}

    # 2. Validate existing documents.

    async def _validate_existing(self, plan: SchemaPlan) -> None:
        validators = self._validators_of(plan)
        violations = _Violations(validators, plan.outdated)
        for name in plan.fingerprints:
            if name in validators and name not in plan.new_tables:
                hi: bytes | None = KEY_MAX
                while hi is not None:
                    hi = await self._store.read(partial(_validate_page, violations, name, hi))
        violations.refuse()

    # 3. Create tables, which are empty, so their indexes are ready; and indexes of other tables, which must be built.

    def _prepare(self, plan: SchemaPlan, snapshot: Snapshot, ts: int) -> Outcome[Mapping[str, int] | None]:
        """Return each table's tablet after this commit; None if an import gave a table another tablet since the plan."""
        if table_tablets(snapshot) != plan.tablets:
            return Outcome(None)
        change = SystemChange(snapshot, ts)
        numbers = snapshot.globals()
        number, tablet, index_id = (numbers[f"next_{name}"] for name in ("table_number", "tablet", "index_id"))
        catalog = snapshot.catalog
        tables, indexes = system_tables(catalog)

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

        created: dict[str, int] = {}
        for name in plan.new_tables:
            created[name] = tablet
            change.insert(tables, table_fields(name, number, tablet))
            add_index(tablet, BY_CREATION_TIME, ("_creationTime",), "ready")
            for index_name, fields in plan.declared[name].items():
                add_index(tablet, index_name, fields, "ready")
            number += 1
            tablet += 1
        for name, index_name in plan.new_indexes:
            fields = plan.declared[name][index_name]
            add_index(catalog.table(name).tablet, index_name, fields, "building")

        record = change.record()
        if record is not None:
            record = change.record(SetNumbers(number, tablet, index_id))
        return Outcome(dict(plan.tablets) | created, record)

    # 4. Backfill.

    async def _backfill(self) -> None:
        catalog = await self._store.read(lambda snapshot: snapshot.catalog)
        for table in catalog.tables():
            if table.building:
                hi: bytes | None = KEY_MAX
                while hi is not None:
                    hi = await self._store.write(partial(backfill_step, table.name, hi))

    # 5. Stage upgraded documents.

    async def _stage(self, plan: SchemaPlan) -> None:
        for name in sorted(plan.outdated):
            hi: bytes | None = KEY_MAX
            while hi is not None:
                hi = await self._store.write(partial(self._stage_page, plan, name, hi))

    def _stage_page(self, plan: SchemaPlan, name: str, hi: bytes, snapshot: Snapshot, ts: int) -> Outcome[bytes | None]:
        """Stage some documents of a table, below the key `hi`; the value is the next `hi`, None at the end."""
        table = _declared_table(name, snapshot)
        validate = self._validators_of(plan)[name]
        page = snapshot.page(table.indexes[BY_CREATION_TIME], KEY_MIN, hi, reverse=True, limit=BACKFILL_STEP_ROWS)
        upgrades = []
        for stored in page:
            problems, json = validate(stored.json, snapshot.catalog)
            if not problems and json != stored.json:
                upgrades.append(Upgrade(table, stored, json))
        return Outcome(None if page.complete else page[-1].key, stage(snapshot, ts, plan.staged, upgrades))

    # 6 and 7. Walk the log, and change the code.

    async def _switch_over(self, plan: SchemaPlan, tablets: Mapping[str, int]) -> None:
        newest = await self._store.read(Snapshot.newest_row)
        position: _Position | None = _Position(plan.newest_row, newest, tablets)
        while position is not None:
            position = await self._store.write(partial(self._code_change, plan, position), client=URGENT)

    def _code_change(
        self, plan: SchemaPlan, position: _Position, snapshot: Snapshot, ts: int
    ) -> Outcome[_Position | None]:
        """
        Make the final commit, or take one more step of the walk through the log; the value is the position to continue from.

        If an import gave a table another tablet, its documents may be older in the log than the plan, so the walk restarts.

        Raises:
            _PlanOutdated: the change must begin again.
        """
        _require_fit(plan, snapshot)
        validated = self._validated_tables(plan, snapshot)
        if not validated:
            return Outcome(None, self._final_record(plan, [], snapshot, ts))
        newest = snapshot.newest_row()
        now = {name: tablet for name, tablet in table_tablets(snapshot).items() if name in position.tablets}
        if now != position.tablets:
            return Outcome(_Position(0, newest, now))
        required = 2 * (newest - position.newest)
        upgrades, last_row = self._validate_rows(plan, position.validated, required, validated, snapshot)
        if last_row is not None:
            position = _Position(last_row, newest + len(upgrades), now)
            return Outcome(position, stage(snapshot, ts, plan.staged, upgrades))
        return Outcome(None, self._final_record(plan, upgrades, snapshot, ts))

    def _validated_tables(self, plan: SchemaPlan, snapshot: Snapshot) -> dict[int, TableInfo]:
        """Return the tables whose class changed, by tablet."""
        validators = self._validators_of(plan)
        return {
            table.tablet: table
            for table in snapshot.catalog.tables()
            if table.name in plan.fingerprints and table.name in validators
        }

    def _final_record(self, plan: SchemaPlan, upgrades: list[Upgrade], snapshot: Snapshot, ts: int) -> CommitRecord:
        change = SystemChange(snapshot, ts)
        _carry_out(plan, self._declaration, snapshot, change)
        abandon_staged(change, snapshot)
        abandon_imports(change, snapshot, {*plan.renames, *plan.renames.values()})
        code = snapshot.get(CODE_TABLET, CODE_INTERNAL)
        if code is None:
            change.insert(snapshot.catalog.table("_code"), {"fingerprint": self._fingerprint}, CODE_INTERNAL)
        else:
            change_code(change, code, fingerprint=self._fingerprint)

        def maintained(table: TableInfo) -> list[IndexInfo]:
            return [index for index in table.maintained if not _is_dropped(plan, table, index)]

        record = change.record(*upgrade_operations(snapshot, ts, plan.staged, upgrades, maintained))
        assert record is not None
        return record

    def _validate_rows(
        self, plan: SchemaPlan, after: int, required: int, tables: Mapping[int, TableInfo], snapshot: Snapshot
    ) -> tuple[list[Upgrade], int | None]:
        """
        Validate documents that were written after a log row.

        Args:
            plan: states what is staged.
            after: the last log row that was validated.
            required: rows to validate whatever their size; more only up to BACKFILL_STEP_ROWS and SCAN_PAGE_BYTES.
            tables: those to validate, by tablet.
            snapshot: the newest state.

        Returns:
            The documents to be upgraded; and the last log row that was validated, None if there are no more.
        """
        violations = _Violations(self._validators_of(plan), plan.outdated)
        upgrades = []
        seen = set()
        size, rows, complete = 0, 0.0, False
        for log_row, tablet, internal in snapshot.rows_since(after):
            if rows >= required and (rows >= BACKFILL_STEP_ROWS or size > SCAN_PAGE_BYTES):
                break
            after = log_row
            if tablet not in tables or (tablet, internal) in seen:
                rows += PASSED_ROW
                continue
            rows += 1
            seen.add((tablet, internal))
            table, stored = tables[tablet], snapshot.get(tablet, internal)
            if stored is None:
                continue
            json = violations.validate(table, stored, snapshot.catalog)
            if json != stored.json and not is_staged(snapshot, plan.staged, table, stored):
                upgrades.append(Upgrade(table, stored, json))
                size += len(json)
        else:
            complete = True
        violations.refuse()
        return upgrades, None if complete else after


def _abandon_staged(snapshot: Snapshot, ts: int) -> Outcome[None]:
    change = SystemChange(snapshot, ts)
    abandon_staged(change, snapshot)
    return Outcome(None, change.record())


def _is_dropped(plan: SchemaPlan, table: TableInfo, index: IndexInfo) -> bool:
    """Return whether an index is removed; a new index with its name, which is being built, is not."""
    return index.ready and (table.name, index.name) in plan.dropped_indexes


def _require_fit(plan: SchemaPlan, snapshot: Snapshot) -> None:
    """
    Check that a declared table was not dropped, and that a table in the place of a renamed one is still empty.

    Raises:
        _PlanOutdated: one was, or is not.
    """
    catalog = snapshot.catalog
    if any(name not in catalog for name in plan.declared):
        raise _PlanOutdated
    if any(new in catalog and not is_empty(snapshot, catalog.table(new)) for new in plan.renames.values()):
        raise _PlanOutdated


def _carry_out(plan: SchemaPlan, declaration: Declaration, snapshot: Snapshot, change: SystemChange) -> None:
    tables, indexes = system_tables(snapshot.catalog)
    replaced = {new for new in plan.renames.values() if new in snapshot.catalog}
    for name in sorted(replaced):
        remove_table(change, snapshot, snapshot.catalog.table(name))
    # By name: an import may have given a table other indexes with these names since the plan.
    table_names = {tablet: name for name, tablet in table_tablets(snapshot).items()}
    for document in documents(snapshot, indexes):
        if table_names.get(document.fields["tablet"]) in replaced:
            continue
        if document.fields["state"] == "building":
            change.update(indexes, document, state="ready", everReady=True)
        elif (table_names.get(document.fields["tablet"]), document.fields["name"]) in plan.dropped_indexes:
            change.update(indexes, document, state="dropping")
    for document in documents(snapshot, tables):
        old_name: str = document.fields["name"]
        if old_name in replaced:
            continue
        if old_name in plan.fingerprints or old_name in plan.renames:
            name = plan.renames.get(old_name, old_name)
            fields: dict[str, str | None] = {"name": name}
            if old_name in plan.fingerprints:
                fields |= {"fingerprint": plan.fingerprints[old_name], "schema": declaration.schemas.get(name)}
            change.update(tables, document, **fields)


def _declared_table(name: str, snapshot: Snapshot) -> TableInfo:
    if name not in snapshot.catalog:
        raise _PlanOutdated
    return snapshot.catalog.table(name)


def _validate_page(violations: _Violations, name: str, hi: bytes, snapshot: Snapshot) -> bytes | None:
    """Validate some documents below the key `hi`; return the next `hi`, None at the end."""
    table = _declared_table(name, snapshot)
    page = snapshot.page(table.indexes[BY_CREATION_TIME], KEY_MIN, hi, reverse=True, limit=SCAN_PAGE_ROWS)
    for stored in page:
        violations.validate(table, stored, snapshot.catalog)
    return None if page.complete else page[-1].key


class _Violations:
    """Collects documents that do not fit, and the tables that have documents to be upgraded."""

    def __init__(self, validators: Mapping[str, Validator], outdated: set[str]) -> None:
        self._validators = validators
        self._outdated = outdated
        self._listed: list[dict[str, Any]] = []
        self._kinds: dict[tuple[str, str], dict[str, Any]] = {}
        self._total = 0

    def validate(self, table: TableInfo, stored: StoredDocument, catalog: Catalog) -> bytes:
        """Validate one document; return the JSON that is to be stored of it."""
        problems, json = self._validators[table.name](stored.json, catalog)
        if not problems and json != stored.json:
            self._outdated.add(table.name)
            if len(json) > DOCUMENT_BYTES_MAX:
                problems = [f"with its defaults it has {len(json)} bytes; the limit is {DOCUMENT_BYTES_MAX}"]
        for problem in problems:
            self._total += 1
            entry = {"table": table.name, "id": DocumentId(table.number, stored.internal).text, "problem": problem}
            if len(self._listed) < SCHEMA_VIOLATIONS_MAX:
                self._listed.append(entry)
            kind = self._kinds.get((table.name, problem))
            if kind is not None:
                kind["documents"] += 1
            elif len(self._kinds) < SCHEMA_VIOLATIONS_MAX:
                self._kinds[table.name, problem] = entry | {"documents": 1}
        return json

    def refuse(self) -> None:
        """
        Refuse the change if there were any problems.

        Raises:
            SchemaRejected: there were.
        """
        if self._total:
            first = self._listed[0]
            problems = "1 problem" if self._total == 1 else f"{self._total} problems"
            raise SchemaRejected(
                f"{problems} in existing documents, the first in table `{first['table']}`,"
                f" document `{first['id']}`: {first['problem']};"
                " give a new field a default, keep an old one, or change the documents first",
                violations=self._listed,
                kinds=list(self._kinds.values()),
                total=self._total,
            )
