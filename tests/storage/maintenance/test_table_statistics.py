"""The statistics of a file, read concurrently with its writer."""

from pathlib import Path

import aiosqlite

from tests.support.imports import began, finished
from tests.support.storage import insert, opened, unit
from tinyvex.storage.maintenance.table_statistics import TableSize, count, inspect_file, table_sizes


async def test_the_facts_are_what_the_file_has(tmp_path: Path) -> None:
    """Tables, revisions and sizes follow the writes."""
    async with opened(tmp_path) as store:
        before = await inspect_file(store.folder.database)
        await store.write(unit(insert({"a": 1})))
        after = await inspect_file(store.folder.database)
    assert before.tables == 1
    assert after.revisions == before.revisions + 1
    assert after.pages * after.page_bytes > 0
    assert after.sqlite_version == aiosqlite.sqlite_version


async def test_sizes_are_of_the_documents_now(tmp_path: Path) -> None:
    """Bytes count only the newest revisions; the number of retained ones is separate."""
    async with opened(tmp_path, {"items": {}, "empty": {}}) as store:
        stored = await store.write(unit(insert({"text": "x" * 1000})))
        table = await store.read(lambda snapshot: snapshot.catalog.table("items"))
        shorter = await store.write(unit(lambda transaction: transaction.put(table, stored.internal, {"text": ""})))
        assert shorter is not None
        assert table_sizes(store.folder) == [
            TableSize("empty", 0, 0, True, 0),
            TableSize("items", 1, len(shorter.json), True, 2),
        ]


async def test_what_a_replaced_table_left_is_counted_as_its_own(tmp_path: Path) -> None:
    """Replaced contents count until no readable timestamp has them."""
    async with opened(tmp_path) as store:
        await store.write(unit(insert({"n": 1})))
        await store.write(unit(insert({"n": 2})))
        before = count(store.folder)
        begun = await store.write(began("replaceAll"))
        await store.write(finished(begun))
        after = count(store.folder)
    assert [(facts.table, facts.documents, facts.revisions) for facts in before.tables] == [("items", 2, 2)]
    assert after.tables == (before.tables[0]._replace(documents=0),)


async def test_the_bound_follows_the_live_data(tmp_path: Path) -> None:
    """`tinyvex stats` shows the default bound: four times the live data plus 256 MiB."""
    async with opened(tmp_path) as store:
        await store.write(unit(insert({"text": "x" * 10_000}), request=("session", 1)))
        facts = count(store.folder)
    assert facts.live_bytes > 10_000
    assert facts.request_bytes > 0
    assert facts.bound_bytes == 4 * facts.live_bytes + (256 << 20)
