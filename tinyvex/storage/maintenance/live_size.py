"""
Measure the live data: the newest revision of each document with its index entries, and the records of requests.

The size is measured in short steps, each in a read transaction of its own, so that a long measurement neither occupies a
reader nor holds back a checkpoint. Changes in between make it an estimate, which is all that a size bound needs.
Rows of SQLite have an overhead, which constants stand for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tinyvex.limits import LIVE_SIZE_STEP_ROWS
from tinyvex.storage.log import request_records
from tinyvex.storage.log.catalog import BY_CREATION_TIME

if TYPE_CHECKING:
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["LiveSize", "LiveSizeMeasurement", "measure"]

DOCUMENT_OVERHEAD = 80
"""A revision's id, `ts` and row header, in the table and in its index."""
ENTRY_OVERHEAD = 50
"""The same of an index entry, in `indexes` and in `current`; the key is in both."""
REQUEST_OVERHEAD = 35
"""The same of a request record: numbers, `ts`, digest."""
SESSION_BYTES = 100
"""A session's id, in its table and in its index."""


class LiveSize(NamedTuple):
    """
    The bytes that no size bound can free.

    Attributes:
        live_bytes: the newest revisions and their index entries.
        request_bytes: the results of mutations that clients may resend.
    """

    live_bytes: int = 0
    request_bytes: int = 0


class LiveSizeMeasurement:
    """A measurement that advances by one step at a time."""

    def __init__(self) -> None:
        self.size = LiveSize()
        self._indexes: list[tuple[int, bool]] | None = None
        self._after_key = b""
        self._after_request = request_records.FIRST

    def step(self, snapshot: Snapshot) -> bool:
        """Read the next rows; return whether rows are left."""
        if self._indexes is None:
            self._indexes = [
                (index.id, index.name == BY_CREATION_TIME)
                for table in snapshot.catalog.tables()
                for index in table.maintained
            ]
        return self._step_index(snapshot) if self._indexes else self._step_requests(snapshot)

    def _step_index(self, snapshot: Snapshot) -> bool:
        assert self._indexes
        index_id, has_documents = self._indexes[-1]
        page = snapshot.live_page(index_id, self._after_key, LIVE_SIZE_STEP_ROWS, documents=has_documents)
        overhead = ENTRY_OVERHEAD + DOCUMENT_OVERHEAD * has_documents
        added = page.rows * overhead + 2 * page.key_bytes + page.document_bytes
        self.size = self.size._replace(live_bytes=self.size.live_bytes + added)
        self._after_key = page.last_key or b""
        if page.rows < LIVE_SIZE_STEP_ROWS:
            self._indexes.pop()
            self._after_key = b""
        return True

    def _step_requests(self, snapshot: Snapshot) -> bool:
        page = snapshot.requests_page(self._after_request, LIVE_SIZE_STEP_ROWS)
        added = page.rows * REQUEST_OVERHEAD + page.sessions * SESSION_BYTES + page.size
        self.size = self.size._replace(request_bytes=self.size.request_bytes + added)
        if page.end is None:
            return False
        self._after_request = page.end
        return True


def measure(snapshot: Snapshot) -> LiveSize:
    """Return the size in one snapshot."""
    measurement = LiveSizeMeasurement()
    while measurement.step(snapshot):
        pass
    return measurement.size
