"""The facts of a file, read beside its writer."""

from pathlib import Path

import aiosqlite

from tests.support.storage import insert, opened, unit
from tinyvex.storage.inspection import inspect_file


async def test_the_facts_are_what_the_file_has(tmp_path: Path) -> None:
    """Tables, revisions and sizes follow what is written."""
    async with opened(tmp_path) as store:
        before = await inspect_file(store.folder.database)
        await store.write(unit(insert({"a": 1})))
        after = await inspect_file(store.folder.database)
    assert before.tables == 1
    assert after.revisions == before.revisions + 1
    assert after.pages * after.page_bytes > 0
    assert after.sqlite_version == aiosqlite.sqlite_version
