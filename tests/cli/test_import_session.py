"""The calls of an import, in their order, however it ends."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest

from tinyvex.cli.document_files import SourceRow, SourceTable
from tinyvex.cli.import_session import ImportSession
from tinyvex.errors import ImportRefused, RemoteError


class Administrator:
    """A client whose server refuses a step; `leave` is cancelled before that answer arrives."""

    def __init__(self, refused: str = "", leave: anyio.CancelScope | None = None, tables: int = 1) -> None:
        self.refused = refused
        self.tables = tables
        self.leave = leave
        self.steps: list[str] = []

    async def mutation(self, path: str, arguments: dict[str, Any]) -> Any:
        """Perform one step."""
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
    """It does not abandon anything."""
    client = Administrator()
    assert await run(client)
    assert client.steps == ["begin", "rows", "finish"]


async def test_without_tables_there_is_nothing_to_finish() -> None:
    """Wiping a database without tables, or importing its export, succeeds."""
    client = Administrator(tables=0)
    work = ImportSession(cast("Any", client), "replaceAll")
    assert await work.run([], lambda _: iter(()), lambda _: None)
    assert client.steps == ["begin"]


@pytest.mark.parametrize("step", ["rows", "finish"])
async def test_a_refused_import_is_abandoned(step: str) -> None:
    """This includes a refusal at the end, when tables changed meanwhile: its rows occupy space."""
    client = Administrator(step)
    with pytest.raises(RemoteError):
        await run(client)
    assert client.steps[-2:] == [step, "abandon"]


@pytest.mark.parametrize("step", ["rows", "finish"])
async def test_a_cancelled_import_is_abandoned(step: str) -> None:
    """It is abandoned after the step in flight; a finished import is not."""
    with anyio.CancelScope() as scope:
        client = Administrator(step, scope)
        await run(client)
    assert scope.cancelled_caught
    assert client.steps[-2:] == [step, "abandon"]
