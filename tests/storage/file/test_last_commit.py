"""Promise 10: acknowledged commits that are missing after a restart are noticed, whatever happened to the write-ahead log."""

from __future__ import annotations

import logging
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.postings import SEED
from tests.support.storage import ITEMS, bound_runtime, insert, numbers, opened, unit
from tinyvex.errors import FileDamaged
from tinyvex.storage.engine.store import Store
from tinyvex.storage.file import last_commit
from tinyvex.storage.file.last_commit import LastCommit, LastCommitFile, read_last_commit
from tinyvex.storage.maintenance.backup import VerifiedBackup, back_up
from tinyvex.storage.maintenance.check import check_folder

COMMITS = 30


async def killed(folder: Path, place: Path, durability: str = "full") -> Path:
    """Return a copy of a served folder, as a killed process leaves it: with all commits in the write-ahead log."""
    async with opened(folder, ITEMS, durability=durability) as store:
        for number in range(COMMITS):
            await store.write(unit(insert({"n": number})))
        copy_files(folder, place)
    return place


def copy_files(folder: Path, place: Path) -> None:
    """Copy the files that count after a crash."""
    place.mkdir()
    for name in ("data.sqlite3", "data.sqlite3-wal", "last-commit"):
        shutil.copyfile(folder / name, place / name)


async def stored(folder: Path) -> list[int]:
    """Open a folder; return the numbers of its documents."""
    store = Store.open(folder, bound_runtime())
    try:
        return await store.read(lambda snapshot: numbers(snapshot) if snapshot.catalog.names() else [])
    finally:
        await store.close()


async def test_a_killed_process_leaves_everything(tmp_path: Path) -> None:
    """The commits of the log are there, and the check is content before and after."""
    folder = await killed(tmp_path / "data", tmp_path / "killed")
    assert check_folder(folder) == []
    assert await stored(folder) == list(range(COMMITS))
    assert check_folder(folder) == []


async def test_every_damage_of_the_log_that_loses_commits_is_refused(tmp_path: Path) -> None:
    """One byte of the log changes: every commit is there, or the start is refused and the check reports it."""
    pick = random.Random(SEED)
    print("seed", SEED)
    folder = await killed(tmp_path / "data", tmp_path / "killed")
    log = (folder / "data.sqlite3-wal").read_bytes()
    refused = 0
    for number in range(40):
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        changed = bytearray(log)
        changed[pick.randrange(len(log))] ^= pick.randrange(1, 256)
        (copy / "data.sqlite3-wal").write_bytes(changed)
        problems = check_folder(copy)
        try:
            assert await stored(copy) == list(range(COMMITS))
            assert problems == []
        except FileDamaged as error:
            refused += 1
            assert "the newest commits are missing" in str(error)
            assert "the newest commits are missing" in problems[0]
    assert refused > 30


@pytest.mark.parametrize("loss", ["the log is deleted", "an older copy"])
async def test_a_database_that_lost_commits_is_refused_until_the_user_agrees(tmp_path: Path, loss: str) -> None:
    """The message names the file to delete; then the database opens as it is, and the next start is an ordinary one."""
    folder = await killed(tmp_path / "data", tmp_path / "killed")
    if loss == "an older copy":
        async with opened(tmp_path / "copied") as store:
            await store.write(unit(insert({"n": 7})))
        older = (tmp_path / "copied" / "data.sqlite3").read_bytes()
        await stored(tmp_path / "copied")
        async with opened(tmp_path / "copied") as store:
            await store.write(unit(insert({"n": 8})))
        folder = tmp_path / "copied"
        (folder / "data.sqlite3").write_bytes(older)
    else:
        (folder / "data.sqlite3-wal").unlink()
    for _ in range(2):
        with pytest.raises(FileDamaged, match="to continue without these commits, delete `.*last-commit`"):
            await stored(folder)
        assert check_folder(folder) != []
    (folder / "last-commit").unlink()
    left = await stored(folder)
    assert left == ([7] if loss == "an older copy" else [])
    assert await stored(folder) == left
    assert check_folder(folder) == []


async def test_a_restored_backup_is_another_database(tmp_path: Path) -> None:
    """Its epoch differs, so the commits after the backup are not missing."""
    async with opened(tmp_path / "data") as store:
        await store.write(unit(insert({"n": 1})))
        back_up(tmp_path / "data", tmp_path / "copy")
        await store.write(unit(insert({"n": 2})))
    VerifiedBackup(tmp_path / "copy").restore(tmp_path / "data", bound_runtime())
    assert check_folder(tmp_path / "data") == []
    assert await stored(tmp_path / "data") == [1]


async def test_without_full_durability_a_loss_is_only_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A power failure may lose the last commits there."""
    folder = await killed(tmp_path / "data", tmp_path / "killed", "normal")
    (folder / "data.sqlite3-wal").unlink()
    with caplog.at_level(logging.ERROR):
        assert await stored(folder) == []
    assert "the newest commits are missing" in caplog.text


@pytest.mark.parametrize(
    ("before", "after", "synced"), [("normal", "full", 1), ("full", "full", 0), ("normal", "normal", 0)]
)
async def test_earlier_commits_are_durable_before_the_file_states_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: Any, synced: int
) -> None:
    """A start with full durability syncs the log of a process without: a power failure could lose commits of that log."""
    folder = await killed(tmp_path / "data", tmp_path / "killed", before)
    seen: list[tuple[str, LastCommit | None]] = []
    monkeypatch.setattr(
        last_commit, "sync_file", lambda path: seen.append((path.name, read_last_commit(folder / "last-commit")))
    )
    await Store.open(folder, bound_runtime(), durability=after).close()
    assert [name for name, _ in seen] == ["data.sqlite3-wal"] * synced
    assert all(last is not None and last.durability == "normal" for _, last in seen)


async def test_a_database_that_is_gone_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    """A start refuses it and names both ways to continue; without the record of commits it creates a new one."""
    folder = await killed(tmp_path / "data", tmp_path / "killed")
    for name in ("data.sqlite3", "data.sqlite3-wal"):
        (folder / name).unlink()
    with pytest.raises(FileDamaged, match=r"is missing.*`tinyvex restore`.*delete `.*last-commit`"):
        await stored(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["last-commit", "lock"]
    (folder / "last-commit").unlink()
    assert await stored(folder) == []


async def test_the_file_is_never_ahead_of_the_database(tmp_path: Path) -> None:
    """It gets a commit after COMMIT and before the acknowledgement."""
    runtime = bound_runtime()
    async with opened(tmp_path / "data", runtime=runtime) as store:
        before = store.last_ts
        seen: list[int] = []

        def look() -> None:
            last = read_last_commit(store.folder.last_commit)
            assert last is not None
            seen.append(last.ts)

        runtime.at_point = {"writer:before-commit": look, "writer:after-commit": look}
        await store.write(unit(insert({"n": 1})))
        runtime.at_point = {}
        assert seen == [before, before]
        last = read_last_commit(store.folder.last_commit)
        assert last == LastCommit(store.epoch, store.last_ts, "full")
        assert last.ts > before


def test_a_damaged_file_says_nothing(tmp_path: Path) -> None:
    """It is a witness, not a part of the database."""
    path = tmp_path / "last-commit"
    file = LastCommitFile(path, LastCommit("ab" * 8, 5, "full"))
    file.record(77)
    file.close()
    assert read_last_commit(path) == LastCommit("ab" * 8, 77, "full")
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        assert read_last_commit(path) is None
    path.write_bytes(b"")
    assert read_last_commit(path) is None
