"""
Ranges that a live query keeps from one execution to the next, so that the next costs what changed.

A range is what one `collect` or `take` found.
It is kept with the `ts` up to which it is right;
the next execution brings it up to its own snapshot with what the log's tail says happened since,
and reads rows only where a `take` has lost some of its own.
Where the tail does not reach back far enough, the range is read again: the plain scan is always right.

The rows are immutable and shared by versions, so a result that was sent is not changed by the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tinyvex.functions.result.chunked_rows import ChunkedRows
from tinyvex.functions.result.result_body import RowsPart
from tinyvex.storage.log.key_ranges import successor

if TYPE_CHECKING:
    from tinyvex.functions.transaction.transaction import Transaction
    from tinyvex.storage.log.catalog import IndexInfo, TableInfo
    from tinyvex.storage.log.commit_record import StoredDocument

__all__ = ["CachedRanges", "RangeCache", "Scan"]


class Scan(NamedTuple):
    """What was asked of an index; lo <= key < hi, at most `limit` rows, from the greatest key on if `reverse`."""

    index_id: int
    lo: bytes
    hi: bytes
    reverse: bool
    limit: int | None

    def covered(self, rows: ChunkedRows) -> tuple[bytes, bytes]:
        """The keys that were passed over to find these rows: all, or up to the last row where there were enough."""
        if self.limit is None or len(rows) < self.limit:
            return self.lo, self.hi
        if self.reverse:
            return rows.chunks[0].rows[0].key, self.hi
        return self.lo, successor(rows.chunks[-1].rows[-1].key)


Ranges: TypeAlias = Mapping[Scan, ChunkedRows]


@dataclass(frozen=True, slots=True)
class CachedRanges:
    """
    What the scans of an execution found.

    Attributes:
        ts: nothing in them has changed up to and with this.
    """

    ts: int
    ranges: Ranges


@dataclass(slots=True)
class RangeCache:
    """
    Serves one execution's scans from what the last one kept.

    Attributes:
        old: what was kept.
        found: what this execution's scans found.
        rows_applied: rows that were taken from the log's tail instead of being read.
    """

    old: CachedRanges | None
    found: dict[Scan, ChunkedRows] = field(default_factory=dict)
    rows_applied: int = 0

    def collect(
        self,
        transaction: Transaction,
        table: TableInfo,
        index: IndexInfo,
        lo: bytes,
        hi: bytes,
        *,
        reverse: bool,
        limit: int | None,
    ) -> RowsPart:
        """The rows of a scan, and what it observed recorded as read."""
        scan = Scan(index.id, lo, hi, reverse, limit)
        rows = self.found.get(scan)
        if rows is None:
            rows = self.found[scan] = self._rows(transaction, table, index, scan)
        return RowsPart(rows, index.id, reverse=reverse)

    def _rows(self, transaction: Transaction, table: TableInfo, index: IndexInfo, scan: Scan) -> ChunkedRows:
        kept = None if self.old is None else self.old.ranges.get(scan)
        changes = None
        if kept is not None and self.old is not None:
            changes = transaction.changes(index, self.old.ts)
        if kept is None or changes is None:
            found = list(transaction.scan(table, index, scan.lo, scan.hi, reverse=scan.reverse, limit=scan.limit))
            return ChunkedRows.of(found[::-1] if scan.reverse else found)
        return self._updated(transaction, table, index, scan, kept, changes)

    def _updated(
        self,
        transaction: Transaction,
        table: TableInfo,
        index: IndexInfo,
        scan: Scan,
        kept: ChunkedRows,
        changes: list[tuple[bytes, StoredDocument | None]],
    ) -> ChunkedRows:
        """The kept rows brought up to the transaction's snapshot."""
        lo, hi = scan.covered(kept)
        relevant = {key: row for key, row in changes if lo <= key < hi}
        self.rows_applied += len(relevant)
        rows = kept.changed(relevant)
        missing = 0 if scan.limit is None else scan.limit - len(rows)
        if missing < 0:
            rows = _without_last(rows, -missing, reverse=scan.reverse)
        elif missing > 0 and (lo, hi) != (scan.lo, scan.hi):
            beyond = (scan.lo, lo) if scan.reverse else (hi, scan.hi)
            more = transaction.scan(table, index, *beyond, reverse=scan.reverse, limit=missing)
            rows = rows.changed({row.key: row for row in more})
        transaction.reads.add(index.id, *scan.covered(rows))
        return rows


def _without_last(rows: ChunkedRows, count: int, *, reverse: bool) -> ChunkedRows:
    """Without the last rows in the order of reading."""
    from_the_end = iter(rows) if reverse else reversed(rows)
    return rows.changed({row.key: None for row, _ in zip(from_the_end, range(count), strict=False)})
