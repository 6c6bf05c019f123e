"""The data folder's lock, and the atomic creation of files in it."""

import os
from pathlib import Path

import pytest

from tinyvex import errors
from tinyvex.storage.file.data_folder import DataFolder, atomic_file, lock_holder


@pytest.fixture
def folder(tmp_path):
    return DataFolder(tmp_path)


def test_the_lock_excludes_and_is_released(folder):
    """A folder has one owner at a time."""
    lock = folder.lock()
    with pytest.raises(errors.DataFolderLocked):
        folder.lock()
    lock.release()
    folder.lock().release()


def test_releasing_twice_is_harmless(folder):
    """It does not release the lock of the next owner."""
    first = folder.lock()
    first.release()
    second = folder.lock()
    first.release()
    with pytest.raises(errors.DataFolderLocked):
        folder.lock()
    second.release()


def test_the_holder_is_known_while_there_is_one(folder):
    """Looking at the lock does not disturb its holder."""
    assert lock_holder(folder.path) is None
    lock = folder.lock()
    assert [lock_holder(folder.path) for _ in range(2)] == [os.getpid()] * 2
    lock.release()
    assert lock_holder(folder.path) is None


def test_a_holder_without_a_name_is_still_a_holder(folder):
    """The lock decides; the text is only used in messages."""
    lock = folder.lock()
    folder.lock_file.write_text("not a number")
    assert lock_holder(folder.path) == 0
    with pytest.raises(errors.DataFolderLocked, match="another process"):
        folder.lock()
    lock.release()


def test_text_left_by_a_crash_holds_nothing(folder):
    """A process id in the file is not a lock."""
    folder.lock_file.write_text("1\n")
    assert lock_holder(folder.path) is None
    folder.lock().release()


def test_only_the_last_of_two_writers_creates_a_file(tmp_path):
    """The first writer is refused; the file of the second is complete, and files of a third are left alone."""
    target = tmp_path / "copy"
    with pytest.raises(errors.DataFolderUnusable, match="another process"), atomic_file(target, replace=False) as first:
        first.write_text("the fir")
        with atomic_file(target, replace=True) as second:
            second.write_text("the sec")
            second.write_text("the second")
        (tmp_path / "copy.unfinished").write_text("of a third")
        target.rename(tmp_path / "whole")
    assert (tmp_path / "whole").read_text() == "the second"
    assert (tmp_path / "copy.unfinished").read_text() == "of a third"
    assert not target.exists()


def test_a_file_created_meanwhile_is_not_replaced(tmp_path):
    """It is treated like a file that existed before."""
    target = tmp_path / "copy"
    with pytest.raises(errors.DataFolderUnusable, match="already"), atomic_file(target, replace=False) as unfinished:
        unfinished.write_text("ours")
        target.write_text("theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    assert target.read_text() == "theirs"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such paths")
def test_only_a_regular_file_is_replaced(tmp_path):
    """A pipe or a device, such as `/dev/stdout`, would become a file for every program of the machine."""
    target = tmp_path / "pipe"
    os.mkfifo(target)
    with pytest.raises(errors.DataFolderUnusable, match="not a regular file"), atomic_file(target, replace=True):
        pass
    assert target.is_fifo()


def test_a_file_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    """After a power failure it is complete or absent."""
    happened = []
    replace = Path.replace
    monkeypatch.setattr("tinyvex.storage.file.data_folder._sync_file", lambda path: happened.append(path.read_text()))
    monkeypatch.setattr(Path, "replace", lambda path, target: happened.append("named") or replace(path, target))
    with atomic_file(tmp_path / "copy", replace=False) as unfinished:
        unfinished.write_text("all of it")
    assert happened == ["all of it", "named"]
