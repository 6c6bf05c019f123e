"""How commands print: JSON and tables, sizes and times, and how far they are."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

import click

from tinyvex.values import codec
from tinyvex.values.types import Int64

CELL_WIDTH_MAX = 48
ALIGNED_ROWS = 200
"""So many rows of a table are aligned with each other: memory is bounded by them, not by the table."""

_MISSING = object()


def print_value(value: bytes) -> None:
    """A value for people: indented, letters as they are."""
    click.echo(json.dumps(json.loads(value), indent=2, ensure_ascii=False))


def one_line(value: Any) -> str:
    """A value on one line, without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def value_text(value: Any) -> str:
    """A value of decoded JSON for people, on one line; an `Int64` as the number it is."""
    if isinstance(value, dict) and value.keys() == {"$integer"}:
        return f"{int(cast('Int64', codec.unwrap(dict(value))))}"
    return json.dumps(value, ensure_ascii=False)


def counted(number: int, noun: str) -> str:
    """So many of something, for people."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_text(size_bytes: int) -> str:
    """A size for people."""
    size, unit = float(size_bytes), "bytes"
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"


def time_text(ts: int) -> str:
    """A time for people, where they are, with the `ts` itself; that alone where there are no years of its like."""
    try:
        return f"{dt.datetime.fromtimestamp(ts / 1e6).astimezone():%Y-%m-%d %H:%M:%S} (ts {ts})"
    except (ValueError, OverflowError, OSError):
        return f"ts {ts}"


def confirm(question: str) -> None:
    """
    Ask on stderr, and go on only after a yes.

    Raises:
        UsageError: nobody is there to answer.
        Abort: the answer is no.
    """
    try:
        sure = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        if sys.stdin is None or not sys.stdin.isatty():
            raise click.UsageError("nobody answered, so nothing was changed; --yes goes on without asking") from None
        raise
    if not sure:
        click.echo("nothing was changed", err=True)
        raise click.Abort


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal; gives what is to be called with done and total."""
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield progress


class Printer(Protocol):
    """Prints rows as they come."""

    def add(self, row: dict[str, Any]) -> None:
        """One more."""

    def end(self) -> None:
        """That was the last."""


class JsonLines:
    """One row per line."""

    def add(self, row: dict[str, Any]) -> None:
        click.echo(one_line(row))

    def end(self) -> None:
        pass


class JsonArray:
    """One array, a row per line."""

    def __init__(self) -> None:
        self._before = "[\n"

    def add(self, row: dict[str, Any]) -> None:
        click.echo(self._before + one_line(row), nl=False)
        self._before = ",\n"

    def end(self) -> None:
        click.echo("[]" if self._before == "[\n" else "\n]")


class Table:
    """
    Aligned columns; what is too long for a cell is cut, and marked.

    Args:
        columns: their names; when left out, the id, every field that some row has, and the time of creation.
    """

    def __init__(self, columns: list[str] | None = None) -> None:
        self._columns = columns
        self._rows: list[dict[str, Any]] = []
        self._found_any = False

    def add(self, row: dict[str, Any]) -> None:
        self._found_any = True
        self._rows.append(row)
        if len(self._rows) == ALIGNED_ROWS:
            self._print()

    def end(self) -> None:
        if self._rows:
            self._print()
        elif not self._found_any:
            click.echo("(empty)", err=True)

    def _print(self) -> None:
        columns = self._columns or _columns(self._rows)
        cells = [[_cell(row.get(column, _MISSING)) for column in columns] for row in self._rows]
        widths = [max(map(len, texts)) for texts in zip(columns, *cells, strict=True)]
        for texts in (columns, ["-" * width for width in widths], *cells):
            click.echo("  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip())
        self._rows = []


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    fields = dict.fromkeys(field for row in rows for field in row)
    return ["_id", *(field for field in fields if not field.startswith("_")), "_creationTime"]


def _cell(value: Any) -> str:
    if value is _MISSING:
        return ""
    text = value if isinstance(value, str) and value.isprintable() else value_text(value)
    return text if len(text) <= CELL_WIDTH_MAX else f"{text[: CELL_WIDTH_MAX - 1]}…"
