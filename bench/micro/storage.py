"""Shared setup of the storage benchmarks: a store in its own folder, and commits to write into it."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.runtime import Runtime
from tinyvex.storage.engine.store import Store
from tinyvex.storage.log.catalog import BY_CREATION_TIME
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN, successor
from tinyvex.storage.log.revisions import StoredDocument
from tinyvex.storage.schema.schema_change import change_schema
from tinyvex.storage.schema.schema_plan import Declaration

if TYPE_CHECKING:
    from tinyvex.storage.engine.group_commit import Unit

__all__ = ["INDEX", "TABLE", "insert", "opened", "revise", "rows"]

TABLE = "documents"
INDEX = "by_channel"


@asynccontextmanager
async def opened(runtime: Runtime | None = None) -> AsyncIterator[Store]:
    """Open a store with one table and one index, in a temporary folder."""
    runtime = runtime or Runtime()
    runtime.bind(asyncio.get_running_loop())
    with tempfile.TemporaryDirectory(prefix="tinyvex-bench-") as folder:
        store = Store.open(Path(folder), runtime)
        try:
            declaration = Declaration({TABLE: {INDEX: ("channel",)}})
            await change_schema(store, declaration, validators={}, fingerprint="", table_fingerprints={TABLE: ""})
            yield store
        finally:
            await store.close()


def insert(random: random.Random, values: Sequence[dict[str, object]]) -> Unit:
    """Create a unit of work that inserts these documents in one commit and returns their document keys."""

    def run(snapshot: Snapshot, ts: int) -> Outcome[list[bytes]]:
        transaction = Transaction(snapshot, ts=ts, writable=True, random=random)
        table = snapshot.catalog.table(TABLE)
        inserted = [transaction.insert(table, value).internal for value in values]
        return Outcome(inserted, transaction.record(None))

    return run


def revise(random: random.Random, ids: Sequence[bytes], values: Sequence[dict[str, object]]) -> Unit:
    """Create a unit of work that replaces the documents with these keys in one commit."""

    def run(snapshot: Snapshot, ts: int) -> Outcome[None]:
        transaction = Transaction(snapshot, ts=ts, writable=True, random=random)
        table = snapshot.catalog.table(TABLE)
        for internal, value in zip(ids, values, strict=True):
            transaction.put(table, internal, value)
        return Outcome(None, transaction.record(None))

    return run


def rows(snapshot: Snapshot) -> list[StoredDocument]:
    """Read every document, page by page, as a scan does."""
    index = snapshot.catalog.table(TABLE).indexes[BY_CREATION_TIME]
    documents: list[StoredDocument] = []
    low = KEY_MIN
    while True:
        page = snapshot.page(index, low, KEY_MAX)
        documents += page
        if page.complete:
            return documents
        low = successor(page[-1].key)
