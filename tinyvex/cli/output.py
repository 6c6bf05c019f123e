"""How commands print JSON: documents one after another, or a single value."""

from __future__ import annotations

import json
from typing import Any, Protocol

import click

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
    text = value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CELL_WIDTH_MAX else f"{text[: CELL_WIDTH_MAX - 1]}…"
