"""A loop around `sqlite3` in this process, without server or socket: the best case of one insert at a time."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self

from bench.peers.peer import Line, Message, Peer, Server

__all__ = ["PEER"]

SCHEMA = """
CREATE TABLE messages (id INTEGER PRIMARY KEY, channel TEXT NOT NULL, author TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX by_channel ON messages (channel);
CREATE INDEX by_author ON messages (author);
"""
INSERT = "INSERT INTO messages (channel, author, body) VALUES (:channel, :author, :body)"


class Loop:
    """A writer that runs one transaction after another; it ignores `window`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.sent_us: dict[int, int] = {}
        self._connection = connection

    async def run(self, prepared: Sequence[dict[str, str]], first: int, window: int) -> None:
        execute = self._connection.execute
        for fields in prepared:
            execute(INSERT, fields)

    async def run_paced(
        self, prepared: Sequence[dict[str, str]], first: int, *, interval: float, offset: float
    ) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Do nothing: the connection belongs to the server."""


class SqliteFile(Server):
    """A database file with a write-ahead log, in autocommit mode: every insert is a transaction."""

    def __init__(self, synchronous: str) -> None:
        self._synchronous = synchronous

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix="tinyvex-bench-")
        self._connection = sqlite3.connect(Path(self._temporary.name) / "data.db", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
        self._connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        self._connection.executescript(SCHEMA)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._temporary.cleanup()

    async def writer(self, number: int) -> Loop:
        return Loop(self._connection)

    def prepare(self, messages: Sequence[Message], first: int) -> list[dict[str, str]]:
        return [it.fields() for it in messages]

    async def stored(self) -> int:
        count: int = self._connection.execute("SELECT count(*) FROM messages").fetchone()[0]
        return count

    def cpu_seconds(self) -> float:
        return time.process_time()


PEER = Peer(
    "sqlite",
    lambda: True,
    lambda: sqlite3.sqlite_version,
    tuple(
        Line(f"sqlite3 loop, {mode}", ("writes",), durability, partial(SqliteFile, mode.upper()), connections=1)
        for mode, durability in (("full", "power loss"), ("normal", "process crash"))
    ),
)
