"""
Silent corruption: a byte of a closed database file changes, and every reader looks at the file.

`create` makes a file with pages of every kind. `visible` reads everything that a reader can see, each read by itself.
`outcome` compares the reads of a changed file with those of the sound one.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.storage import bound_runtime, insert, opened, unit
from tinyvex.errors import StorageError
from tinyvex.storage.engine.readers import SnapshotSource
from tinyvex.storage.file.database_file import open_reader, read_globals
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN, successor
from tinyvex.storage.maintenance.check import check_folder

TABLES = {"items": {"by_n": ("n",), "by_text": ("text", "n")}, "notes": {}}
SESSIONS = ("first session", "second session")
REQUESTS = 30


class Refused(NamedTuple):
    """A read that ended with a storage error."""

    error: str


class Outcome(NamedTuple):
    """
    The effect of a changed byte.

    Attributes:
        found: whether `check` reports it, or refuses the file.
        refused: the reads that a storage error ended.
        other: the reads that returned something else.
        crashed: the reads that another error ended, and the error.
    """

    found: bool
    refused: list[str]
    other: list[str]
    crashed: list[str]


async def create(folder: Path) -> None:
    """Create a closed file with several revisions, deletions, long documents, results of mutations and free pages."""
    pick = random.Random(7)
    runtime = bound_runtime()
    runtime.clock_us = 1_750_000_000_000_000
    async with opened(folder, TABLES, runtime=runtime) as store:
        documents = []
        for number in range(150):
            fields = {
                "n": pick.randrange(40),
                "text": f"text {pick.randrange(10**6)}",
                "more": {"list": [number, None, "ä" * 30]},
            }
            if number % 40 == 0:
                fields["long"] = "x" * 9_000
            request = (SESSIONS[number % 2], number) if number < REQUESTS else None
            documents.append(await store.write(unit(insert(fields, "notes" if number % 5 == 0 else "items"), request)))
        for number, stored in enumerate(documents):
            if number % 3:
                continue
            name = "notes" if number % 5 == 0 else "items"

            def change(transaction: Any, name: str = name, stored: Any = stored, number: int = number) -> None:
                fields = None if number % 9 == 0 else {"n": pick.randrange(40), "text": f"text {pick.randrange(10**6)}"}
                transaction.put(transaction.catalog.table(name), stored.internal, fields)

            await store.write(unit(change))


def reads(folder: Path) -> dict[str, Callable[[SnapshotSource], Any]]:
    """Return every read of a sound file by its name."""
    found: dict[str, Callable[[SnapshotSource], Any]] = {}
    with closing(open_reader(folder / "data.sqlite3")) as connection:
        stored = read_globals(connection)
        rows = connection.execute("SELECT table_id, id, ts FROM documents ORDER BY log_row").fetchall()
    timestamps = sorted({ts for _, _, ts in rows})
    times = [None, *timestamps[:: len(timestamps) // 4]]
    documents = sorted({(tablet, internal) for tablet, internal, _ in rows})
    for at in times:
        for tablet, internal in documents:
            found[f"get {tablet} {internal.hex()} at {at}"] = _at(at, lambda s, t=tablet, i=internal: s.get(t, i))
        for table in ("_tables", "_indexes", "_code", "items", "notes"):
            found[f"scan {table} at {at}"] = _at(at, lambda s, name=table: _scan(s, name))
            found[f"count {table} at {at}"] = _at(at, lambda s, name=table: _counts(s, name))
        found[f"catalog at {at}"] = _at(at, lambda s: [repr(table) for table in s.catalog.tables()])
    for tablet, internal in documents:
        found[f"history {tablet} {internal.hex()}"] = _at(None, lambda s, t=tablet, i=internal: list(s.history(t, i)))
    for session in SESSIONS:
        for number in range(REQUESTS):
            found[f"request {session} {number}"] = _at(None, lambda s, k=session, n=number: s.request(k, n))
    found["log"] = _at(None, lambda s: list(s.revisions_since(stored["floor_ts"])))
    found["globals"] = _at(None, lambda s: dict(s.globals()))
    return found


def _at(at: int | None, read: Callable[[Snapshot], Any]) -> Callable[[SnapshotSource], Any]:
    def run(source: SnapshotSource) -> Any:
        try:
            snapshot = source.begin(at)
            return snapshot.ts, read(snapshot)
        finally:
            source.end()

    return run


def _scan(snapshot: Snapshot, name: str) -> Any:
    results = []
    for index in snapshot.catalog.table(name).maintained if name in _names(snapshot) else ():
        rows = []
        after = KEY_MIN
        while True:
            page = snapshot.page(index, after, KEY_MAX, limit=16)
            rows += page
            if page.complete:
                break
            if page[-1].key < after:
                raise RuntimeError("the scan would not end")
            after = successor(page[-1].key)
        results.append((index.name, rows))
    return results


def _counts(snapshot: Snapshot, name: str) -> Any:
    table = snapshot.catalog.table(name) if name in _names(snapshot) else None
    return [snapshot.count_page(index, KEY_MIN, KEY_MAX) for index in table.maintained] if table else []


def _names(snapshot: Snapshot) -> set[str]:
    return {table.name for table in snapshot.catalog.tables()}


def visible(folder: Path, wanted: dict[str, Callable[[SnapshotSource], Any]]) -> dict[str, Any]:
    """Return the result of every read; Refused for one that a storage error ended, another error as itself."""
    try:
        connection = open_reader(folder / "data.sqlite3")
    except StorageError as error:
        return dict.fromkeys(wanted, Refused(str(error)))
    results: dict[str, Any] = {}
    with closing(connection):
        source = SnapshotSource(connection)
        for name, read in wanted.items():
            try:
                results[name] = read(source)
            except StorageError as error:
                results[name] = Refused(str(error))
            except sqlite3.Error as error:  # as the readers' threads translate it
                results[name] = Refused(str(translate(error)))
            except Exception as error:  # noqa: BLE001 - the test fails with it
                results[name] = error
    return results


def outcome(folder: Path, wanted: dict[str, Callable[[SnapshotSource], Any]], sound: dict[str, Any]) -> Outcome:
    """Compare a file with the sound one."""
    try:
        found = check_folder(folder) != []
    except StorageError:
        found = True
    results = visible(folder, wanted)
    refused = [name for name, result in results.items() if isinstance(result, Refused)]
    crashed = [f"{name}: {result!r}" for name, result in results.items() if isinstance(result, Exception)]
    other = [
        name
        for name, result in results.items()
        if not isinstance(result, Refused | Exception) and result != sound[name]
    ]
    return Outcome(found, refused, other, crashed)


def flip(data: bytes, pick: random.Random) -> tuple[int, bytes]:
    """Change one byte of a file's contents; return its offset and the new contents."""
    offset = pick.randrange(len(data))
    changed = bytearray(data)
    changed[offset] ^= pick.randrange(1, 256)
    return offset, bytes(changed)
