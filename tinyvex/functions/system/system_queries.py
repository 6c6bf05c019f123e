"""
Queries of the system: they read the data of any app, whatever it declares.

The CLI's data commands and the dashboard call them. Each reads at most one table or one page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tinyvex.errors import InvalidValue, UnknownIndex
from tinyvex.functions.result.rows import Page
from tinyvex.functions.schema.document import DocumentMapping
from tinyvex.functions.system.row_search import page_of, ranges_where
from tinyvex.functions.system.system_context import SystemQueryCtx
from tinyvex.functions.transaction.query_builder import Query, Source
from tinyvex.limits import DOCUMENT_BYTES_MAX, RESULT_BYTES_MAX, SCAN_PAGE_BYTES, SCAN_PAGE_ROWS
from tinyvex.storage.log.clock_history import ClockHistory
from tinyvex.values import codec
from tinyvex.values.stored_schema import types_at
from tinyvex.values.suggestions import did_you_mean

if TYPE_CHECKING:
    from tinyvex.functions.transaction.index_range import IndexRange
    from tinyvex.storage.log.catalog import TableInfo

__all__ = ["PAGE_ROWS", "SYSTEM_QUERIES"]

PAGE_ROWS = RESULT_BYTES_MAX // DOCUMENT_BYTES_MAX - 1
"""A page of documents of the maximum size still fits into one result."""

_INSTANTS_AND_NO_TEXT = {"datetime", "null", "bool", "int", "int64", "float"}
"""Types of a stored schema: a field of these holds no text but instants."""

Conditions = dict[str, Any]
"""Fields of an index, and the values that they are compared with."""


def tables(ctx: SystemQueryCtx) -> list[str]:
    """Return the names of all tables, sorted; tables that the app no longer declares are among them."""
    return sorted(table["name"] for table in ctx.db.query("_tables"))


def count(ctx: SystemQueryCtx, table: str) -> int:
    """Count the documents of a table."""
    return ctx.db.query(table).count()


def span(ctx: SystemQueryCtx, time: int | None = None, now: int | None = None) -> dict[str, int]:
    """
    Return the readable timestamps: from `floorTs` (0 if nothing has expired) to `lastTs`, the newest commit.

    Given a wall clock time and the present, both in microseconds, `timeTs` is the `ts` of the state at that time.
    """
    stored, last_ts = ctx.snapshot.globals(), ctx.snapshot.ts
    readable = {"floorTs": stored["floor_ts"], "lastTs": last_ts}
    if time is None or now is None:
        return readable
    clock = ClockHistory.stored(stored).observed(last_ts, now)
    return {**readable, "timeTs": clock.snapshot_at(time, stored["created_us"])}


def rows(
    ctx: SystemQueryCtx,
    table: str,
    order: Literal["asc", "desc"] = "desc",
    cursor: str | None = None,
    size: int = PAGE_ROWS,
    index: str = "by_creation_time",
    eq: Conditions | None = None,
    gt: Conditions | None = None,
    gte: Conditions | None = None,
    lt: Conditions | None = None,
    lte: Conditions | None = None,
) -> Page[Mapping[str, Any]]:
    """
    Return a page of a table's documents, in a range of an index.

    A number is compared with `Int64`s and with plain numbers: JSON cannot distinguish them.
    An instant may have any form, such as `2026-01-31T09:30:00+02:00`, if the field holds instants.

    Raises:
        InvalidValue: the field holds only instants, and is compared with other text.
        UnknownIndex: the table has no such index, or a condition is not on the index's next field.
    """
    bounds = {"gt": gt or {}, "gte": gte or {}, "lt": lt or {}, "lte": lte or {}}
    equalities = eq or {}
    info = ctx.snapshot.catalog.table(table)
    _check_index(info, index, [*equalities, *(field for conditions in bounds.values() for field in conditions)])
    _check_instants(ctx, table, [equalities, *bounds.values()])
    # Untyped: the app may declare no class for the table, or another one than at the time that is read.
    source = ctx.untyped_source(info)
    order_of_fields = [*info.indexes[index].fields, "_creationTime"].index
    equal = {field: equalities[field] for field in sorted(equalities, key=order_of_fields)}
    ranges = ranges_where(source.index_range(index), equal, bounds, partial(_holds_instants, source))
    if len(ranges) > 1:
        # The journal of a live query is a cursor of one range, which may not be the first with rows the next time.
        source = ctx.untyped_source(info, with_journal=False)
    reverse = order == "desc"
    queries = [Query(source, keys, reverse=reverse) for keys in ranges]
    return page_of(queries[::-1] if reverse else queries, cursor, size)


def _check_instants(ctx: SystemQueryCtx, table: str, conditions: list[Conditions]) -> None:
    """Refuse text that is not an instant for a field that can hold no other text: it would find nothing."""
    texts = {
        field: value
        for each in conditions
        for field, value in each.items()
        if isinstance(value, str) and codec.as_instant(value) is None
    }
    if not texts:
        return
    schemas = [stored.get("schema") for stored in ctx.db.query("_tables") if stored["name"] == table]
    for field, value in texts.items():
        types = set() if not schemas or schemas[0] is None else types_at(schemas[0], field)
        if "datetime" in types and types <= _INSTANTS_AND_NO_TEXT:
            raise InvalidValue(
                f"`{field}` holds instants, such as `2026-01-31T09:30:00Z`; `{value}` is not one", path=f"$.{field}"
            )


def _holds_instants(source: Source[Mapping[str, Any]], keys: IndexRange, field: str) -> bool:
    """Return whether the first text in a field is an instant in its stored form; a field of instants has no other text."""
    value: Any = Query(source, keys.above(field, "", inclusive=True)).first()
    for name in field.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return isinstance(value, str) and codec.as_instant(value) == value


def _check_index(table: TableInfo, name: str, fields: list[str]) -> None:
    """Refuse an unknown index, or a field that it does not have, and list the table's indexes."""
    index = table.indexes.get(name)
    unknown = [] if index is None else [field for field in fields if field not in {*index.fields, "_creationTime"}]
    if index is None or unknown:
        known = ", ".join(f"`{each.name}` ({', '.join(each.fields)})" for each in table.indexes.values())
        problem = (
            f"`{name}` is not an index of table `{table.name}`" if index is None else
            f"`{unknown[0]}` is not a field of index `{name}` of table `{table.name}`"
        )  # fmt: skip
        names = table.indexes if index is None else (*index.fields, "_creationTime")
        hint = did_you_mean(name if index is None else unknown[0], names)
        raise UnknownIndex(f"{problem}; its indexes are {known}{hint}", table=table.name, index=name)


def history(ctx: SystemQueryCtx, document: str, after: int = 0) -> dict[str, Any]:
    """
    Return one page of a document's retained revisions, oldest first.

    Each has its `ts`, its `document` (null for a deletion), and `prevTs` if there was an earlier revision.
    If the first has a `prevTs`, older revisions have expired.

    Args:
        ctx: the context.
        document: the document's id.
        after: the last `ts` of the previous page.
    """
    from tinyvex.storage.maintenance.document_history import document_history

    table, document_key = ctx.observe_document(document)
    page: list[dict[str, Any]] = []
    size, is_done = 0, True
    for revision in document_history(ctx.snapshot, table, document_key, after):
        if size >= SCAN_PAGE_BYTES or len(page) == SCAN_PAGE_ROWS:
            is_done = False
            break
        stored = None if revision.json is None else DocumentMapping(revision.json)
        page.append({"ts": revision.ts, "prevTs": revision.prev_ts, "document": stored})
        size += len(revision.json or b"")
    return {"table": table.name, "revisions": page, "isDone": is_done}


def functions(ctx: SystemQueryCtx) -> str:
    """
    Return the descriptions of the app's functions, as they are served now.

    They are JSON in a string: schemas have keys, such as `$ref`, that values may not have.
    """
    return json.dumps([spec.describe() for spec in ctx.app.functions.values()])


SYSTEM_QUERIES = (tables, count, span, rows, history, functions)
