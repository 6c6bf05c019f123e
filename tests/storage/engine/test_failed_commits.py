"""A mutation that was refused because COMMIT failed does not exist after a crash either."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.disk import (
    FULL,
    IOERR_FSYNC,
    IOERR_SHMMAP,
    IOERR_WRITE,
    OK,
    Access,
    Disk,
    Step,
    recording,
)
from tests.support.storage import bound_runtime, insert, numbers, opened, unit
from tinyvex import errors
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.storage.engine.store import Store
from tinyvex.storage.file.pragmas import Durability
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.recent_commits import RecentCommits
from tinyvex.storage.maintenance.check import check_folder
from tinyvex.storage.schema.system_tables import SystemChange, documents, system_tables

LOG = "data.sqlite3-wal"
INDEX_FRAMES = 4_062
"""Frames that the first region of the log's index has room for."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Record the folder of the store."""
    folder = tmp_path / "data"
    folder.mkdir()
    with recording(folder, accesses=True) as disk:
        yield disk


def fail_from(disk: Disk, kinds: set[str], times: int) -> list[str]:
    """Fail the next syncs of the log, or writes to it, a number of times; return the list of what failed."""
    failed: list[str] = []

    def fails(step: Step) -> int:
        if step.file != LOG or step.kind not in kinds or len(failed) == times:
            return OK
        failed.append(step.kind)
        return IOERR_FSYNC if step.kind == "sync" else IOERR_WRITE

    disk.fails = fails
    return failed


def copy_files(folder: Path, place: Path) -> None:
    """Copy the files that a process leaves when it is killed."""
    place.mkdir()
    for name in ("data.sqlite3", LOG, "last-commit"):
        shutil.copy(folder / name, place)


async def numbers_after_kill(disk: Disk, place: Path) -> list[int]:
    """Return the numbers that the next process finds if this one is killed now."""
    copy_files(disk.folder, place)
    store = Store.open(place, bound_runtime())
    there = await store.read(numbers)
    await store.close()
    assert check_folder(place) == []
    return there


def fail_sync(disk: Disk) -> None:
    fail_from(disk, {"sync"}, 1)


def fail_to_map_the_index(disk: Disk) -> None:
    met: list[Access] = []

    def refuses(access: Access) -> int:
        if access.kind != "map" or met:
            return OK
        met.append(access)
        return IOERR_SHMMAP

    disk.refuses = refuses


@pytest.mark.parametrize(
    ("fault", "durability"),
    [(fail_sync, "full"), (fail_to_map_the_index, "full"), (fail_to_map_the_index, "normal")],
)
async def test_a_refused_mutation_does_not_exist_after_a_kill(
    tmp_path: Path, disk: Disk, fault: Callable[[Disk], None], durability: Durability
) -> None:
    """All its frames are in the log when COMMIT fails; they are overwritten before it is refused."""
    # Longer than a region of the log's index, so that a region is mapped inside COMMIT.
    text = "x" * 900_000

    def insert_many(transaction: Transaction) -> None:
        for number in (2, 3, 4, 5, 6):
            insert({"n": number, "text": text})(transaction)

    async with opened(tmp_path / "data", durability=durability) as store:
        await store.write(unit(insert({"n": 1})))
        frames = sum(step.kind == "write" and step.file == LOG for step in disk.steps)
        fault(disk)
        with pytest.raises(errors.StorageFailed):
            await store.write(unit(insert_many))
        written = sum(step.kind == "write" and step.file == LOG for step in disk.steps) - frames
        assert written > INDEX_FRAMES
        assert await numbers_after_kill(disk, tmp_path / "killed") == [1]
        await store.write(unit(insert({"n": 7})))
        assert await store.read(numbers) == [1, 7]
        assert await numbers_after_kill(disk, tmp_path / "later") == [1, 7]


async def test_after_a_failed_commit_the_state_is_that_of_the_file(tmp_path: Path, disk: Disk) -> None:
    """`ts`, catalog, log rows and recent commits return to those of the last commit, and timestamps go on."""

    def change_table(snapshot: Snapshot, ts: int) -> Outcome[None]:
        change = SystemChange(snapshot, ts)
        tables, _ = system_tables(snapshot.catalog)
        (row,) = [row for row in documents(snapshot, tables) if row.fields["name"] == "items"]
        change.update(tables, row, fingerprint="changed")
        return Outcome(None, change.record())

    def state(snapshot: Snapshot, ts: int) -> Outcome[tuple[int, str | None, int]]:
        return Outcome((snapshot.ts, snapshot.catalog.table("items").fingerprint, snapshot.newest_row()))

    async with opened(tmp_path / "data") as store:
        stored = await store.write(unit(insert({"n": 1})))
        before = await store.write(state)
        (recent,) = [one for one in store._participants if isinstance(one, RecentCommits)]
        commits = len(recent)
        fail_sync(disk)
        with pytest.raises(errors.StorageFailed):
            await store.write(change_table)
        assert await store.write(state) == before
        assert len(recent) == commits
        assert (await store.write(unit(insert({"n": 2})))).ts > stored.ts
        assert (await store.write(state))[2] == before[2] + 1


async def test_a_refused_mutation_does_not_exist_after_power_loss(tmp_path: Path, disk: Disk) -> None:
    """The overwritten frames are synced before it is refused."""
    async with opened(tmp_path / "data") as store:
        await store.write(unit(insert({"n": 1})))
        fail_sync(disk)
        with pytest.raises(errors.StorageFailed):
            await store.write(unit(insert({"n": 2})))
        assert disk.steps[-1] == Step("sync", LOG)
        assert [step.kind for step in disk.steps[-3:]] == ["write", "write", "sync"], "one frame"


async def test_an_outcome_is_unknown_if_the_frames_cannot_be_overwritten(tmp_path: Path, disk: Disk) -> None:
    """The next process finds the commit, and this one does not show it."""
    async with opened(tmp_path / "data") as store:
        await store.write(unit(insert({"n": 1})))

        async def refused() -> None:
            with pytest.raises(errors.OutcomeUnknown, match="same request id"):
                await store.write(unit(insert({"n": 2})))

        syncs = fail_from(disk, {"sync"}, 1)
        overwritten = disk.fails
        disk.fails = lambda step: overwritten(step) or (IOERR_WRITE if syncs and step.kind == "write" else OK)
        await refused()
        assert await store.read(numbers) == [1]
        assert await numbers_after_kill(disk, tmp_path / "killed") == [1, 2]
        disk.fails = lambda step: OK


async def test_the_next_commit_decides_an_unknown_outcome(tmp_path: Path, disk: Disk) -> None:
    """It overwrites the frames, also if the failed sync was the last sign of them."""
    async with opened(tmp_path / "data") as store:
        await store.write(unit(insert({"n": 1})))
        fail_from(disk, {"sync"}, 2)
        with pytest.raises(errors.OutcomeUnknown):
            await store.write(unit(insert({"n": 2})))
        await store.write(unit(insert({"n": 3})))
        assert await store.read(numbers) == [1, 3]
        assert await numbers_after_kill(disk, tmp_path / "killed") == [1, 3]


async def test_every_member_of_a_group_has_the_unknown_outcome(tmp_path: Path, disk: Disk) -> None:
    """They share the commit."""
    async with opened(tmp_path / "data") as store:
        fail_from(disk, {"sync"}, 2)
        futures = [asyncio.ensure_future(store.write(unit(insert({"n": number})))) for number in range(3)]
        results = await asyncio.gather(*futures, return_exceptions=True)
        unknown = [result for result in results if isinstance(result, errors.OutcomeUnknown)]
        assert unknown
        assert all(isinstance(result, errors.OutcomeUnknown) or result.ts for result in results)


@pytest.mark.parametrize(("code", "error"), [(FULL, errors.DiskFull), (IOERR_WRITE, errors.StorageFailed)])
async def test_an_outcome_is_known_if_a_write_failed(
    tmp_path: Path, disk: Disk, code: int, error: type[errors.StorageError]
) -> None:
    """The last frame is not in the log, so nothing has to be overwritten, which a full disk would refuse."""
    async with opened(tmp_path / "data") as store:
        await store.write(unit(insert({"n": 1})))
        for written in range(6):
            left = [written]

            def fails(step: Step, left: list[int] = left) -> int:
                left[0] -= step.kind == "write"
                return code if left[0] < 0 else OK

            disk.fails = fails
            with pytest.raises(error):
                await store.write(unit(insert({"n": 2})))
            assert await numbers_after_kill(disk, tmp_path / str(written)) == [1]
        disk.fails = lambda step: OK
