"""
The oracle: documents in plain dictionaries, and queries that inspect every document.

It has no indexes, keys, pages or read sets. Commits reach it as the documents they wrote.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]
MISSING = object()
TABLES = 1
"""The tablet of `_tables`."""


def rank(value: Any) -> tuple[Any, ...]:
    """Convert a value to a tuple that Python compares in the database's order."""
    if value is MISSING:
        return (0,)
    if value is None:
        return (1,)
    if isinstance(value, bool):
        return (4, value)
    if isinstance(value, (int, float)):
        return (3, value)
    if isinstance(value, str):
        return (5, value)
    assert isinstance(value, list), value
    return (7, tuple(rank(element) for element in value))


def at_path(document: Document, path: str) -> Any:
    """Return the value at a dotted path."""
    value: Any = document
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return MISSING
        value = value[part]
    return value


@dataclass
class Model:
    """Every revision of every document, by tablet, and the tablet of each table at every timestamp."""

    revisions: dict[int, dict[str, list[tuple[int, Document | None]]]] = field(default_factory=dict)
    tablets: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    last_ts: int = 0
    internal_ids: dict[str, str] = field(default_factory=dict)
    """The internal id of each document's id: a deletion in the log has nothing else."""

    def commit(self, ts: int, writes: list[tuple[int, str, bytes | None]]) -> None:
        """Add a commit: (tablet, document key, JSON or None)."""
        assert ts > self.last_ts, "commits are in order"
        self.last_ts = ts
        for tablet, internal, text in writes:
            document = None if text is None else json.loads(text)
            if tablet == TABLES:
                assert document is not None
                self.tablets.setdefault(document["name"], []).append((ts, document["tablet"]))
            elif document is not None:
                self.internal_ids[document["_id"]] = internal
            self.revisions.setdefault(tablet, {}).setdefault(internal, []).append((ts, document))

    def live(self) -> set[tuple[int, str]]:
        """Yield tablet and key of every document whose newest revision is not a deletion."""
        return {
            (tablet, internal)
            for tablet, documents in self.revisions.items()
            for internal, revisions in documents.items()
            if revisions[-1][1] is not None
        }

    def fetch(self, document_id: str, ts: int) -> Document | None:
        """Return the document with an id, in any table."""
        internal = self.internal_ids.get(document_id, "")
        documents = [self._revision(self._tablet(table, ts), internal, ts) for table in self.tablets]
        return next((document for document in documents if document is not None), None)

    def _tablet(self, table: str, ts: int) -> int:
        """Return the table's tablet; 0 before it had one."""
        return next((tablet for since, tablet in reversed(self.tablets.get(table, [])) if since <= ts), 0)

    def _revision(self, tablet: int, internal: str, ts: int) -> Document | None:
        newest = None
        for written, document in self.revisions.get(tablet, {}).get(internal, ()):
            if written <= ts:
                newest = document
        return newest

    def documents(self, table: str, ts: int) -> list[Document]:
        """Return all documents of a table at a `ts`."""
        tablet = self._tablet(table, ts)
        revisions = [self._revision(tablet, internal, ts) for internal in self.revisions.get(tablet, {})]
        return [document for document in revisions if document is not None]

    def appeared(self, mark: str) -> list[int]:
        """Return the timestamps from which each document with this `mark` was visible."""
        since = {tablet: ts for entries in self.tablets.values() for ts, tablet in reversed(entries)}
        return [
            max(written, since[tablet])
            for tablet, documents in self.revisions.items()
            if tablet in since
            for (written, document), *_ in documents.values()
            if document is not None and document.get("mark") == mark
        ]

    def scan(self, ts: int, fields: list[str], args: Document) -> list[Document]:
        """Compute the expected result of the board's `scan`."""
        rows = self.documents(args["table"], ts)
        equal = args["equal"]
        for path, value in equal:
            rows = [row for row in rows if rank(at_path(row, path)) == rank(value)]
        if args["bound"] is not None:
            comparison, value = args["bound"]
            rows = [row for row in rows if _holds(comparison, rank(at_path(row, fields[len(equal)])), rank(value))]

        def sort_key(row: Document) -> tuple[Any, ...]:
            return (*(rank(at_path(row, path)) for path in fields), row["_creationTime"], row["_id"])

        rows.sort(key=sort_key, reverse=args["order"] == "desc")
        return rows if args["limit"] is None else rows[: args["limit"]]


def _holds(comparison: str, left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    return {"gt": left > right, "gte": left >= right, "lt": left < right, "lte": left <= right}[comparison]
