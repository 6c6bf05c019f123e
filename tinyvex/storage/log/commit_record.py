"""What is stored and committed, as plain values."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from tinyvex.storage.log.catalog import INDEXES_TABLET, TABLES_TABLET, Key

__all__ = [
    "CommitRecord",
    "CountPage",
    "Outcome",
    "RequestRecord",
    "Revision",
    "ScanPage",
    "StoredDocument",
    "Write",
]

T = TypeVar("T")


class StoredDocument(NamedTuple):
    """A revision as it is stored."""

    key: bytes
    """In the index it was read through; the internal id when it was read by id."""
    internal: bytes
    ts: int
    json: bytes
    """Canonical, with `_id` and `_creationTime`."""


class Revision(NamedTuple):
    """One entry of a document's history."""

    ts: int
    prev_ts: int | None
    json: bytes | None
    """None where the document was deleted."""


class ScanPage(list[StoredDocument]):
    """Some documents in key order; `complete` when the range has no more."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        super().__init__()
        self.complete = False


class CountPage(NamedTuple):
    """How many keys a piece of a range has, and the last of them when the range has more."""

    total: int
    last_key: bytes | None


class Write(NamedTuple):
    """What one commit does to one document, self-contained."""

    tablet: int
    internal: bytes
    json: bytes | None
    """None deletes."""
    prev_ts: int | None
    removed: tuple[Key, ...]
    added: tuple[Key, ...]
    kept: tuple[Key, ...]

    @classmethod
    def between(
        cls, tablet: int, internal: bytes, json: bytes | None, prev_ts: int | None, old: list[Key], new: list[Key]
    ) -> Write:
        """Of a document that had some keys, or none, and has others now, or none."""
        if old == new:
            return cls(tablet, internal, json, prev_ts, (), (), tuple(old))
        if not old:
            return cls(tablet, internal, json, prev_ts, (), tuple(new), ())
        kept = set(old) & set(new)
        return cls(
            tablet,
            internal,
            json,
            prev_ts,
            tuple(key for key in old if key not in kept),
            tuple(key for key in new if key not in kept),
            tuple(key for key in old if key in kept),
        )


class RequestRecord(NamedTuple):
    """What a mutation answered, kept so that a resent one is answered the same and not run again."""

    session_id: str
    request_id: int
    digest: bytes
    result: bytes
    log_lines: tuple[str, ...]
    ts: int


class CommitRecord(NamedTuple):
    """Everything a commit does; it could be replayed elsewhere."""

    ts: int
    writes: tuple[Write, ...]
    request: RequestRecord | None = None
    moves: bool = False
    """Its outcome's `then` appends rows beside `writes`: what is in memory cannot be brought up across it."""
    unseen: bool = False
    """All of `writes` is in tablets that no table leads to yet: nobody has read them, so nobody needs to hear of them."""

    def touched(self) -> Iterator[Key]:
        """Every key whose document changed, appeared or went, old keys and new, and the ids themselves."""
        if self.unseen:
            return
        for write in self.writes:
            yield -write.tablet, write.internal
            yield from write.removed
            yield from write.added
            yield from write.kept

    @property
    def changes_catalog(self) -> bool:
        """Whether tables or indexes are among the documents written."""
        return any(write.tablet in (TABLES_TABLET, INDEXES_TABLET) for write in self.writes)


class Outcome(NamedTuple, Generic[T]):
    """
    What a unit of work on the writer gives back.

    Attributes:
        value: for whoever waits.
        record: what to commit; None for nothing.
        then: further statements of the storage engine itself, run right after the record is applied.
        undo: takes back what `then` did outside the database; called when the group is rolled back.
    """

    value: T
    record: CommitRecord | None = None
    then: Callable[[sqlite3.Connection], None] | None = None
    undo: Callable[[], None] | None = None
