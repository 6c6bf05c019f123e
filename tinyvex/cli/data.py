"""`tinyvex data`: list the tables, or the documents of one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click
from msgspec import Struct, field

from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import data_option
from tinyvex.cli.output import JsonArrayPrinter, JsonLinesPrinter, RowPrinter, TablePrinter, size_text
from tinyvex.cli.session import Session, open_session
from tinyvex.cli.terminal import echo
from tinyvex.cli.time_argument import GivenTime, parse_time, resolve
from tinyvex.errors import InvalidResult, RemoteError, TinyvexError, UnknownTable
from tinyvex.limits import SCAN_PAGE_ROWS
from tinyvex.runtime import Runtime
from tinyvex.values import codec

Rows = AsyncGenerator[dict[str, Any], None]

PRINTERS = {
    "pretty": TablePrinter,
    "json": JsonArrayPrinter, "jsonArray": JsonArrayPrinter,
    "jsonl": JsonLinesPrinter, "jsonLines": JsonLinesPrinter,
}  # fmt: skip
OPERATORS = {
    "eq": "Show documents whose next index field equals this value; repeatable.",
    "gt": "Show documents whose next index field is greater than this value.",
    "gte": "Show documents whose next index field is at least this value.",
    "lt": "Show documents whose next index field is less than this value.",
    "lte": "Show documents whose next index field is at most this value.",
}


class Selection(Struct, frozen=True):
    """
    The documents to show.

    Attributes:
        index: the index to read along; None for the creation time.
        conditions: by operator, the values that index fields are compared with.
        at: read as of this time; None for the newest state.
        limit: the largest number of documents; 0 for all.
    """

    index: str | None = None
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    order: str = "desc"
    at: GivenTime | None = None
    limit: int = 0

    def arguments(self, table: str) -> dict[str, Any]:
        """Return the arguments of `_system:rows`."""
        named = {} if self.index is None else {"index": self.index}
        return {"table": table, "order": self.order, **named, **self.conditions}


def _conditions(_: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in given:
        name, equals, json_value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"`{text}` does not have the form FIELD=JSON", param=option)
        if name in values:
            raise click.BadParameter(f"the field `{name}` is given twice", param=option)
        try:
            values[name] = codec.decode(json_value)
        except TinyvexError as error:
            problem = f"{error}"
            if problem.startswith("this is not JSON"):
                problem = f"it is not JSON; put strings in quotes: '{name}=\"text\"'"
            raise click.BadParameter(f"`{text}`: {problem}", param=option) from None
    return values


def _parse_at(_: click.Context, __: click.Parameter, given: str | None) -> GivenTime | None:
    return None if given is None else parse_time(given, Runtime().now_us())


@click.command("data", short_help="List the tables, or the documents of one.")
@click.argument("table", required=False)
@data_option
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Show at most so many documents; 0 for all.",
)
@click.option(
    "--order", type=click.Choice(["asc", "desc"]), default="desc", show_default=True, help="Order by the index."
)
@click.option("--index", metavar="NAME", help="Read along this index.  [default: the creation time]")
@click.option("--eq", metavar="FIELD=JSON", multiple=True, callback=_conditions, help=OPERATORS["eq"])
@click.option("--gt", metavar="FIELD=JSON", multiple=True, callback=_conditions, help=OPERATORS["gt"])
@click.option("--gte", metavar="FIELD=JSON", multiple=True, callback=_conditions, help=OPERATORS["gte"])
@click.option("--lt", metavar="FIELD=JSON", multiple=True, callback=_conditions, help=OPERATORS["lt"])
@click.option("--lte", metavar="FIELD=JSON", multiple=True, callback=_conditions, help=OPERATORS["lte"])
@click.option(
    "--at",
    metavar="TIME",
    callback=_parse_at,
    help="Read as of this time: 10m ago (or s, h, d), 2026-01-31T09:30, or a ts in microseconds.",
)
@click.option(
    "--format",
    "output",
    metavar="FORMAT",
    type=click.Choice(list(PRINTERS)),
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
    at: GivenTime | None,
    output: str,
    **operators: dict[str, Any],
) -> None:
    """
    List all tables, or the documents of TABLE.

    Works with or without a running server. The output is one consistent snapshot.

    The list of tables has the number of documents, their size, and the number of retained revisions.
    Sizes of tables with more than 5,000 documents are estimates from a sample.

    \b
    tinyvex data messages --limit 5
    tinyvex data messages --index by_channel --eq 'channel="general"' --gte _creationTime=1767225600000
    tinyvex data events --index by_at --gte 'at="2026-01-31T09:30:00+01:00"'
    tinyvex data messages --at '10m ago' --format jsonl --limit 0
    """
    conditions = {name: values for name, values in operators.items() if values}
    folder = find_data_folder(data)
    if table is not None:
        asyncio.run(_show(folder, table, Selection(index, conditions, order, at, limit), output))
    elif index is not None or conditions:
        raise click.UsageError("--index and the conditions require a TABLE")
    elif at is not None:
        asyncio.run(_show_tables_at(folder, at, output))
    else:
        _show_tables(folder, output)


def _show_tables(folder: Path, output: str) -> None:
    from tinyvex.storage.file.data_folder import DataFolder
    from tinyvex.storage.maintenance.table_statistics import table_sizes

    files = DataFolder(folder)
    files.require_database()
    printer = _printer(output, ["table", "documents", "size", "revisions"])
    for table in table_sizes(files):
        row = table._asdict()
        if output == "pretty":
            row["size"] = f"{'' if table.size_is_exact else 'about '}{size_text(table.size_bytes)}"
        printer.add(row)
    printer.end()


async def _show_tables_at(folder: Path, at: GivenTime, output: str) -> None:
    async with open_session(folder) as session:
        await _print(_tables(session, at), _printer(output, ["table", "documents"]), limit=0)


async def _show(folder: Path, table: str, selection: Selection, output: str) -> None:
    async with open_session(folder) as session:
        has_more = await _print(_documents(session, table, selection), _printer(output), selection.limit)
    if has_more and output == "pretty":
        which = "first" if selection.index is not None else "newest" if selection.order == "desc" else "oldest"
        echo(f"(the {which} {selection.limit}; --limit 0 shows all)", err=True)


async def _tables(session: Session, wanted: GivenTime) -> Rows:
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
        except (InvalidResult, RemoteError, UnknownTable) as error:
            if error.name == UnknownTable.__name__ and selection.at is not None:
                raise UnknownTable(f"at the time of --at, {error}", table=table) from None
            if size == 1 or error.name != InvalidResult.__name__:
                raise
            size = max(size // 4, 1)  # fewer large documents fit into one result
            continue
        for document in page["items"]:
            yield document
        cursor, is_done = page["cursor"], page["isDone"]


async def _print(rows: Rows, printer: RowPrinter, limit: int) -> bool:
    """Print at most `limit` rows as they arrive, 0 meaning all; return whether there are more."""
    printed, has_more = 0, False
    async with aclosing(rows):
        async for row in rows:
            has_more = printed == limit > 0
            if has_more:
                break
            printer.add(row)
            printed += 1
    printer.end()
    return has_more


def _printer(output: str, columns: list[str] | None = None) -> RowPrinter:
    printer = PRINTERS[output]
    return TablePrinter(columns) if printer is TablePrinter else printer()
