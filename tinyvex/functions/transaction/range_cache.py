"""
The range cache: results of index scans that a live query hands from one execution to the next.

Computing a live query again after a small change should cost what changed, not what the query returns. So each execution
leaves the rows that its `collect` and `take` calls returned, with the `ts` at which they were right. The next execution
answers the same scan in three steps:

1.  *Apply.* The recent commits (`storage/log/recent_commits.py`) list what happened to the index since then. Changes
    inside the keys that the old rows cover are applied to them; chunks without a change are shared (`chunked_rows.py`).
2.  *Trim or fill.* A `take` that has gained rows drops its last ones; one that has lost rows reads the missing ones
    from behind the covered keys.
3.  *Record.* The keys covered now go into the read set, as a plain scan would have recorded them.

If the recent commits do not reach back far enough, the scan reads the range: that is always right, only slower.

Rows are immutable and shared by versions, so a result that was sent never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct, field

from tinyvex.functions.result.chunked_rows import ChunkedRows
from tinyvex.functions.result.result_body import RowsPart
from tinyvex.storage.log.key_ranges import successor

if TYPE_CHECKING:
    from tinyvex.functions.transaction.transaction import Transaction
    from tinyvex.storage.log.catalog import IndexInfo, TableInfo
    from tinyvex.storage.log.revisions import StoredDocument

__all__ = ["CachedRanges", "RangeCache", "Scan"]


class Scan(Struct, frozen=True, gc=False):
    """A scan of the keys lo <= key < hi of an index: at most `limit` rows, from the greatest key down if `reverse`."""

    index_id: int
    lo: bytes
    hi: bytes
    reverse: bool
    limit: int | None

    def covered(self, rows: ChunkedRows) -> tuple[bytes, bytes]:
        """Return the keys that the scan passed to find these rows: all, or up to the last row if it met its limit."""
        if self.limit is None or len(rows) < self.limit:
            return self.lo, self.hi
        if self.reverse:
            return rows.chunks[0].rows[0].key, self.hi
        return self.lo, successor(rows.chunks[-1].rows[-1].key)


Ranges: TypeAlias = Mapping[Scan, ChunkedRows]


class CachedRanges(Struct, frozen=True, gc=False):
    """
    The rows that an execution's scans returned.

    Attributes:
        ts: no later commit up to this timestamp has changed them.
        ranges: the rows by scan.
    """

    ts: int
    ranges: Ranges


class RangeCache(Struct):
    """
    Serves one execution's scans from the rows of the previous execution.

    Attributes:
        previous: the rows of the previous execution; None if it left none.
        current: the rows of this execution.
        rows_applied: rows taken from recent commits instead of being read.
    """

    previous: CachedRanges | None
    current: dict[Scan, ChunkedRows] = field(default_factory=dict)
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
        """Return the rows of a scan, and record the covered keys as read."""
        scan = Scan(index.id, lo, hi, reverse, limit)
        rows = self.current.get(scan)
        if rows is None:
            rows = self.current[scan] = self._rows(transaction, table, index, scan)
        return RowsPart(rows, index.id, reverse=reverse)

    def _rows(self, transaction: Transaction, table: TableInfo, index: IndexInfo, scan: Scan) -> ChunkedRows:
        previous = self.previous
        cached = None if previous is None else previous.ranges.get(scan)
        changes = None
        if cached is not None and previous is not None:
            changes = transaction.changes(index, previous.ts)
        if cached is None or changes is None:
            rows = list(transaction.scan(table, index, scan.lo, scan.hi, reverse=scan.reverse, limit=scan.limit))
            return ChunkedRows.of(rows[::-1] if scan.reverse else rows)
        return self._updated(transaction, table, index, scan, cached, changes)

    def _updated(
        self,
        transaction: Transaction,
        table: TableInfo,
        index: IndexInfo,
        scan: Scan,
        cached: ChunkedRows,
        changes: list[tuple[bytes, StoredDocument | None]],
    ) -> ChunkedRows:
        """Bring cached rows up to the transaction's snapshot."""
        lo, hi = scan.covered(cached)
        relevant = {key: row for key, row in changes if lo <= key < hi}
        self.rows_applied += len(relevant)
        rows = cached.changed(relevant)
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
    """Return the rows without the last ones in reading order."""
    from_the_end = iter(rows) if reverse else reversed(rows)
    return rows.changed({row.key: None for row, _ in zip(from_the_end, range(count), strict=False)})
