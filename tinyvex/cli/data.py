"""`tinyvex data`: the tables, or the documents of one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from tinyvex.cli.options import data_option
from tinyvex.cli.output import JsonArray, JsonLines, Printer, Table
from tinyvex.cli.place import find_data
from tinyvex.cli.session import Session, open_session

Rows = AsyncGenerator[dict[str, Any], None]


@click.command("data", short_help="List the tables, or the documents of one.")
@click.argument("table", required=False)
@data_option
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True, help="How many; 0 for all.")
@click.option(
    "--order", type=click.Choice(["asc", "desc"]), default="desc", show_default=True, help="By time of creation."
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["pretty", "json", "jsonl"]),
    default="pretty",
    show_default=True,
    help="A table, one JSON array, or one JSON document per line.",
)
def command(table: str | None, data: Path | None, limit: int, order: str, output: str) -> None:
    """
    List all tables with their number of documents, or the documents of TABLE.

    Works beside a running server and without one.
    """
    asyncio.run(_show(find_data(data), table, limit, order, output))


async def _show(data: Path, table: str | None, limit: int, order: str, output: str) -> None:
    async with open_session(data) as session:
        if table is None:
            await _print(_tables(session), _printer(output, ["table", "documents"]), limit=0)
            return
        more = await _print(_documents(session, table, order), _printer(output), limit)
        if more and output == "pretty":
            click.echo(f"(the {'newest' if order == 'desc' else 'oldest'} {limit}; --limit 0 shows all)", err=True)


async def _tables(session: Session) -> Rows:
    for name in json.loads(await session.query("_system:tables", {})):
        yield {"table": name, "documents": json.loads(await session.query("_system:count", {"table": name}))}


async def _documents(session: Session, table: str, order: str) -> Rows:
    cursor, is_done = None, False
    while not is_done:
        page = json.loads(await session.query("_system:rows", {"table": table, "order": order, "cursor": cursor}))
        for document in page["items"]:
            yield document
        cursor, is_done = page["cursor"], page["isDone"]


async def _print(rows: Rows, printer: Printer, limit: int) -> bool:
    """Print at most `limit` rows, 0 meaning all, as they come; returns whether there were more."""
    shown, more = 0, False
    async with aclosing(rows):
        async for row in rows:
            more = shown == limit > 0
            if more:
                break
            printer.add(row)
            shown += 1
    printer.end()
    return more


def _printer(output: str, columns: list[str] | None = None) -> Printer:
    if output == "jsonl":
        return JsonLines()
    return JsonArray() if output == "json" else Table(columns)
