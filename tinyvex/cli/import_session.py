"""Bringing documents into a database through a server: what `import` and `wipe` have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import anyio
import click

from tinyvex.cli.app_location import find_data, find_place
from tinyvex.cli.document_files import Row, Table
from tinyvex.cli.session import connect, running_server, server_in_here
from tinyvex.errors import ImportRefused, RemoteError
from tinyvex.limits import IMPORT_PROBLEMS_MAX, IMPORT_STEP_BYTES, IMPORT_STEP_ROWS

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream


__all__ = ["Change", "Import", "Mode", "Problem", "Style", "administrator", "show_changes"]

Mode: TypeAlias = Literal["empty", "append", "replace", "replaceAll"]
Style: TypeAlias = Literal["stored", "written", "text"]
Rows: TypeAlias = Callable[[Table], Iterator[Row]]
Progress: TypeAlias = Callable[[int], None]

INTERRUPTED = {
    True: "nothing was changed",
    False: "too late, everything was changed",
    None: "the server did not say whether anything was changed; `tinyvex data` shows it",
}
"""By whether the import was given up."""

STEPS_UNDER_WAY = 2
"""The server adds one while the next is read and sent."""


class Problem(NamedTuple):
    """A line that is no document of its table."""

    place: str
    line: int
    text: str


class Change(NamedTuple):
    """What an import does to a table."""

    table: str
    before: int | None  # there is no such table yet
    deleted: int
    created: int


@asynccontextmanager
async def administrator(app: Path | None, data: Path | None) -> AsyncIterator[Any]:
    """
    A client that may do everything: of the running server, else of one that runs in this process for as long as it takes.

    Raises:
        ConnectionLost: the server is gone.
        TinyvexError: there is no app, the server cannot start, or does not answer.
    """
    folder = find_data(data) if app is None else find_place(app, data).data
    found = running_server(folder)
    if found is not None:
        async with connect(found) as client:
            yield client
        return

    place = find_place(app, data)
    place.remember()
    async with server_in_here(place):
        here = running_server(place.data)
        assert here is not None, place
        async with connect(here) as client:
            yield client


@dataclass(slots=True)
class Import:
    """
    One import.

    Attributes:
        client: an administrator's.
        mode: what becomes of the documents that are there.
        style: how the server is to take rows; see `functions/system/import_functions.py`.
        problems: lines that are no documents, as many as are listed.
        problems_total: all of them.
    """

    client: Any
    mode: Mode
    style: Style = "stored"
    problems: list[Problem] = field(default_factory=list)
    problems_total: int = 0

    async def changes(self, counts: dict[str, int]) -> list[Change]:
        """
        What the import would do.

        Args:
            counts: how many documents each table is to get.
        """
        there = await self.client.query("_system:tables")
        changes = []
        for table in sorted({*counts, *(there if self.mode == "replaceAll" else ())}):
            before = await self.client.query("_system:count", {"table": table}) if table in there else None
            deleted = 0 if self.mode in {"append", "empty"} else before or 0
            changes.append(Change(table, before, deleted, counts.get(table, 0)))
        return changes

    async def run(
        self, tables: Sequence[Table], rows: Rows, progress: Progress, go_on: Callable[[], bool] = lambda: True
    ) -> bool:
        """
        Check and send everything, then let all tables change at once; where anything is wrong, nothing is changed.

        Args:
            tables: the tables to be filled.
            rows: gives the documents of one.
            progress: told how many more were sent.
            go_on: asked before the last step; False leaves the database as it was.

        Returns:
            Whether it was changed.

        Raises:
            ImportRefused: it does not fit; `problems` has the lines that are the reason.
            TinyvexError: the server.
        """
        names = [(table.name, table.number) for table in tables]
        begun = await self.client.mutation("_system:import_begin", {"mode": self.mode, "tables": names})
        name = begun["import"]
        if not begun["tablets"]:  # no table was named, and there is none: nothing to finish
            return go_on()
        try:
            await self._send(name, tables, rows, progress)
            if self.problems_total:
                raise ImportRefused(f"{self.problems_total:,} problems; nothing was changed")
            wanted = go_on()
            if wanted:
                await self.client.mutation("_system:import_finish", {"import_id": name})
        except BaseException as error:
            # Also where it is not known whether it was finished: then there is nothing left to give up.
            given_up = None
            with anyio.CancelScope(shield=True):
                given_up = await self._abandon(name)
            if isinstance(error, anyio.get_cancelled_exc_class()):
                click.echo(f"interrupted: {INTERRUPTED[given_up]}", err=True)
            raise
        if not wanted:
            await self._abandon(name)
        return wanted

    async def _abandon(self, name: str) -> bool | None:
        """False where it had finished; None where the server does not answer any more, which gives it up itself then."""
        with anyio.move_on_after(1):
            try:
                await self.client.mutation("_system:import_abandon", {"import_id": name})
            except RemoteError:
                return False
            return True
        return None

    async def _send(self, name: str, tables: Sequence[Table], rows: Rows, progress: Progress) -> None:
        sender, receiver = anyio.create_memory_object_stream[tuple[Table, list[Row]]](0)
        try:
            async with anyio.create_task_group() as group:
                for _ in range(STEPS_UNDER_WAY):
                    group.start_soon(self._add, name, receiver, progress)
                await _read(tables, rows, sender)
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            receiver.close()

    async def _add(
        self, name: str, receiver: MemoryObjectReceiveStream[tuple[Table, list[Row]]], progress: Progress
    ) -> None:
        """Send steps until there are no more."""
        async for table, rows in receiver:
            lines = "\n".join([row.text for row in rows])
            arguments = {"import_id": name, "table": table.name, "lines": lines, "style": self.style}
            found = await self.client.mutation("_system:import_rows", arguments)
            self.problems_total += len(found)
            room = IMPORT_PROBLEMS_MAX - len(self.problems)
            self.problems += [Problem(table.place, rows[place].line, text) for place, text in found[:room]]
            progress(len(rows))


async def _read(tables: Sequence[Table], rows: Rows, sender: MemoryObjectSendStream[tuple[Table, list[Row]]]) -> None:
    async with sender:
        for table in tables:
            for step in _steps(rows(table)):
                await sender.send((table, step))


def _steps(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Rows in the portions in which they are sent."""
    step: list[Row] = []
    size = 0
    for row in rows:
        step.append(row)
        size += len(row.text)
        if len(step) == IMPORT_STEP_ROWS or size >= IMPORT_STEP_BYTES:
            yield step
            step, size = [], 0
    if step:
        yield step


def show_changes(changes: list[Change]) -> None:
    """Say what will be deleted and created, for people, on stderr."""
    width = max([len(change.table) for change in changes], default=0)
    for change in changes:
        told = f"{change.created:,} created"
        if change.before is None:
            told = f"{told} in a new table"
        elif change.deleted:
            told = f"{change.deleted:,} deleted" + (f", {told}" if change.created else "")
        elif not change.created and not change.before:
            told = "empty"
        elif change.before:
            told = f"{told} beside {change.before:,}"
        click.echo(f"  {change.table:<{width}}  {told}", err=True)
