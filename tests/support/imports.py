"""The steps of an import as units for the writer, and the resulting state of a store."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from tests.support.storage import MemoryStore
from tinyvex.storage.log.commit_record import CommitRecord, Outcome
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.operations import FillTablet
from tinyvex.storage.schema import table_replacement
from tinyvex.storage.schema.table_replacement import Begun, Mode
from tinyvex.storage.schema.tablets import Tablet, tablets
from tinyvex.values.ids import DocumentId, new_internal
from tinyvex.values.timestamps import creation_time, next_creation_time

T = TypeVar("T")
Unit: TypeAlias = Callable[[Snapshot, int], Outcome[T]]


def began(mode: Mode = "empty", **wanted: int | None) -> Unit[Begun]:
    """Begin an import into these tables, each with its number or None."""
    return lambda snapshot, ts: table_replacement.begin(snapshot, ts, mode, wanted)


def filled(begun: Begun, table: str, *rows: Mapping[str, Any]) -> Unit[list[bytes]]:
    """Add documents; a document with an `internal` gets that key."""

    def run(snapshot: Snapshot, ts: int) -> Outcome[list[bytes]]:
        tablet = tablet_of(snapshot, begun, table)
        pick = random.Random(ts)
        created = creation_time(ts)
        ids, writes = [], []
        for row in rows:
            fields = dict(row)
            internal = fields.pop("internal", None) or new_internal(ts, pick)
            text = DocumentId(tablet.table.number, internal).text
            ids.append(internal)
            writes.append(
                table_replacement.write_of(tablet.table, internal, {**fields, "_id": text, "_creationTime": created})
            )
            created = next_creation_time(created)
        return Outcome(ids, CommitRecord(ts, (FillTablet(tuple(writes)),)))

    return run


def finished(begun: Begun) -> Unit[None]:
    """Publish the tablets."""
    return lambda snapshot, ts: table_replacement.finish(snapshot, ts, begun.import_id)


def abandoned(begun: Begun) -> Unit[None]:
    """Abandon the import."""
    return lambda snapshot, ts: table_replacement.abandon(snapshot, ts, begun.import_id)


def imported(store: MemoryStore, mode: Mode, contents: Mapping[str, list[Mapping[str, Any]]]) -> Begun:
    """Run a complete import of documents without numbers."""
    begun = store.run(began(mode, **dict.fromkeys(contents)))
    for table, rows in contents.items():
        store.run(filled(begun, table, *rows))
    store.run(finished(begun))
    return begun


def tablet_of(snapshot: Snapshot, begun: Begun, table: str) -> Tablet:
    """Return the tablet that an import fills for a table."""
    (filling,) = [
        tablet for tablet in table_replacement.filling(snapshot, begun.import_id) if tablet.table.name == table
    ]
    return filling


def states(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Return table and state of every tablet that does not belong to a table."""
    return sorted((tablet.table.name, tablet.state) for tablet in tablets(snapshot))
