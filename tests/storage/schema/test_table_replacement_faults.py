"""A full disk in an import's last commit: nothing of it is stored, and with free space the import can be completed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.imports import began, filled, finished, states
from tests.support.storage import Blocker, bound_runtime, insert, numbers, opened, unit, writer_connection
from tinyvex import errors
from tinyvex.storage.engine.store import Store
from tinyvex.storage.maintenance.check import check_folder
from tinyvex.storage.schema.table_replacement import Begun

OLD = list(range(50))
NEW = [{"n": n, "text": "x" * 2000} for n in range(100, 300)]


async def append_under_way(store: Store) -> Begun:
    """Prepare old documents, and an append that has received all of its new ones."""
    await store.write(unit(lambda t: [insert({"n": n})(t) for n in OLD]))
    begun = await store.write(began("append", items=None))
    await store.write(filled(begun, "items", *NEW))
    return begun


def room(store: Store, pages: int | None) -> None:
    """Limit the growth of the file to this many pages; None removes the limit."""
    connection = writer_connection(store)
    (count,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {1 << 30 if pages is None else count + pages}")


@pytest.mark.parametrize("pages", [0, 1, 10, 60, 90])
async def test_nothing_was_appended_where_the_disk_was_full(tmp_path: Path, pages: int) -> None:
    """Members of the same group fail too; afterwards row numbers continue, and the same import can be completed."""
    async with opened(tmp_path / "data", runtime=bound_runtime()) as store:
        begun = await append_under_way(store)
        before = store.last_ts
        blocker = Blocker(store)
        room(store, pages)
        results = await blocker.grouped(store.write(unit(insert({"n": -1}))), store.write(finished(begun)))
        assert [type(result) for result in results] == [errors.DiskFull, errors.DiskFull]
        assert store.last_ts == before
        assert check_folder(tmp_path / "data") == []
        assert await store.read(numbers) == OLD
        assert await store.read(states) == [("items", "filling")]
        room(store, None)
        await store.write(unit(insert({"n": 50})))
        await store.write(finished(begun))
        await store.write(unit(insert({"n": 500})))
        assert await store.read(numbers) == [*OLD, 50, *range(100, 300), 500]
        assert await store.read(numbers, at=before) == OLD
