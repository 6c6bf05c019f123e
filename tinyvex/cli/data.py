"""`tinyvex data`: the tables, or the documents of one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tinyvex.cli.app_location import find_data
from tinyvex.cli.options import data_option
from tinyvex.cli.output import JsonArray, JsonLines, Printer, Table, size_text
from tinyvex.cli.session import Session, open_session
from tinyvex.cli.time_argument import moment, resolve
from tinyvex.errors import InvalidResult, RemoteError, TinyvexError
from tinyvex.limits import SCAN_PAGE_ROWS
from tinyvex.runtime import Runtime
from tinyvex.values import codec

Rows = AsyncGenerator[dict[str, Any], None]

FORMATS = {"pretty": Table, "json": JsonArray, "jsonArray": JsonArray, "jsonl": JsonLines, "jsonLines": JsonLines}
OPERATORS = {
    "eq": "Only documents whose field of the index equals this; repeatable.",
    "gt": "Only documents whose next field of the index is greater.",
    "gte": "Only documents whose next field of the index is at least this.",
    "lt": "Only documents whose next field of the index is less.",
    "lte": "Only documents whose next field of the index is at most this.",
}


@dataclass(frozen=True, slots=True)
class Selection:
    """
    Which documents.

    Attributes:
        index: None for by time of creation.
        conditions: for each operator that was given: what the index's fields are compared with.
        at: the moment; None for now.
        limit: at most so many; 0 for all.
    """

    index: str | None = None
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    order: str = "desc"
    at: int | None = None
    limit: int = 0

    def arguments(self, table: str) -> dict[str, Any]:
        """For `_system:rows`."""
        named = {} if self.index is None else {"index": self.index}
        return {"table": table, "order": self.order, **named, **self.conditions}


def _conditions(_: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in given:
        name, equals, json_value = text.partition("=")
        try:
            if not name or not equals or name in found:
                raise click.BadParameter(f"{text!r} is not FIELD=JSON, with each field once", param=option)
            found[name] = codec.decode(json_value)
        except TinyvexError as error:
            raise click.BadParameter(
                f"{json_value!r} is no JSON; text is in quotes: '{name}=\"text\"' ({error})", param=option
            ) from None
    return found


def _moment(_: click.Context, __: click.Parameter, given: str | None) -> int | None:
    return None if given is None else moment(given, Runtime().now_us())


@click.command("data", short_help="List the tables, or the documents of one.")
@click.argument("table", required=False)
@data_option
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True, help="How many; 0 for all.")
@click.option("--order", type=click.Choice(["asc", "desc"]), default="desc", show_default=True, help="Along the index.")
@click.option("--index", metavar="NAME", help="Along this index.  [default: by time of creation]")
@click.option("--eq", metavar="FIELD=JSON", multiple=True, callback=_conditions, help=OPERATORS["eq"])
@click.option("--gt", metavar="FIELD=JSON", multiple=True, callback=_conditions, help=OPERATORS["gt"])
@click.option("--gte", metavar="FIELD=JSON", multiple=True, callback=_conditions, help=OPERATORS["gte"])
@click.option("--lt", metavar="FIELD=JSON", multiple=True, callback=_conditions, help=OPERATORS["lt"])
@click.option("--lte", metavar="FIELD=JSON", multiple=True, callback=_conditions, help=OPERATORS["lte"])
@click.option(
    "--at",
    metavar="MOMENT",
    callback=_moment,
    help="As it was then: 10m ago (or s, h, d), 2026-01-31T09:30, or a ts in microseconds.",
)
@click.option(
    "--format",
    "output",
    metavar="FORMAT",
    type=click.Choice(list(FORMATS)),
    default="pretty",
    show_default=True,
    help="pretty: a table. jsonArray or json: one array. jsonLines or jsonl: a document per line.",
)
def command(
    table: str | None,
    data: Path | None,
    limit: int,
    order: str,
    index: str | None,
    at: int | None,
    output: str,
    **operators: dict[str, Any],
) -> None:
    """
    List all tables, or the documents of TABLE.

    Works beside a running server and without one; what is shown is as of one moment.

    Of each table are shown the documents, their size, and the revisions kept.
    All are counted, but only 5,000 of a table are read: the size of a larger one is an estimate.

    \b
    tinyvex data messages --limit 5
    tinyvex data messages --index by_channel --eq 'channel="general"' --gte _creationTime=1767225600000
    tinyvex data messages --at '10m ago' --format jsonl --limit 0
    """
    conditions = {name: given for name, given in operators.items() if given}
    folder = find_data(data)
    if table is not None:
        asyncio.run(_show(folder, table, Selection(index, conditions, order, at, limit), output))
    elif index is not None or conditions:
        raise click.UsageError("--index and conditions need a TABLE")
    elif at is not None:
        asyncio.run(_show_tables_at(folder, at, output))
    else:
        _show_tables(folder, output)


def _show_tables(folder: Path, output: str) -> None:
    from tinyvex.cli.session import require
    from tinyvex.storage.file.data_folder import DataFolder
    from tinyvex.storage.maintenance.table_statistics import table_sizes

    require(folder)
    files = DataFolder(folder)
    files.require_database()
    printer = _printer(output, ["table", "documents", "size", "revisions"])
    for found in table_sizes(files):
        row = found._asdict()
        if output == "pretty":
            row["size"] = f"{'' if found.size_is_exact else 'about '}{size_text(found.size_bytes)}"
        printer.add(row)
    printer.end()


async def _show_tables_at(folder: Path, at: int, output: str) -> None:
    async with open_session(folder) as session:
        await _print(_tables(session, at), _printer(output, ["table", "documents"]), limit=0)


async def _show(folder: Path, table: str, selection: Selection, output: str) -> None:
    async with open_session(folder) as session:
        more = await _print(_documents(session, table, selection), _printer(output), selection.limit)
    if more and output == "pretty":
        which = "first" if selection.index is not None else "newest" if selection.order == "desc" else "oldest"
        click.echo(f"(the {which} {selection.limit}; --limit 0 shows all)", err=True)


async def _tables(session: Session, wanted: int) -> Rows:
    at = await resolve(session, wanted, Runtime().now_us())
    for name in json.loads(await session.query("_system:tables", {}, at=at)):
        documents = json.loads(await session.query("_system:count", {"table": name}, at=at))
        yield {"table": name, "documents": documents}


async def _documents(session: Session, table: str, selection: Selection) -> Rows:
    at = await resolve(session, selection.at, Runtime().now_us())
    arguments = selection.arguments(table)
    size = min(SCAN_PAGE_ROWS, selection.limit + 1) if selection.limit else SCAN_PAGE_ROWS
    cursor, is_done = None, False
    while not is_done:
        try:
            page = json.loads(await session.query("_system:rows", {**arguments, "cursor": cursor, "size": size}, at=at))
        except (InvalidResult, RemoteError) as error:
            if size == 1 or error.name != InvalidResult.__name__:
                raise
            size = max(size // 4, 1)  # of large documents fewer fit into one result
            continue
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
    printer = FORMATS[output]
    return Table(columns) if printer is Table else printer()
