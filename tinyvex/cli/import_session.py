"""
Import documents into a database through a server, for `import` and `wipe`.

An import is four kinds of calls: `import_begin`, `import_rows` for each step of rows, and `import_finish` or
`import_abandon`. The server stores the rows in tablets that no query sees; `import_finish` publishes all of them in one commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import anyio
from msgspec import Struct, field, structs

from tinyvex.cli.app_location import find_data_folder, find_named_app
from tinyvex.cli.document_files import SourceRow, SourceTable
from tinyvex.cli.output import counted
from tinyvex.cli.session import connect, local_server, running_server
from tinyvex.cli.terminal import echo
from tinyvex.errors import ImportRefused, RemoteError
from tinyvex.limits import IMPORT_PROBLEMS_MAX, IMPORT_STEP_BYTES, IMPORT_STEP_ROWS
from tinyvex.storage.file.data_folder import DataFolder

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream


__all__ = [
    "ImportMode", "ImportSession", "RowProblem", "RowStyle", "TableChange", "administrator", "show_changes",
    "with_current_names",
]  # fmt: skip

ImportMode: TypeAlias = Literal["empty", "append", "replace", "replaceAll"]
RowStyle: TypeAlias = Literal["stored", "written", "text"]
RowSource: TypeAlias = Callable[[SourceTable], Iterator[SourceRow]]
ImportStep: TypeAlias = tuple[SourceTable, list[SourceRow]]

INTERRUPTED = {
    True: "nothing was changed",
    False: "the import had already finished, so everything was changed",
    None: "the server did not report whether anything was changed; check with `tinyvex data`",
}
"""The message for an interrupted import, by whether it was abandoned."""

STEPS_IN_FLIGHT = 2
"""While the server stores a step, the next is read and sent."""


class RowProblem(NamedTuple):
    """A reason why a row is not a valid document of its table."""

    path: str
    line: int
    text: str


class TableChange(NamedTuple):
    """The effect of an import on a table."""

    table: str
    before: int | None  # None: the table does not exist yet
    deleted: int
    created: int


@asynccontextmanager
async def administrator(app: Path | None, data: Path | None, *, needs_app: bool = True) -> AsyncIterator[Any]:
    """
    Connect a client with the admin token: to the running server, else to a server inside this process.

    That one runs the app that the user or the project file names. It never runs the app that was last served: a data folder
    that came from elsewhere would choose the code.

    Args:
        app: the option `--app`.
        data: the option `--data`.
        needs_app: run the named app, which declares classes; otherwise no app.

    Raises:
        ConnectionLost: the server does not answer.
        TinyvexError: there is no data folder, or the server cannot start.
    """
    folder = find_data_folder(data, app)
    server = running_server(folder)
    if server is not None:
        async with connect(server) as client:
            yield client
        return

    named = find_named_app(app) if needs_app else None
    if named is None:
        DataFolder(folder).require_database()
    async with local_server(named, folder):
        local = running_server(folder)
        assert local is not None, folder
        async with connect(local) as client:
            yield client


class ImportSession(Struct):
    """
    An import in progress.

    Attributes:
        client: a client with the admin token.
        mode: what happens to existing documents.
        style: how the server reads rows; see `functions/system/import_functions.py`.
        problems: the first IMPORT_PROBLEMS_MAX errors; a row can have several.
        problems_total: the number of all errors.
        rows_sent: the number of rows that the server has validated.
    """

    client: Any
    mode: ImportMode
    style: RowStyle = "stored"
    problems: list[RowProblem] = field(default_factory=list)
    problems_total: int = 0
    rows_sent: int = 0

    async def changes(self, counts: dict[str, int]) -> list[TableChange]:
        """
        Return the effect that the import would have on each table.

        Args:
            counts: the number of documents for each table.
        """
        existing = await self.client.query("_system:tables")
        changes = []
        for table in sorted({*counts, *(existing if self.mode == "replaceAll" else ())}):
            before = await self.client.query("_system:count", {"table": table}) if table in existing else None
            deleted = 0 if self.mode in {"append", "empty"} else before or 0
            changes.append(TableChange(table, before, deleted, counts.get(table, 0)))
        return changes

    async def run(
        self,
        tables: Sequence[SourceTable],
        rows: RowSource,
        progress: Callable[[int], None],
        should_finish: Callable[[], bool] = lambda: True,
    ) -> bool:
        """
        Send and validate all rows, then change all tables in one commit. If any row is invalid, nothing changes.

        Args:
            tables: the tables to fill.
            rows: returns the rows of a table.
            progress: called with the number of rows sent so far.
            should_finish: called before the last step; False leaves the database unchanged.

        Returns:
            Whether the database was changed.

        Raises:
            ImportRefused: the import does not fit; `problems` lists the errors.
            TinyvexError: the server failed.
        """
        names = [(table.name, table.number) for table in tables]
        begun = await self.client.mutation("_system:import_begin", {"mode": self.mode, "tables": names})
        import_id = begun["import"]
        if not begun["tablets"]:  # no table was named and none exists: there is nothing to finish
            return should_finish()
        try:
            await self._send(import_id, tables, rows, progress)
            if self.problems_total:
                raise ImportRefused(f"the file has {counted(self.problems_total, 'error')}; nothing was changed")
            is_wanted = should_finish()
            if is_wanted:
                await self.client.mutation("_system:import_finish", {"import_id": import_id})
        except BaseException as error:
            # `import_finish` may have committed although its response was lost. Abandoning is then refused, harmlessly.
            is_abandoned = None
            with anyio.CancelScope(shield=True):
                is_abandoned = await self._abandon(import_id)
            if isinstance(error, anyio.get_cancelled_exc_class()):
                echo(f"interrupted: {INTERRUPTED[is_abandoned]}", err=True)
            raise
        if not is_wanted:
            await self._abandon(import_id)
        return is_wanted

    async def _abandon(self, import_id: str) -> bool | None:
        """Return False if it had finished, None if the server does not answer; a server abandons stale imports itself."""
        with anyio.move_on_after(1):
            try:
                await self.client.mutation("_system:import_abandon", {"import_id": import_id})
            except RemoteError:
                return False
            return True
        return None

    async def _send(
        self, import_id: str, tables: Sequence[SourceTable], rows: RowSource, progress: Callable[[int], None]
    ) -> None:
        sender, receiver = anyio.create_memory_object_stream[ImportStep](0)
        try:
            async with anyio.create_task_group() as group:
                for _ in range(STEPS_IN_FLIGHT):
                    group.start_soon(self._send_steps, import_id, receiver, progress)
                await _read_steps(tables, rows, sender)
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            receiver.close()

    async def _send_steps(
        self, import_id: str, receiver: MemoryObjectReceiveStream[ImportStep], progress: Callable[[int], None]
    ) -> None:
        async for table, rows in receiver:
            lines = "\n".join([row.text for row in rows])
            arguments = {"import_id": import_id, "table": table.name, "lines": lines, "style": self.style}
            invalid = await self.client.mutation("_system:import_rows", arguments)
            self.problems_total += len(invalid)
            room = IMPORT_PROBLEMS_MAX - len(self.problems)
            self.problems += [RowProblem(table.path, rows[number].line, text) for number, text in invalid[:room]]
            self.rows_sent += len(rows)
            progress(self.rows_sent)


async def _read_steps(
    tables: Sequence[SourceTable], rows: RowSource, sender: MemoryObjectSendStream[ImportStep]
) -> None:
    async with sender:
        for table in tables:
            for step in _steps(rows(table)):
                await sender.send((table, step))


def _steps(rows: Iterator[SourceRow]) -> Iterator[list[SourceRow]]:
    """Group rows into the steps in which they are sent."""
    step: list[SourceRow] = []
    size = 0
    for row in rows:
        step.append(row)
        size += len(row.text)
        if len(step) == IMPORT_STEP_ROWS or size >= IMPORT_STEP_BYTES:
            yield step
            step, size = [], 0
    if step:
        yield step


async def with_current_names(client: Any, tables: Sequence[SourceTable]) -> list[SourceTable]:
    """Return tables under the names that they have now: a file may be older than the change of a table's name."""
    declared = await client.query("_system:declared_tables")
    current = {earlier: name for name, names in declared.items() for earlier in names}
    taken = {table.name for table in tables}
    named = []
    for table in tables:
        name = current.get(table.name, table.name)
        if name not in taken:
            taken.add(name)
            echo(f"`{table.name}` is imported as `{name}`, because the table was renamed", err=True)
            table = structs.replace(table, name=name)  # noqa: PLW2901
        named.append(table)
    return named


def show_changes(changes: list[TableChange], *, are_done: bool) -> None:
    """Print on stderr how many documents of each table were deleted and created, or are to be, if nothing is committed yet."""
    deleted, created = ("deleted", "created") if are_done else ("to delete", "to create")
    width = max([len(change.table) for change in changes], default=0)
    for change in changes:
        text = f"{change.created:,} {created}"
        if change.before is None:
            text = f"{text} in a new table"
        elif change.deleted:
            text = f"{change.deleted:,} {deleted}" + (f", {text}" if change.created else "")
        elif not change.created and not change.before:
            text = "empty"
        elif change.before:
            text = f"{text} in addition to {change.before:,}"
        echo(f"  {change.table:<{width}}  {text}", err=True)
