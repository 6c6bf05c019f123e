"""
Tables, colours and progress bars on a terminal.

Output to a pipe or a file is plain text, so that scripts can rely on it. `rich` formats output only if a terminal displays
it, and is imported only then: the import takes about 60 ms, which is more than the work of most commands.
`NO_COLOR` removes the colours; `TERM=dumb` gives plain text.

Everything that a command prints passes through this file, because text of documents, functions and clients could control
the terminal or reorder what it shows.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from tinyvex.storage.maintenance.progress import Progress

__all__ = ["console_of", "echo", "echo_error", "echo_styled", "print_table", "progress_bar", "visible"]

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters except tab and newline, and characters that reorder or break lines."""


UNLIMITED_WIDTH = 1 << 20
"""Columns of a terminal that is wider than every table."""


def console_of(stream: TextIO | None) -> Console | None:
    """Return a console that writes to a stream; None if the stream is not a terminal that supports formatting."""
    if stream is None or not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)


def visible(text: str) -> str:
    r"""Escape characters that could control a terminal, as `\u009b`; JSON stays the same value."""
    return _UNSAFE.sub(lambda unsafe: f"\\u{ord(unsafe[0]):04x}", text)


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text on stdout, or on stderr if `err`."""
    click.echo(visible(text), err=err, nl=nl)


def echo_styled(text: str, style: str) -> None:
    """Print a line on stdout, in a `rich` style if stdout is a terminal."""
    console = console_of(sys.stdout)
    if console is None:
        echo(text)
    else:
        console.print(visible(text), style=style, soft_wrap=True)


def echo_error(message: str) -> None:
    """Print `tinyvex: MESSAGE` on stderr."""
    console = console_of(sys.stderr)
    if console is None:
        echo(f"tinyvex: {message}", err=True)
        return
    from rich.text import Text

    console.print(Text.assemble(("tinyvex: ", "bold red"), visible(message)), soft_wrap=True)


COLUMN_GAP = 3
"""Blanks between two columns of a table."""
CELL_WIDTH_MIN = 8
"""A column is not shortened below this width, or its heading's."""


def fit_widths(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """
    Return the widths of columns in a line of limited length: the widest are shortened first, none below its least width.

    Args:
        widths: the widths of the longest cells.
        least: the width below which each column is not shortened.
        room: the length of the line. If the least widths need more, the line is longer.
    """
    fitted = list(widths)
    excess = sum(fitted) + COLUMN_GAP * (len(fitted) - 1) - room
    while excess > 0:
        shrinkable = [number for number, width in enumerate(fitted) if width > least[number]]
        if not shrinkable:
            break
        widest = max(shrinkable, key=fitted.__getitem__)
        fitted[widest] -= 1
        excess -= 1
    return fitted


def print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """
    Print rows of cells, each on one line; the caller has escaped them with `visible`.

    Text is shortened to the width of the terminal. Ids, times and numbers are not, so that they can be copied.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    are_numbers = [all(_is_number(row[number]) for row in rows) for number in range(len(columns))]
    longest = [max(cell_len(cell) for cell in cells) for cells in zip(columns, *rows, strict=True)]
    least = [
        width if column.startswith("_") or is_number else min(width, max(cell_len(column), CELL_WIDTH_MIN))
        for column, width, is_number in zip(columns, longest, are_numbers, strict=True)
    ]
    for column, width, is_number in zip(columns, fit_widths(longest, least, console.width), are_numbers, strict=True):
        table.add_column(
            Text(column),
            justify="right" if is_number else "left",
            style="cyan" if column.startswith("_") else "",
            no_wrap=True,
            max_width=width,
            overflow="ellipsis",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    unlimited = console.options.update(width=UNLIMITED_WIDTH)
    console.width = max(console.width, Measurement.get(console, unlimited, table).maximum)
    console.print(table)


def _is_number(cell: str) -> bool:
    return not cell or cell.replace(",", "").removeprefix("-").replace(".", "", 1).isdecimal()


@contextmanager
def progress_bar(label: str, *, terminal_only: bool = False) -> Iterator[Progress]:
    """
    Show the progress of long work on stderr; without a terminal print the label once.

    The bar appears at the first report and ends at the last unit, so that a question can follow it.

    Args:
        label: what is being done.
        terminal_only: print nothing without a terminal.
    """
    console = console_of(sys.stderr)
    if console is None:
        if not terminal_only:
            echo(label, err=True)
        yield lambda _done, _total: None
        return
    bar = _ProgressBar(console, label)
    try:
        yield bar.report
    finally:
        bar.stop()


class _ProgressBar:
    """A bar of `rich`; may be reported to from any thread."""

    def __init__(self, console: Console, label: str) -> None:
        self._console = console
        self._label = label
        self._progress: RichProgress | None = None
        self._task: TaskID | None = None
        self._is_complete = False

    def report(self, done: int, total: int) -> None:
        """Show how many units are done; complete the bar at the last."""
        if self._is_complete:
            return
        if self._progress is None:
            self._start()
        assert self._progress is not None
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total or None)
        if 0 < total <= done:
            self._is_complete = True
            self.stop()

    def _start(self) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=self._console)
        self._task = self._progress.add_task(self._label, total=None)
        self._progress.start()

    def stop(self) -> None:
        """Leave the bar as it is and release the terminal; idempotent."""
        if self._progress is not None:
            self._progress.stop()
