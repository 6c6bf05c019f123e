"""What an import asks of the server, and in which order, however it ends."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest

from tinyvex.cli.document_files import SourceRow, SourceTable
from tinyvex.cli.import_session import ImportSession
from tinyvex.errors import ImportRefused, RemoteError


class Administrator:
    """A client; its server refuses a step, and `leave` is cancelled before that answer comes."""

    def __init__(self, refused: str = "", leave: anyio.CancelScope | None = None, tables: int = 1) -> None:
        self.refused = refused
        self.tables = tables
        self.leave = leave
        self.steps: list[str] = []

    async def mutation(self, path: str, arguments: dict[str, Any]) -> Any:
        """One step."""
        step = path.removeprefix("_system:import_")
        self.steps.append(step)
        if step == self.refused:
            if self.leave is not None:
                self.leave.cancel()
                await anyio.lowlevel.checkpoint()
            raise RemoteError("no", number=ImportRefused.number, name=ImportRefused.__name__, details={})
        return {"import": "1", "tablets": [["items", 101]] * self.tables} if step == "begin" else []


async def run(client: Administrator) -> bool:
    """Import one document."""
    work = ImportSession(cast("Any", client), "append")
    return await work.run([SourceTable("items", None, "items")], lambda _: iter([SourceRow(1, "{}")]), lambda _: None)


async def test_an_import_begins_adds_and_finishes() -> None:
    """And gives nothing up."""
    client = Administrator()
    assert await run(client)
    assert client.steps == ["begin", "rows", "finish"]


async def test_where_there_are_no_tables_there_is_nothing_to_finish() -> None:
    """Wiping a database without tables, or importing an export of one, is no error."""
    client = Administrator(tables=0)
    work = ImportSession(cast("Any", client), "replaceAll")
    assert await work.run([], lambda _: iter(()), lambda _: None)
    assert client.steps == ["begin"]


@pytest.mark.parametrize("step", ["rows", "finish"])
async def test_an_import_that_is_refused_is_given_up(step: str) -> None:
    """Also at its end, where the tables have changed meanwhile: what it added takes room."""
    client = Administrator(step)
    with pytest.raises(RemoteError):
        await run(client)
    assert client.steps[-2:] == [step, "abandon"]


@pytest.mark.parametrize("step", ["rows", "finish"])
async def test_an_import_that_is_left_is_given_up(step: str) -> None:
    """After the step that was under way: one that finished is not given up any more."""
    with anyio.CancelScope() as scope:
        client = Administrator(step, scope)
        await run(client)
    assert scope.cancelled_caught
    assert client.steps[-2:] == [step, "abandon"]
