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
from typing import Any, Literal

from tinyvex.functions.context import QueryCtx
from tinyvex.functions.registry import FunctionDeclaration, FunctionSpec
from tinyvex.functions.rows import Page
from tinyvex.limits import DOCUMENT_BYTES_MAX, RESULT_BYTES_MAX

__all__ = ["MODULE", "system_functions"]

MODULE = "_system"

PAGE_ROWS = RESULT_BYTES_MAX // DOCUMENT_BYTES_MAX - 1
"""A page of the largest documents still fits into one result."""


def tables(ctx: QueryCtx) -> list[str]:
    """The names of all tables, also of those that the app declares no more; sorted."""
    return sorted(table["name"] for table in ctx.db.query("_tables"))


def count(ctx: QueryCtx, table: str) -> int:
    """How many documents a table has."""
    return ctx.db.query(table).count()


def rows(
    ctx: QueryCtx, table: str, order: Literal["asc", "desc"] = "desc", cursor: str | None = None, size: int = PAGE_ROWS
) -> Page[Mapping[str, Any]]:
    """A page of a table's documents, by creation time."""
    return ctx.db.query(table).order(order).paginate(cursor, size)


def functions(ctx: QueryCtx) -> str:
    """
    What the app offers, as it is served now: kinds, schemas, and which queries looked at `ctx.now` when they ran.

    JSON as text: schemas have keys, such as `$ref`, that values may not have.
    """
    app = ctx.db._app  # noqa: SLF001 - users have no business with the app; the system does
    return json.dumps([describe(spec) for spec in app.functions.values()])


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
    """The functions of this file, by path."""
    declaration = FunctionDeclaration("query", internal=True)
    all_functions: tuple[Callable[..., Any], ...] = (tables, count, rows, functions)
    specs = [FunctionSpec(f"{MODULE}:{function.__name__}", function, declaration) for function in all_functions]
    return {spec.path: spec for spec in specs}
