"""The administrator of a world, who imports documents."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

import anyio

from tests.support.board import Board
from tinyvex.cli.document_files import SourceRow, SourceTable
from tinyvex.cli.import_session import ImportSession
from tinyvex.client.client import Client
from tinyvex.errors import TinyvexError

PATIENCE_SECONDS = 20.0
DOCUMENTS_MAX = 6
MODES = ("append", "append", "replace", "replace", "empty")
"""Not all tables: one has marks that must stay."""
EXPECTED = {
    "ClientClosed", "ImportRefused", "Unauthenticated", "ServerStopping", "ConnectionLost", "TimeLimitExceeded",
    "FunctionNotFound", "ObservedTsAhead", "SessionReplaced",
}  # fmt: skip
"""Why an import may fail: it does not fit, or the server that it began with was killed; the next has another admin token."""


@dataclass(frozen=True)
class Attempt:
    """An import that was started: the mark of its documents, their number, and whether it was acknowledged."""

    mark: str
    mode: str
    documents: int
    acknowledged: bool


async def try_import(client: Client, board: Board, source: random.Random, mark: str) -> Attempt:
    """Import random documents into some of the board's tables; abandon the attempt after a while."""
    mode = source.choice(MODES)
    names = source.sample(sorted(board.tables), source.randint(1, len(board.tables)))
    contents = {name: [board.document(source) for _ in range(source.randint(0, DOCUMENTS_MAX))] for name in names}

    def rows(table: SourceTable) -> Iterator[SourceRow]:
        for line, document in enumerate(contents[table.name], 1):
            yield SourceRow(line, json.dumps({**document, "mark": mark}))

    acknowledged = False
    try:
        with anyio.move_on_after(PATIENCE_SECONDS):
            tables = [SourceTable(name, None, name) for name in names]
            acknowledged = await ImportSession(client, mode, "written").run(tables, rows, lambda _: None)  # type: ignore[arg-type]
    except TinyvexError as error:
        name = getattr(error, "name", "")
        assert name in EXPECTED, error
    return Attempt(mark, mode, sum(map(len, contents.values())), acknowledged)
