"""`tinyvex history`: what became of one document."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeGuard

import click

from tinyvex.cli.app_location import find_data
from tinyvex.cli.options import data_option
from tinyvex.cli.output import JsonArray, JsonLines, Printer, time_text, value_text
from tinyvex.cli.session import Session, open_session
from tinyvex.cli.time_argument import resolve
from tinyvex.errors import DocumentNotFound, WrongTable
from tinyvex.runtime import Runtime

__all__ = ["changes", "command"]

Kind: TypeAlias = Literal["created", "kept", "changed", "deleted"]
"""`kept` is the oldest state that can be read, of a document that is older."""

VALUE_WIDTH_MAX = 100


@click.command("history", short_help="Show every revision of a document.")
@click.argument("words", nargs=-1, required=True, metavar="[TABLE] ID")
@data_option
@click.option(
    "--format",
    "output",
    type=click.Choice(["pretty", "json", "jsonl"]),
    default="pretty",
    show_default=True,
    help="What changed, for people; or revisions with their documents, as one array or a line each.",
)
def command(words: tuple[str, ...], data: Path | None, output: str) -> None:
    """
    Show every revision of the document ID that is kept, the newest last, and what it changed.

    Works beside a running server and without one. TABLE is only compared with the table that ID names.
    A note says where older revisions were forgotten.

    \b
    tinyvex history j57038fxjyh9p2wvsqvd75aexf9cfxf3
    tinyvex history messages j57038fxjyh9p2wvsqvd75aexf9cfxf3 --format jsonl
    """
    if not 1 <= len(words) <= 2:
        raise click.UsageError(f"one ID, and its TABLE before it if you like; not {' '.join(words)}")
    *table, document = words
    asyncio.run(_show(find_data(data), document, table[0] if table else None, output))


async def _show(folder: Path, document: str, table: str | None, output: str) -> None:
    printer: Printer = JsonLines() if output == "jsonl" else JsonArray() if output == "json" else _Lines()
    async with open_session(folder) as session, aclosing(_revisions(session, document, table)) as revisions:
        is_first = True
        async for revision in revisions:
            if is_first and revision["change"] == "kept":
                click.echo("(older revisions are forgotten)", err=True)
            is_first = False
            printer.add(revision)
    if is_first:
        raise DocumentNotFound(f"no revision of {document} is kept", id=document)
    printer.end()


async def _revisions(session: Session, document: str, table: str | None) -> AsyncGenerator[dict[str, Any], None]:
    """As they come, each with what it changed; no more than a page and one document are held."""
    at = await resolve(session, None, Runtime().now_us())
    before: dict[str, Any] | None = None
    after, is_first, is_done = 0, True, False
    while not is_done:
        page = json.loads(await session.query("_system:history", {"document": document, "after": after}, at=at))
        if table not in {None, page["table"]}:
            raise WrongTable(f"{document} is a document of table {page['table']!r}, not of {table!r}", id=document)
        for revision in page["revisions"]:
            forgotten = is_first and revision["prevTs"] is not None
            yield _described(revision, before, forgotten=forgotten)
            before, after, is_first = revision["document"], revision["ts"], False
        is_done = page["isDone"]


def _described(revision: dict[str, Any], before: dict[str, Any] | None, *, forgotten: bool) -> dict[str, Any]:
    now, ts = revision["document"], revision["ts"]
    kind: Kind = "deleted" if now is None else "kept" if forgotten else "created" if before is None else "changed"
    found: dict[str, Any] = {"ts": ts, "time": dt.datetime.fromtimestamp(ts / 1e6, dt.UTC).isoformat(), "change": kind}
    if before is not None and now is not None:
        found["fields"] = changes(before, now)
    return {**found, "document": now}


def changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """
    Which fields differ, by their paths: each with `before` and `after`, or one of them where it came or went.

    Objects are looked into; arrays are compared as a whole.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys((*before, *after)):
        sides = {side: fields[name] for side, fields in (("before", before), ("after", after)) if name in fields}
        old, new = sides.get("before"), sides.get("after")
        if len(sides) == 2 and old == new:
            continue
        if _is_object(old) and _is_object(new):
            found.update(changes(old, new, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = sides
    return found


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and not any(name.startswith("$") for name in value)


class _Lines:
    """A heading for each revision, and below it a line for each field that it changed."""

    def add(self, row: dict[str, Any]) -> None:
        """One more."""
        click.echo(f"{time_text(row['ts'])}  {row['change']}")
        if row["change"] in {"created", "kept"}:
            for name, value in row["document"].items():
                if not name.startswith("_"):
                    click.echo(f"  + {name}: {_shown(value)}")
        for path, sides in row.get("fields", {}).items():
            sign = "~" if len(sides) == 2 else "+" if "after" in sides else "-"
            click.echo(f"  {sign} {path}: {' → '.join(_shown(value) for value in sides.values())}")

    def end(self) -> None:
        """That was the last."""


def _shown(value: Any) -> str:
    text = value_text(value)
    return text if len(text) <= VALUE_WIDTH_MAX else f"{text[: VALUE_WIDTH_MAX - 1]}…"
