"""
Functions that every app has beside its own: they look at the data whatever the app declares.

They are internal queries with paths `_system:…`, so a client needs the admin token to call them,
and a program that opened the file itself runs the very same ones.
Each is bounded by one table or one page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from tinyvex.errors import UnknownIndex
from tinyvex.functions.app.function_spec import FunctionDeclaration, FunctionSpec
from tinyvex.functions.result.rows import Page
from tinyvex.functions.schema.document import DocumentMapping
from tinyvex.functions.transaction.context import QueryCtx
from tinyvex.functions.transaction.query_builder import Query, Source
from tinyvex.limits import DOCUMENT_BYTES_MAX, RESULT_BYTES_MAX, SCAN_PAGE_BYTES, SCAN_PAGE_ROWS
from tinyvex.values.types import INT64_MAX, INT64_MIN, Int64

if TYPE_CHECKING:
    from tinyvex.storage.log.catalog import TableInfo
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["MODULE", "PAGE_ROWS", "describe", "system_functions"]

MODULE = "_system"

PAGE_ROWS = RESULT_BYTES_MAX // DOCUMENT_BYTES_MAX - 1
"""A page of the largest documents still fits into one result."""

Conditions = dict[str, Any]
"""Fields of an index, and what they are compared with."""


def tables(ctx: QueryCtx) -> list[str]:
    """The names of all tables, also of those that the app declares no more; sorted."""
    return sorted(table["name"] for table in ctx.db.query("_tables"))


def count(ctx: QueryCtx, table: str) -> int:
    """How many documents a table has."""
    return ctx.db.query(table).count()


def span(ctx: QueryCtx) -> dict[str, int]:
    """Which moments can be read: from `floorTs`, 0 while all can, to `lastTs`, that of the newest commit."""
    snapshot = _snapshot(ctx)
    return {"floorTs": snapshot.globals()["floor_ts"], "lastTs": snapshot.ts}


def rows(
    ctx: QueryCtx,
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
    A page of a table's documents, by creation time or another index, in a range of it.

    Raises:
        UnknownIndex: the table has no such index, or a condition is on no field of it, or not on the next one.
    """
    bounds = {"gt": gt or {}, "gte": gte or {}, "lt": lt or {}, "lte": lte or {}}
    equal = eq or {}
    fields = [*equal, *(field for conditions in bounds.values() for field in conditions)]
    info = _snapshot(ctx).catalog.table(table)
    _check_index(info, index, fields)
    # Without the table's class: an app may have none for it, or another than in the time that is read.
    transaction, execution = ctx.db._transaction, ctx.db._execution  # noqa: SLF001 - as with the app
    source: Source[Mapping[str, Any]] = Source(transaction, execution, info, None, DocumentMapping, None)
    found: Query[Mapping[str, Any]] = Query(source).with_index(index)
    for field in sorted(equal, key=[*info.indexes[index].fields, "_creationTime"].index):
        found = found.eq(field, _like(found, field, equal[field]))
    within = found
    for name, conditions in bounds.items():
        for field, value in conditions.items():
            found = getattr(found, name)(field, _like(within, field, value))
    return found.order(order).paginate(cursor, size)


def _check_index(table: TableInfo, name: str, fields: list[str]) -> None:
    """Say what there is where an index or one of its fields is not."""
    found = table.indexes.get(name)
    unknown = [] if found is None else [field for field in fields if field not in {*found.fields, "_creationTime"}]
    if found is None or unknown:
        known = ", ".join(f"{index.name} ({', '.join(index.fields)})" for index in table.indexes.values())
        problem = f"has no index {name!r}" if found is None else f"has no field {unknown[0]!r} in its index {name!r}"
        raise UnknownIndex(f"table {table.name!r} {problem}; there are: {known}", table=table.name, index=name)


def _like(within: Query[Any], path: str, value: Any) -> Any:
    """
    A whole number of the kind that documents have there: who writes `5` in JSON cannot know which.

    An Int64 where there is one.
    """
    if type(value) is not int:
        return value
    found = within.gte(path, Int64(INT64_MIN)).lte(path, Int64(INT64_MAX)).first()
    return value if found is None else Int64(value)


def history(ctx: QueryCtx, document: str, after: int = 0) -> dict[str, Any]:
    """
    Revisions of a document that are kept, oldest first, as many as make a page.

    Each has its `ts`, the `document`, null where it was deleted, and `prevTs` where there was one before it;
    where that of the very first is not null, older ones are forgotten.

    Args:
        ctx: what to read.
        document: its id.
        after: the last `ts` of the page before.
    """
    from tinyvex.storage.maintenance.document_history import document_history

    table, internal = ctx.db._locate(document)  # noqa: SLF001 - as with the app
    snapshot = _snapshot(ctx)
    ctx.db._transaction.reads.add_point(table.by_id, internal)  # noqa: SLF001
    found: list[dict[str, Any]] = []
    size, is_done = 0, True
    for revision in document_history(snapshot, table, internal, after):
        if size >= SCAN_PAGE_BYTES or len(found) == SCAN_PAGE_ROWS:
            is_done = False
            break
        stored = None if revision.json is None else DocumentMapping(revision.json)
        found.append({"ts": revision.ts, "prevTs": revision.prev_ts, "document": stored})
        size += len(revision.json or b"")
    return {"table": table.name, "revisions": found, "isDone": is_done}


def functions(ctx: QueryCtx) -> str:
    """
    What the app offers, as it is served now: kinds, schemas, and which queries looked at `ctx.now` when they ran.

    JSON as text: schemas have keys, such as `$ref`, that values may not have.
    """
    app = ctx.db._app  # noqa: SLF001 - users have no business with the app; the system does
    return json.dumps([describe(spec) for spec in app.functions.values()])


def _snapshot(ctx: QueryCtx) -> Snapshot:
    return ctx.db._transaction.snapshot  # noqa: SLF001 - as with the app


def describe(spec: FunctionSpec) -> dict[str, Any]:
    """A function, for `function-spec`."""
    return {
        "path": spec.path,
        "kind": spec.kind,
        "internal": spec.internal,
        "readsNow": spec.reads_now,
        "arguments": spec.arguments_schema,
        "result": spec.result_schema,
    }


@cache
def system_functions() -> Mapping[str, FunctionSpec]:
    """The functions of this file, and those that import documents, by path; made when one is first asked for."""
    from tinyvex.functions.system.import_functions import IMPORT_FUNCTIONS

    declaration = FunctionDeclaration("query", internal=True)
    all_functions: tuple[Callable[..., Any], ...] = (tables, count, span, rows, history, functions)
    specs = [FunctionSpec(f"{MODULE}:{function.__name__}", function, declaration) for function in all_functions]
    writing = FunctionDeclaration("mutation", internal=True)
    specs += [FunctionSpec(f"{MODULE}:{function.__name__}", function, writing) for function in IMPORT_FUNCTIONS]
    return {spec.path: spec for spec in specs}
