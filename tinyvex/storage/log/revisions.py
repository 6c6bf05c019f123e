"""Plain values that a snapshot returns: documents, revisions and pages of them."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

__all__ = ["CountPage", "LivePage", "LogRevision", "Revision", "ScanPage", "StoredDocument"]


class StoredDocument(Struct, frozen=True, gc=False):
    """
    A document's newest revision at a snapshot, as stored.

    Cached results hold hundreds of thousands of them. The garbage collector tracks none, nor a tuple of them.

    Attributes:
        key: in the index through which it was read; the internal id if it was read by id.
        internal: the document's own 16 bytes of its id.
        ts: the commit that wrote this revision.
        json: canonical, including `_id` and `_creationTime`.
    """

    key: bytes
    internal: bytes
    ts: int
    json: bytes


class Revision(NamedTuple):
    """
    An entry of a document's history.

    Attributes:
        ts: the commit that wrote it.
        prev_ts: of the revision that it replaced; None for the first.
        json: None if the document was deleted.
    """

    ts: int
    prev_ts: int | None
    json: bytes | None


class LogRevision(NamedTuple):
    """
    An entry of the log, for any document.

    Attributes:
        log_row: its position; grows with `ts`.
        ts: the commit that wrote it.
        tablet: of the document's table at `ts`, or one that no table leads to.
        internal: the document key.
        json: None if the document was deleted.
        prev_ts: of the revision that it replaced; None for the first.
    """

    log_row: int
    ts: int
    tablet: int
    internal: bytes
    json: bytes | None
    prev_ts: int | None


class ScanPage(list[StoredDocument]):
    """Documents in key order; `complete` if the range has no more."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        super().__init__()
        self.complete = False


class LivePage(NamedTuple):
    """The sizes of part of an index, and of its documents; the last key if there is any."""

    rows: int
    last_key: bytes | None
    key_bytes: int
    document_bytes: int


class CountPage(NamedTuple):
    """The number of keys in part of a range, and the last of them if the range has more."""

    total: int
    last_key: bytes | None
