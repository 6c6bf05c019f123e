"""The store: opening, refusing, closing; refused files are never modified."""

import asyncio
import multiprocessing
import os
import random
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.storage import ITEMS, Blocker, bound_runtime, insert, numbers, opened, seal, unit, writer_connection
from tests.support.world import WorldRuntime
from tinyvex import errors
from tinyvex.storage.engine.store import Store
from tinyvex.storage.file import pragmas
from tinyvex.storage.file.data_folder import DataFolder, lock_holder
from tinyvex.storage.maintenance.check import check_folder


async def test_what_was_written_is_there_after_reopening(tmp_path):
    """The database id and epoch are the same, and timestamps are later."""
    async with opened(tmp_path) as store:
        await store.write(unit(insert({"n": 1})))
        identity, last_ts = (store.database_id, store.epoch), store.last_ts
    async with opened(tmp_path) as store:
        assert (store.database_id, store.epoch) == identity
        assert store.last_ts == last_ts
        await store.write(unit(insert({"n": 2})))
        assert store.last_ts > last_ts
        assert await store.read(numbers) == [1, 2]


async def test_the_folder_is_made_with_its_parents(tmp_path):
    """Only its owner can read it."""
    folder = tmp_path / "some" / "where"
    async with opened(folder):
        assert (folder / "data.sqlite3").is_file()
        if sys.platform != "win32":
            assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.parametrize("opened_up", [False, True])
async def test_only_the_owner_can_read_the_files(tmp_path, opened_up):
    """This holds in a folder that is open to all, and for a file that was copied there."""
    tmp_path.chmod(0o755)
    async with opened(tmp_path):
        pass
    if opened_up:
        (tmp_path / "data.sqlite3").chmod(0o644)
    async with opened(tmp_path) as store:
        await store.write(unit(insert({"n": 1})))
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert {name for name, mode in modes.items() if mode != 0o600} == set()
    assert {"data.sqlite3", "data.sqlite3-wal", "lock"} <= set(modes)


async def test_two_databases_have_different_ids(tmp_path):
    """The ids differ even if both were created at the same instant."""
    async with opened(tmp_path / "a", runtime=None) as one:
        runtime = bound_runtime()
        runtime.random.seed(1)
        async with opened(tmp_path / "b", runtime=runtime) as other:
            assert one.database_id != other.database_id


async def test_a_second_owner_is_refused_with_the_name_of_the_first(store):
    """This applies inside one process too."""
    with pytest.raises(errors.DataFolderLocked, match=str(os.getpid())) as caught:
        Store.open(store.folder.path, bound_runtime())
    assert caught.value.data["pid"] == os.getpid()
    assert lock_holder(store.folder.path) == os.getpid()


async def test_closing_releases_the_folder(tmp_path):
    """Another owner can take the folder immediately."""
    async with opened(tmp_path):
        pass
    assert lock_holder(tmp_path) is None
    async with opened(tmp_path):
        pass


async def test_closing_empties_the_write_ahead_log(tmp_path):
    """A closed database is one file."""
    async with opened(tmp_path) as store:
        await store.write(unit(insert({"n": 1})))
        await store.close()
        assert [path.name for path in tmp_path.iterdir() if path.name not in {"lock", "last-commit"}] == [
            "data.sqlite3"
        ]


async def test_closing_waits_for_what_was_queued(tmp_path):
    """Queued mutations are acknowledged; later ones are refused."""
    async with opened(tmp_path) as store:
        blocker = Blocker(store)
        pending = store.write(unit(insert({"n": 1})))
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        with pytest.raises(errors.ServerStopping):
            store.write(unit(insert({"n": 2})))
        with pytest.raises(errors.ServerStopping):
            store.read(numbers)
        await blocker.grouped(pending)
        await closing
    async with opened(tmp_path) as store:
        assert await store.read(numbers) == [1]


async def test_reading_while_the_store_is_owned(store):
    """A read-only store sees commits, takes no lock, and writes nothing."""
    reader = Store.open(store.folder.path, bound_runtime(), read_only=True)
    try:
        await store.write(unit(insert({"n": 1})))
        assert await reader.read(numbers) == [1]
        with pytest.raises(errors.DataFolderUnusable, match="read-only"):
            reader.write(unit(insert({"n": 2})))
    finally:
        await reader.close()


async def test_reading_without_an_owner(tmp_path):
    """The file is read as it was left."""
    async with opened(tmp_path) as store:
        await store.write(unit(insert({"n": 1})))
    reader = Store.open(tmp_path, bound_runtime(), read_only=True)
    try:
        assert await reader.read(numbers) == [1]
        assert lock_holder(tmp_path) is None
    finally:
        await reader.close()


async def test_reading_what_is_not_there_is_refused(tmp_path):
    """A reader creates nothing."""
    with pytest.raises(errors.DataFolderUnusable, match="no database"):
        Store.open(tmp_path, bound_runtime(), read_only=True)
    assert list(tmp_path.iterdir()) == []


def other_text(path):
    path.write_bytes(b"these are somebody's notes\n" * 50)


def empty(path):
    path.write_bytes(b"")


def other_database(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE accounts(balance)")
    connection.close()


def scrambled_schema(path):
    data = bytearray(path.read_bytes())
    data[100:4096] = b"\x55" * 3996
    path.write_bytes(data)


def scrambled_globals(path):
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xaa" * (len(data) - 4096))


def scrambled_catalog(path):
    connection = sqlite3.connect(path)
    connection.execute("UPDATE documents SET json_value = CAST('{' AS BLOB) WHERE table_id = 2")
    seal(connection)
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def newer(path):
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {pragmas.FORMAT_VERSION + 1}")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (other_text, errors.FileDamaged),
        (empty, errors.FileDamaged),
        (other_database, errors.FileDamaged),
        (scrambled_schema, errors.FileDamaged),
        (scrambled_globals, errors.FileDamaged),
        (newer, errors.FileTooNew),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
async def test_a_file_that_is_not_ours_is_refused_and_not_touched(tmp_path, spoil, error, read_only):
    """Every byte of a damaged, foreign or newer file stays, and the folder is free again."""
    async with opened(tmp_path):
        pass
    path = tmp_path / "data.sqlite3"
    if spoil is other_database:
        path.unlink()
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(error):
        Store.open(tmp_path, bound_runtime(), read_only=read_only)
    assert path.read_bytes() == before
    assert lock_holder(tmp_path) is None


async def test_a_catalog_that_cannot_be_read_is_damage(tmp_path):
    """The owner refuses to start, and the folder is free again."""
    async with opened(tmp_path):
        pass
    scrambled_catalog(tmp_path / "data.sqlite3")
    with pytest.raises(errors.FileDamaged, match="system tables"):
        Store.open(tmp_path, bound_runtime())
    assert lock_holder(tmp_path) is None


async def test_a_log_without_its_file_is_refused(tmp_path):
    """The log may hold acknowledged commits, which a new database would absorb or lose."""
    async with opened(tmp_path) as store:
        await store.write(unit(insert({"n": 1})))
        log = store.folder.wal.read_bytes()
    (tmp_path / "data.sqlite3").unlink()
    (tmp_path / "data.sqlite3-wal").write_bytes(log)
    with pytest.raises(errors.FileDamaged, match="restore"):
        Store.open(tmp_path, bound_runtime())
    assert (tmp_path / "data.sqlite3-wal").read_bytes() == log


async def test_what_a_killed_compaction_left_is_deleted(tmp_path):
    """The leftover is as large as the database, and unused."""
    async with opened(tmp_path):
        pass
    (tmp_path / "data.sqlite3.unfinished").write_bytes(b"half of it")
    (tmp_path / "data.sqlite3.unfinished-journal").write_bytes(b"and its journal")
    async with opened(tmp_path):
        assert list(tmp_path.glob("*unfinished*")) == []


async def test_a_journal_without_its_file_is_not_swallowed(tmp_path):
    """SQLite would roll the new database back to another's state."""
    (tmp_path / "data.sqlite3-journal").write_bytes(b"of another")
    with pytest.raises(errors.FileDamaged, match="move the log away"):
        Store.open(tmp_path, bound_runtime())
    assert not (tmp_path / "data.sqlite3").exists()


async def test_a_half_made_file_is_made_again(tmp_path):
    """A process that died while it created the database leaves nothing valid."""
    (tmp_path / "data.sqlite3.new").write_bytes(b"half")
    async with opened(tmp_path) as store:
        assert await store.read(numbers) == []
    assert not (tmp_path / "data.sqlite3.new").exists()


async def test_a_folder_that_is_a_file_is_unusable(tmp_path):
    """The error names it."""
    (tmp_path / "data").write_text("a file")
    with pytest.raises(errors.DataFolderUnusable, match="data"):
        Store.open(tmp_path / "data", bound_runtime())


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions bind neither Windows nor root")
async def test_a_folder_that_cannot_be_written_is_unusable(tmp_path):
    """Nothing is created in it."""
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(errors.DataFolderUnusable):
            Store.open(tmp_path, bound_runtime())
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(
    not Path("/proc/self/attr").exists(), reason="needs a folder that no user can write, which Linux has"
)
async def test_a_folder_on_a_read_only_file_system_is_unusable():
    """This applies to root too."""
    with pytest.raises(errors.DataFolderUnusable):
        Store.open(Path("/proc/self/attr"), bound_runtime())


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
async def test_durability_is_a_setting_of_the_connection(tmp_path, durability, level):
    """`stats` names it."""
    async with opened(tmp_path, durability=durability) as store:
        connection = writer_connection(store)
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        assert store.statistics().durability == durability


async def test_figures_count_what_happened(store):
    """The statistics have commits, groups, reads, and sizes."""
    before = store.statistics().commits
    await asyncio.gather(*[store.write(unit(insert({"n": n}))) for n in range(5)])
    await store.read(numbers)
    figures = store.statistics()
    assert figures.commits == before + 5
    assert figures.reads >= 1
    assert figures.wal_bytes > 0
    assert figures.file_bytes > 0
    assert figures.sqlite_version == sqlite3.sqlite_version
    assert sum(figures.group_sizes.counts) == figures.groups


async def test_figures_are_of_the_files_that_were_opened(store, monkeypatch):
    """Services ask for them several times a second, so the path of the log is not resolved again."""
    resolved = []
    monkeypatch.setattr(os.path, "realpath", lambda path, **_: resolved.append(path) or path)
    store.statistics()
    assert resolved == []


ROOT = Path(__file__).resolve().parents[3]


def test_a_store_without_threads(tmp_path):
    """The same code runs on a virtual-time loop, where every step is a callback of the loop."""
    runtime = WorldRuntime(Network(random.Random(0)), random.Random(0))

    async def main():
        runtime.bind(asyncio.get_running_loop())
        async with opened(tmp_path, runtime=runtime) as store:
            await asyncio.gather(*[store.write(unit(insert({"n": n}))) for n in range(50)])
            with pytest.raises(ZeroDivisionError):
                await store.read(lambda snapshot: 1 // 0)
            return await store.read(numbers)

    assert run_virtual(main()) == list(range(50))


WRITING = """
import asyncio, sys
from pathlib import Path
from tests.support.storage import ITEMS, bound_runtime, declare, insert, unit
from tinyvex.storage.engine.store import Store

async def main():
    store = Store.open(Path(sys.argv[1]), bound_runtime())
    await declare(store, ITEMS)
    start = await store.read(lambda snapshot: snapshot.newest_row())
    def done(value, error):
        print(value.internal.hex(), flush=True)
    for number in range(100_000):
        store.write_nowait(unit(insert({"n": number, "text": "x" * 500}), request=(str(start), number)), done)
        if number % 20 == 19:
            await asyncio.sleep(0.001)

asyncio.run(main())
"""


async def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path):
    """Killed at any point, the file is sound and has every acknowledged document, none of them partial."""
    acknowledged = set()
    for attempt in range(4):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITING, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        for _ in range(10 + attempt * 37):
            acknowledged.add(bytes.fromhex((await process.stdout.readline()).decode()))
        process.kill()
        rest = await process.stdout.read()
        acknowledged.update(bytes.fromhex(line.decode()) for line in rest.splitlines() if len(line) == 32)
        await process.wait()
        assert check_folder(tmp_path) == []
    reader = Store.open(tmp_path, bound_runtime(), read_only=True)

    def stored(snapshot):
        tablet = snapshot.catalog.table("items").tablet
        return {internal for internal in acknowledged if snapshot.get(tablet, internal) is not None}

    try:
        assert await reader.read(stored) == acknowledged
    finally:
        await reader.close()


def _hold(folder, ready, release):
    lock = DataFolder(Path(folder)).lock()
    ready.set()
    release.wait(30)
    lock.release()


def test_another_process_is_named(tmp_path):
    """The message has the process id of the owner."""
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(str(tmp_path), ready, release))
    process.start()
    try:
        assert ready.wait(30)
        assert lock_holder(tmp_path) == process.pid
    finally:
        release.set()
        process.join(30)
    assert lock_holder(tmp_path) is None


assert ITEMS == {"items": {"by_n": ("n",)}}, "the script above relies on it"
