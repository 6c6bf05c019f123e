"""
The closed set of operations that a commit consists of.

Everything that a reader can see in the database file was written by one of these operations.
`apply.py` executes them; a commit record (`commit_record.py`) is a timestamp and a sequence of them.
Because a record contains all that it does, it can be encoded (`record_codec.py`), sent elsewhere and replayed there.

Two kinds of operations keep records small:

-   *Data*: `WriteDocuments`, `FillTablet`, `StoreRequest`, `SetNumbers`. The record contains the rows.
-   *Steps*: `BackfillIndex`, `DropIndexEntries`, `MoveTablet`, `UpgradeDocuments`, `ExpireRequests`. The record names
    rows that are in the file already, and what becomes of them. A step depends on nothing but the newest state, which is
    the same in every file that applied the same records; it does not depend on the retention floor, the clock, or the app.
    Each step carries the number of rows that it found when the record was made. `apply` compares it with the number that
    it finds, so two files that should be equal and are not are detected instead of drifting apart.

Changes that no readable timestamp can see are not operations; see `housekeeping.py`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

__all__ = [
    "BackfillIndex",
    "DropIndexEntries",
    "ExpireRequests",
    "FillTablet",
    "IndexFields",
    "IndexKey",
    "MoveTablet",
    "Operation",
    "RequestRecord",
    "SetNumbers",
    "StoreRequest",
    "UpgradeDocuments",
    "Write",
    "WriteDocuments",
]

IndexKey: TypeAlias = tuple[int, bytes]
"""An index and a key in it."""

IndexFields: TypeAlias = tuple[int, tuple[str, ...]]
"""An index and the fields that it sorts by: all that is needed to compute a document's key."""


class Write(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    A new revision of one document.

    Attributes:
        tablet: of the document's table.
        internal: the document's own 16 bytes of its id.
        json: None deletes the document.
        prev_ts: of the revision that this one replaces.
        removed: keys that the document no longer has.
        added: keys that it did not have before.
        unchanged: keys that it had and still has.
    """

    tablet: int
    internal: bytes
    json: bytes | None
    prev_ts: int | None
    removed: tuple[IndexKey, ...]
    added: tuple[IndexKey, ...]
    unchanged: tuple[IndexKey, ...]

    @classmethod
    def between(
        cls,
        tablet: int,
        internal: bytes,
        json: bytes | None,
        prev_ts: int | None,
        old: list[IndexKey],
        new: list[IndexKey],
    ) -> Write:
        """Return the write that changes a document's index keys from `old` to `new`; either may be empty."""
        if old == new:
            return cls(tablet, internal, json, prev_ts, (), (), tuple(old))
        if not old:
            return cls(tablet, internal, json, prev_ts, (), tuple(new), ())
        unchanged = set(old) & set(new)
        return cls(
            tablet,
            internal,
            json,
            prev_ts,
            tuple(key for key in old if key not in unchanged),
            tuple(key for key in new if key not in unchanged),
            tuple(key for key in old if key in unchanged),
        )


class RequestRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    The result of a mutation, stored so that a resent request gets the same answer and does not run again.

    Attributes:
        session_id: chosen by the client.
        request_id: unique within the session.
        digest: of function, arguments and identity; a resent request must have the same.
        result: JSON.
        log_lines: what the function logged.
        ts: of the mutation's commit.
        acknowledged_below: the client has finished every request of the session with a lower id.
    """

    session_id: str
    request_id: int
    digest: bytes
    result: bytes
    log_lines: tuple[str, ...]
    ts: int
    acknowledged_below: int = 0


class WriteDocuments(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="write"):
    """Write revisions of documents in tables."""

    writes: tuple[Write, ...]


class FillTablet(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="fill"):
    """
    Write documents to a tablet that no table leads to yet.

    No query can have read that tablet, so the operation touches no key, and recent commits need not remember it.
    """

    writes: tuple[Write, ...]


class StoreRequest(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="request"):
    """Store the result of a mutation for exactly-once, and delete the results that its client has acknowledged."""

    request: RequestRecord


class ExpireRequests(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="expire"):
    """
    Delete request records whose time is over, among some in the order of sessions.

    An operation and not housekeeping: whether a resent mutation runs again is visible to its client.

    Attributes:
        before: the first `ts` that stays.
        after: the last record before those inspected: a session's number and a request id.
        end: the last record inspected.
        rows: records deleted.
    """

    before: int
    after: tuple[int, int]
    end: tuple[int, int]
    rows: int


class SetNumbers(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="numbers"):
    """Set the numbers that the next table, tablet and index will get."""

    next_table_number: int
    next_tablet: int
    next_index_id: int


class BackfillIndex(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="backfill"):
    """
    Enter existing documents into indexes that are being built.

    Attributes:
        tablet: of the table.
        by_creation_time: the index through which documents are found.
        lo: the first key in that index.
        hi: the first key after the step.
        indexes: those being built.
        rows: documents between `lo` and `hi`.
    """

    tablet: int
    by_creation_time: int
    lo: bytes
    hi: bytes
    indexes: tuple[IndexFields, ...]
    rows: int


class DropIndexEntries(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="drop"):
    """
    Delete entries of an index that is being dropped, from its smallest key on.

    Attributes:
        index_id: the index.
        hi: the first key that stays.
        history: delete entries of the log too, because the index never became readable.
        rows: rows of `current` deleted. The log is not counted: how much of it is there depends on retention.
    """

    index_id: int
    hi: bytes
    history: bool
    rows: int


class MoveTablet(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="move"):
    """
    Copy the documents of one tablet into another as new documents; their ids must be new there.

    Attributes:
        source: a tablet whose documents have one revision each.
        target: the tablet of a table.
        indexes: pairs of an index of the source and the target's index over the same fields.
        rows: documents in the source.
    """

    source: int
    target: int
    indexes: tuple[tuple[int, int], ...]
    rows: int


class UpgradeDocuments(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="upgrade"):
    """
    Give the documents of a table the contents that were staged for them in another tablet.

    A document that was written or deleted after its new contents were staged is left as it is.

    Attributes:
        source: the tablet with the staged contents.
        target: the table's tablet.
        indexes: those that mutations maintain from now on.
        rows: documents upgraded.
    """

    source: int
    target: int
    indexes: tuple[IndexFields, ...]
    rows: int


Operation: TypeAlias = (
    WriteDocuments
    | FillTablet
    | StoreRequest
    | ExpireRequests
    | SetNumbers
    | BackfillIndex
    | DropIndexEntries
    | MoveTablet
    | UpgradeDocuments
)
