"""The data folder's lock."""

import os

import pytest

from tinyvex import errors
from tinyvex.storage.file.data_folder import DataFolder, lock_holder


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
