"""Format what commands print: JSON, tables, counts, sizes and times."""

from __future__ import annotations

import datetime as dt
import json
import sys
from typing import Any, Protocol, cast

import click

from tinyvex.cli.terminal import console_of, echo, print_table, visible
from tinyvex.values import codec
from tinyvex.values.types import Int64

CELL_WIDTH_MAX = 48
ALIGNED_ROWS = 200
"""Rows of a table that are aligned with each other. They are held in memory, the rest of the table is not."""
HIGHLIGHTED_CHARACTERS_MAX = 1 << 16
"""A longer value is printed without colours: highlighting takes 2.5 µs a character."""

_MISSING = object()


def print_value(value: bytes) -> None:
    """Print a JSON value, indented; in colours on a terminal."""
    text = visible(json.dumps(json.loads(value), indent=2, ensure_ascii=False))
    console = console_of(sys.stdout) if len(text) <= HIGHLIGHTED_CHARACTERS_MAX else None
    if console is None:
        echo(text)
        return
    from rich.highlighter import JSONHighlighter

    console.print(JSONHighlighter()(text), soft_wrap=True)


def one_line(value: Any) -> str:
    """Encode a value as JSON on one line, without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def value_text(value: Any) -> str:
    """Format a decoded JSON value for people, on one line; an `Int64` is shown as a plain number."""
    if isinstance(value, dict) and value.keys() == {"$integer"}:
        return f"{int(cast('Int64', codec.unwrap(dict(value))))}"
    return json.dumps(value, ensure_ascii=False)


def counted(number: int, noun: str) -> str:
    """Format a number with its noun: `1 table`, `1,200 tables`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_text(size_bytes: int) -> str:
    """Format a size in decimal units: `1.2 MB`."""
    size, unit = float(size_bytes), "bytes"
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"


def time_text(ts: int) -> str:
    """Format a `ts` as local time followed by the `ts`; only the `ts` if it is beyond the calendar's range."""
    try:
        return f"{dt.datetime.fromtimestamp(ts / 1e6).astimezone():%Y-%m-%d %H:%M:%S} (ts {ts})"
    except (ValueError, OverflowError, OSError):
        return f"ts {ts}"


def confirm(question: str) -> None:
    """
    Ask a yes-or-no question on stderr and return only after a yes.

    Raises:
        UsageError: stdin ended without an answer and is not a terminal.
        Abort: the answer is no.
    """
    try:
        is_confirmed = click.confirm(question, err=True)
    except click.Abort:
        echo(err=True)
        if sys.stdin is None or not sys.stdin.isatty():
            raise click.UsageError(
                "no answer on stdin, so nothing was changed; to skip the question, pass --yes"
            ) from None
        raise
    if not is_confirmed:
        echo("nothing was changed", err=True)
        raise click.Abort


class RowPrinter(Protocol):
    """Prints rows as they arrive."""

    def add(self, row: dict[str, Any]) -> None:
        """Print a row, now or with later ones."""

    def end(self) -> None:
        """Print what is left after the last row."""


class JsonLinesPrinter:
    """Prints one row per line."""

    def add(self, row: dict[str, Any]) -> None:
        echo(one_line(row))

    def end(self) -> None:
        pass


class JsonArrayPrinter:
    """Prints one JSON array, with a row per line."""

    def __init__(self) -> None:
        self._separator = "[\n"

    def add(self, row: dict[str, Any]) -> None:
        echo(self._separator + one_line(row), nl=False)
        self._separator = ",\n"

    def end(self) -> None:
        echo("[]" if self._separator == "[\n" else "\n]")


class TablePrinter:
    """
    Prints aligned columns; a cell that is too long is cut and marked.

    Args:
        columns: their names; by default `_id`, every field of the rows, and `_creationTime`.
    """

    def __init__(self, columns: list[str] | None = None) -> None:
        self._columns = columns
        self._rows: list[dict[str, Any]] = []
        self._is_empty = True

    def add(self, row: dict[str, Any]) -> None:
        self._is_empty = False
        self._rows.append(row)
        if len(self._rows) == ALIGNED_ROWS:
            self._print()

    def end(self) -> None:
        if self._rows:
            self._print()
        elif self._is_empty:
            echo("(empty)", err=True)

    def _print(self) -> None:
        columns = self._columns or _columns(self._rows)
        rows = [[visible(_cell(row.get(column, _MISSING))) for column in columns] for row in self._rows]
        columns = [visible(column) for column in columns]
        console = console_of(sys.stdout)
        if console is not None:
            print_table(console, columns, rows)
        else:
            _print_plain(columns, rows)
        self._rows = []


def _print_plain(columns: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for cells in (columns, ["-" * width for width in widths], *rows):
        echo("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    fields = dict.fromkeys(field for row in rows for field in row)
    return ["_id", *(field for field in fields if not field.startswith("_")), "_creationTime"]


def _cell(value: Any) -> str:
    if value is _MISSING:
        return ""
    text = value if isinstance(value, str) and value.isprintable() else value_text(value)
    return text if len(text) <= CELL_WIDTH_MAX else f"{text[: CELL_WIDTH_MAX - 1]}…"
