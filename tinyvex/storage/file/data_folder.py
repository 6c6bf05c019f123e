"""
The data folder: what is in it, and who owns it.

The operating system's lock on `lock` decides; it goes when its process goes, however that ends.
The text in the file, the owner's process id, is only for messages.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tinyvex.errors import DataFolderLocked, DataFolderUnusable

__all__ = ["DataFolder", "FolderLock", "lock_holder", "sync_folder", "whole_file"]

if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 30  # far behind the text: Windows forbids reading what is locked

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        # flock and not lockf: it belongs to the descriptor, so a second start in one process is refused too.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _try_soon(descriptor: int) -> bool:
    """Whoever only looks at the lock holds it for an instant, which must not be taken for an owner."""
    for _ in range(5):
        if _try_lock(descriptor):
            return True
        time.sleep(0.01)
    return False


class DataFolder:
    """Where everything is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "data.sqlite3"
        self.wal = path / "data.sqlite3-wal"
        self.logs = (self.wal, path / "data.sqlite3-journal")
        """What SQLite takes for a part of the database, whichever that is."""
        self.beside = (*self.logs, path / "data.sqlite3-shm")
        self.unfinished = path / "data.sqlite3.new"
        self.lock_file = path / "lock"

    def prepare(self) -> None:
        """
        Make the folder, readable by its owner alone.

        Raises:
            DataFolderUnusable: it cannot be made, or something else is there.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DataFolderUnusable(f"the data folder {self.path} cannot be made: {error.strerror}") from error

    def remove_unfinished(self) -> None:
        """Delete what a restore or a compaction left that was killed; the caller owns the folder."""
        with contextlib.suppress(OSError):  # it only takes room
            _remove(_unfinished(self.database))

    def require_database(self) -> None:
        """
        Refuse a folder without a database.

        Raises:
            DataFolderUnusable: there is none.
        """
        if not self.database.is_file():
            raise DataFolderUnusable(f"there is no database in {self.path}")

    def refuse_own(self, target: Path) -> None:
        """
        Refuse to write a copy of the database, or an export, where the database itself is.

        Raises:
            DataFolderUnusable: the target is a file that this folder lives by.
        """
        for own in (self.database, *self.beside, self.unfinished, self.lock_file):
            is_there = target.exists() and own.exists() and target.samefile(own)
            if is_there or (target.name == own.name and target.parent.resolve() == self.path.resolve()):
                raise DataFolderUnusable(f"{target} belongs to the database itself; choose another file")

    def keep_to_owner(self) -> None:
        """
        Take the database from everybody else, wherever it came from.

        A folder that somebody made beforehand may be open to all; Windows has its own rules and is left to them.
        """
        if sys.platform == "win32":
            return
        for path in (self.database, *self.beside):
            with contextlib.suppress(OSError):  # not there, or another's: then it is not ours to open up either
                if path.stat().st_mode & 0o077:
                    path.chmod(0o600)

    def lock(self) -> FolderLock:
        """
        Become the folder's owner.

        Raises:
            DataFolderLocked: another process is; the message says which.
            DataFolderUnusable: the lock file cannot be made or written.
        """
        try:
            return FolderLock(self.lock_file)
        except OSError as error:
            raise DataFolderUnusable(f"the data folder {self.path} cannot be written: {error.strerror}") from error


class FolderLock:
    """The ownership of a data folder, until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if not _try_soon(self._descriptor):
            holder = _read_holder(path)
            os.close(self._descriptor)
            whom = f"process {holder}" if holder is not None else "another process"
            raise DataFolderLocked(f"{whom} owns the data folder {path.parent}; stop it first", pid=holder)
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let others have the folder; idempotent."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # the text is only for messages
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.contextmanager
def whole_file(target: Path, *, replace: bool) -> Iterator[Path]:
    """
    A file that appears under its name when it is whole, and not at all when making it fails.

    Gives the path to write to; what is there afterwards is synced.

    Raises:
        DataFolderUnusable: the target is there already and is not to be replaced, or it cannot be written.
    """
    unfinished = _unfinished(target)
    own: os.stat_result | None = None
    try:
        _refuse_present(target, replace=replace)
        _remove(unfinished)
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        own = os.fstat(descriptor)
        os.close(descriptor)
        yield unfinished
        _refuse_present(target, replace=replace)
        if not _is_same(unfinished, own):
            raise DataFolderUnusable(f"another process writes {target} as well")
        _sync_file(unfinished)
        unfinished.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise DataFolderUnusable(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            if own is not None and _is_same(unfinished, own):
                _remove(unfinished)


def _unfinished(target: Path) -> Path:
    return target.with_name(f"{target.name}.unfinished")


def _remove(unfinished: Path) -> None:
    """With what SQLite put beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)


def _refuse_present(target: Path, *, replace: bool) -> None:
    if target.exists() and not replace:
        raise DataFolderUnusable(f"{target} is there already")


def _is_same(path: Path, known: os.stat_result) -> bool:
    """Whether a file is still the one that was made, and not another's of the same name."""
    return os.path.samestat(path.stat(), known)


def _sync_file(path: Path) -> None:
    with path.open("r+b") as file:
        if sys.platform == "darwin":  # where fsync leaves it to the drive when it writes
            fcntl.fcntl(file.fileno(), fcntl.F_FULLFSYNC)
        else:
            os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make names in a folder durable; Windows has no such call and needs none."""
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def lock_holder(folder: Path) -> int | None:
    """
    Who owns a data folder: its process id, 0 for an owner that cannot be named, None for nobody.

    Looking takes the lock for an instant where it is free.
    """
    path = DataFolder(folder).lock_file
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _try_lock(descriptor) else _read_holder(path) or 0
    finally:
        os.close(descriptor)


def _read_holder(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text("ascii"))
    return None
