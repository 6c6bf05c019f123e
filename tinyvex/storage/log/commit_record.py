"""
Commit records: everything that a commit does, as one value.

A unit of work on the writer returns an `Outcome`: a value for its caller, and the record to commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from msgspec import Struct

from tinyvex.storage.log.operations import (
    FillTablet,
    IndexKey,
    MoveTablet,
    Operation,
    StoreRequest,
    UpgradeDocuments,
    Write,
    WriteDocuments,
)
from tinyvex.storage.log.system_tablets import CODE_TABLET, INDEXES_TABLET
from tinyvex.values.codec import decode_canonical

__all__ = ["WRITE_OVERHEAD_BYTES", "CommitRecord", "Outcome", "memory_bytes"]

T = TypeVar("T")

WRITE_OVERHEAD_BYTES = 600
"""Memory of a `Write` in addition to its JSON: tuples, keys, ids."""

_UNLISTED = (MoveTablet, UpgradeDocuments)
"""Operations that change documents which the record does not contain."""


class CommitRecord(Struct, frozen=True, array_like=True, gc=False):
    """
    A timestamp, and the operations that are applied at it, in order.

    Operations on documents with one `ts` must concern different documents.
    """

    ts: int
    operations: tuple[Operation, ...]

    @property
    def writes(self) -> tuple[Write, ...]:
        """Return the revisions that the record contains, of documents that readers can see."""
        writes: tuple[Write, ...] = ()
        for operation in self.operations:
            if type(operation) is WriteDocuments:
                writes += operation.writes  # no copy if there is one such operation
        return writes

    def touched(self) -> Iterator[IndexKey]:
        """
        Yield every key whose document changed, appeared or disappeared: old and new keys, and document ids.

        A record with an operation that changes other documents (`lists_all_writes`) also writes the code document, which
        every query reads, so no subscriber misses the change.
        """
        for operation in self.operations:
            if type(operation) is WriteDocuments:
                for write in operation.writes:
                    yield -write.tablet, write.internal
                    yield from write.removed
                    yield from write.added
                    yield from write.unchanged

    @property
    def lists_all_writes(self) -> bool:
        """Return whether `writes` yields every revision that readers can see after this commit and not before."""
        for operation in self.operations:  # noqa: SIM110 - each commit comes here; a generator costs half a microsecond
            if type(operation) in _UNLISTED:
                return False
        return True

    @property
    def changes_catalog(self) -> bool:
        """Return whether the record writes `_tables` or `_indexes`, whose tablets are the lowest."""
        for operation in self.operations:
            if type(operation) is WriteDocuments:
                for write in operation.writes:
                    if write.tablet <= INDEXES_TABLET:
                        return True
        return False

    @property
    def code_fingerprint(self) -> str | None:
        """Return the fingerprint of the code that this commit makes current; None if it does not write the code document."""
        for write in self.writes:
            if write.tablet == CODE_TABLET and write.json is not None:
                fields: Any = decode_canonical(write.json)
                fingerprint: str = fields["fingerprint"]
                return fingerprint
        return None

    @property
    def memory_bytes(self) -> int:
        """Return about how much memory the record takes."""
        size = WRITE_OVERHEAD_BYTES
        for operation in self.operations:
            if isinstance(operation, WriteDocuments | FillTablet):
                size += memory_bytes(operation.writes)
            elif type(operation) is StoreRequest:
                size += len(operation.request.result)
        return size


def memory_bytes(writes: Iterable[Write]) -> int:
    """Return about how much memory some writes take."""
    size = 0
    for write in writes:
        size += WRITE_OVERHEAD_BYTES + len(write.json or b"")
        for _, key in (*write.removed, *write.added, *write.unchanged):
            size += len(key)
    return size


class Outcome(Struct, Generic[T], frozen=True):
    """
    The result of a unit of work on the writer.

    Attributes:
        value: for the caller.
        record: to be committed; None if nothing is.
    """

    value: T
    record: CommitRecord | None = None
