"""`tinyvex history`: show the revisions of one document."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeGuard

import click

from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import data_option
from tinyvex.cli.output import JsonArrayPrinter, JsonLinesPrinter, RowPrinter, time_text, value_text
from tinyvex.cli.session import Session, open_session
from tinyvex.cli.terminal import echo, echo_styled
from tinyvex.cli.time_argument import resolve
from tinyvex.errors import DocumentNotFound, WrongTable
from tinyvex.runtime import Runtime

__all__ = ["changes", "command"]

Change: TypeAlias = Literal["created", "kept", "changed", "deleted"]
"""`kept` marks the oldest retained revision of a document that had earlier ones."""

VALUE_WIDTH_MAX = 100
SIGNS = {"+": "green", "-": "red", "~": "yellow"}
"""The mark of a field that was added, removed or changed, with its style on a terminal."""


@click.command("history", short_help="Show every revision of a document.")
@click.argument("words", nargs=-1, required=True, metavar="[TABLE] ID")
@data_option
@click.option(
    "--format",
    "output",
    type=click.Choice(["pretty", "json", "jsonl"]),
    default="pretty",
    show_default=True,
    help="pretty: the changes, for people. json: one array of revisions with documents. jsonl: a revision per line.",
)
def command(words: tuple[str, ...], data: Path | None, output: str) -> None:
    """
    Show the retained revisions of the document ID and what each changed, oldest first.

    Works with or without a running server. If TABLE is given, the command verifies that ID belongs to it.
    A note on stderr reports that older revisions have expired.

    \b
    tinyvex history j57038fxjyh9p2wvsqvd75aexf9cfxf3
    tinyvex history messages j57038fxjyh9p2wvsqvd75aexf9cfxf3 --format jsonl
    """
    if not 1 <= len(words) <= 2:
        raise click.UsageError(f"expected [TABLE] ID, not `{' '.join(words)}`")
    *table, document = words
    asyncio.run(_show(find_data_folder(data), document, table[0] if table else None, output))


async def _show(folder: Path, document: str, table: str | None, output: str) -> None:
    printers: dict[str, type[RowPrinter]] = {"jsonl": JsonLinesPrinter, "json": JsonArrayPrinter}
    printer = printers.get(output, _RevisionPrinter)()
    async with open_session(folder) as session, aclosing(_revisions(session, document, table)) as revisions:
        is_first = True
        async for revision in revisions:
            if is_first and revision["change"] == "kept":
                echo("(older revisions have expired)", err=True)
            is_first = False
            printer.add(revision)
    if is_first:
        raise DocumentNotFound(f"no revision of `{document}` is retained", id=document)
    printer.end()


async def _revisions(session: Session, document: str, table: str | None) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the revisions with their changes; holds one page and one document in memory."""
    at = await resolve(session, None, Runtime().now_us())
    before: dict[str, Any] | None = None
    after, is_first, is_done = 0, True, False
    while not is_done:
        page = json.loads(await session.query("_system:history", {"document": document, "after": after}, at=at))
        if table not in {None, page["table"]}:
            raise WrongTable(f"`{document}` is a document of table `{page['table']}`, not of `{table}`", id=document)
        for revision in page["revisions"]:
            has_expired = is_first and revision["prevTs"] is not None
            yield _described(revision, before, has_expired=has_expired)
            before, after, is_first = revision["document"], revision["ts"], False
        is_done = page["isDone"]


def _described(revision: dict[str, Any], before: dict[str, Any] | None, *, has_expired: bool) -> dict[str, Any]:
    """Return a revision as it is printed; `has_expired` if an earlier one existed."""
    after, ts = revision["document"], revision["ts"]
    change: Change = (
        "deleted" if after is None else "kept" if has_expired else "created" if before is None else "changed"
    )
    row: dict[str, Any] = {"ts": ts, "time": dt.datetime.fromtimestamp(ts / 1e6, dt.UTC).isoformat(), "change": change}
    if before is not None and after is not None:
        row["fields"] = changes(before, after)
    return {**row, "document": after}


def changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """
    Return the fields that differ, by path: each with `before` and `after`, or one of them if it was added or removed.

    Objects are compared field by field, arrays as a whole.
    """
    differing: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys((*before, *after)):
        sides = {side: fields[name] for side, fields in (("before", before), ("after", after)) if name in fields}
        old, new = sides.get("before"), sides.get("after")
        if len(sides) == 2 and old == new:
            continue
        if _is_object(old) and _is_object(new):
            differing.update(changes(old, new, f"{prefix}{name}."))
        else:
            differing[f"{prefix}{name}"] = sides
    return differing


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and not any(name.startswith("$") for name in value)


class _RevisionPrinter:
    """Prints a heading for each revision, followed by a line for each field that it changed."""

    def add(self, row: dict[str, Any]) -> None:
        """Print a revision."""
        echo_styled(f"{time_text(row['ts'])}  {row['change']}", "bold")
        if row["change"] in {"created", "kept"}:
            for name, value in row["document"].items():
                if not name.startswith("_"):
                    _print_field("+", name, _shortened(value))
        for path, sides in row.get("fields", {}).items():
            sign = "~" if len(sides) == 2 else "+" if "after" in sides else "-"
            _print_field(sign, path, " → ".join(_shortened(value) for value in sides.values()))

    def end(self) -> None:
        """Print nothing: each revision is complete."""


def _print_field(sign: str, path: str, text: str) -> None:
    echo_styled(f"  {sign} {path}: {text}", SIGNS[sign])


def _shortened(value: Any) -> str:
    text = value_text(value)
    return text if len(text) <= VALUE_WIDTH_MAX else f"{text[: VALUE_WIDTH_MAX - 1]}…"
