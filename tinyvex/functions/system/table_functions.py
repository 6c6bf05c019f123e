"""Functions of the system that concern whole tables; only an administrator can call them."""

from __future__ import annotations

from tinyvex.errors import TableDeclared
from tinyvex.functions.system.system_context import SystemMutationCtx, SystemQueryCtx
from tinyvex.storage.schema.table_drop import drop

__all__ = ["TABLE_MUTATIONS", "TABLE_QUERIES"]


def declared_tables(ctx: SystemQueryCtx) -> dict[str, list[str]]:
    """
    Return the names of the tables that the app declares, each with its earlier names.

    If a command runs without the app, these are the tables that the app declared when it was served last.
    """
    catalog = ctx.snapshot.catalog
    stored: dict[str, list[str]] = {name: [] for name in catalog.names() if catalog.table(name).fingerprint is not None}
    return stored | {name: list(spec.renamed_from) for name, spec in ctx.app.tables.items()}


def drop_table(ctx: SystemMutationCtx, table: str) -> None:
    """
    Drop a table that the app does not declare, with its documents.

    Raises:
        TableDeclared: the app declares it.
        UnknownTable: the database does not have it.
    """
    spec = ctx.app.tables.get(table)
    if spec is not None:
        raise TableDeclared(
            f"the app declares `{table}` at {spec.location}; remove the declaration first, or delete only its documents"
            f" with `tinyvex wipe --table {table}`",
            table=table,
        )
    ctx.commit(drop(ctx.snapshot, ctx.ts, table))


TABLE_QUERIES = (declared_tables,)
TABLE_MUTATIONS = (drop_table,)
