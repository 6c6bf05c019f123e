"""Closing within its limit, whatever the writer is doing."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.storage import Transaction, bound_runtime, declare, insert, numbers, opened, unit
from tinyvex import errors
from tinyvex.storage.engine.store import Store
from tinyvex.storage.log import apply
from tinyvex.storage.maintenance.check import check_folder
from tinyvex.values.codec import decode, encode

OLD = {"items": {"by_n": ("n",)}}
COUNT = 100


def with_default(json: bytes) -> tuple[list[str], bytes]:
    """Return a class whose `m` defaults to a hundred."""
    return [], encode({"m": 100} | decode(json))


async def test_closing_ends_an_upgrade_of_many_documents_at_its_next_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit that makes an upgrade visible has no time limit; it is rolled back, and nothing of it is in the file."""

    def insert_all(transaction: Transaction) -> None:
        for n in range(COUNT):
            insert({"n": n})(transaction)

    async with opened(tmp_path, OLD) as store:
        await store.write(unit(insert_all))
    store = Store.open(tmp_path, bound_runtime())
    runs = threading.Event()
    pages = []

    def written(*arguments: Any, write: Any = apply._write_documents) -> int:
        """Write a page of the upgrade; the second one waits until the limit of closing has passed."""
        if not runs.is_set():
            pages.append(1)
            if len(pages) == 2:
                group_commit = store._writer._thread.group_commit  # type: ignore[union-attr]
                loop.call_soon_threadsafe(closing.set)
                while group_commit._cancelled is None and not runs.wait(0.01):  # type: ignore[union-attr]
                    pass
        return int(write(*arguments))

    monkeypatch.setattr(apply, "SCAN_PAGE_ROWS", 10)
    monkeypatch.setattr(apply, "_write_documents", written)
    loop, closing = asyncio.get_running_loop(), asyncio.Event()
    change = asyncio.ensure_future(
        declare(
            store, {"items": {"by_n": ("n",), "by_m": ("m",)}}, validators={"items": with_default}, fingerprint="new",
            table_fingerprints={"items": "new"},
        )
    )  # fmt: skip
    try:
        await closing.wait()
        await store.close(limit_seconds=0.01)
        with pytest.raises(errors.ServerStopping):
            await change
    finally:
        runs.set()
    assert len(pages) == 2
    monkeypatch.undo()
    assert check_folder(tmp_path) == []
    async with opened(tmp_path, OLD) as store:
        assert await store.read(numbers) == list(range(COUNT))
