"""
Name the files of a data folder, and own the folder.

A process owns the folder while it holds the operating system's lock on the file `lock`. The system releases the lock
when the process ends, however it ends; its forked children get no descriptor of the lock (`forks.py`).
The text of the file, the owner's process id, is used only in messages.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tinyvex import forks
from tinyvex.errors import DataFolderLocked, DataFolderUnusable
from tinyvex.storage.file.atomic_file import follow_links, remove_unfinished, remove_with_side_files, unfinished_name
from tinyvex.storage.file.private_file import (
    make_private_folder,
    open_private,
    require_own_file,
    require_private_folder,
)

__all__ = [
    "DataFolder",
    "FolderLock",
    "lock_briefly",
    "lock_holder",
    "remove_unfinished_upgrade",
    "share_lock",
    "unfinished_upgrade",
]

if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 30  # far beyond the text, because Windows forbids reading a locked byte

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    _try_share = _try_lock  # Windows has no shared mode here; nothing shares the lock on it

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        return _try_flock(descriptor, fcntl.LOCK_EX)

    def _try_share(descriptor: int) -> bool:
        return _try_flock(descriptor, fcntl.LOCK_SH)

    def _try_flock(descriptor: int, mode: int) -> bool:
        # flock rather than lockf: it belongs to the descriptor, so that a second start in one process is refused as well.
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def share_lock(folder: DataFolder) -> Callable[[], None] | None:
    """
    Share the lock of a folder that cannot be written, so that no process takes ownership of it.

    Returns:
        The function that releases the lock; None if no process can lock the folder: it has no lock file, or, on Windows,
        only its owner could have one.

    Raises:
        DataFolderLocked: a process owns the folder.
        DataFolderUnusable: another user placed the lock file there.
    """
    if sys.platform == "win32":
        return None
    try:
        descriptor = open_private(folder.lock_file, os.O_RDONLY)
    except OSError:
        return None
    if not _try_share(descriptor):
        os.close(descriptor)
        raise _locked(folder.lock_file)
    return partial(os.close, descriptor)


def _locked(path: Path) -> DataFolderLocked:
    holder = _find_holder(path)
    owner = f"process {holder}" if holder is not None else "another process"
    return DataFolderLocked(f"{owner} owns the data folder `{path.parent}`; stop it first", pid=holder)


def _try_lock_repeatedly(descriptor: int) -> bool:
    """Take the lock, allowing for `lock_holder` in another process, which holds it for an instant."""
    for _ in range(5):
        if _try_lock(descriptor):
            return True
        time.sleep(0.01)
    return False


@contextlib.contextmanager
def lock_briefly(path: Path, limit_seconds: float) -> Iterator[None]:
    """
    Exclude other processes for the time of the block, while files of a data folder are read and changed.

    Args:
        path: the file to lock; created if it does not exist.
        limit_seconds: how long to wait for another process.

    Raises:
        DataFolderUnusable: the folder is not private, the file cannot be written, or another process holds the lock.
    """
    try:
        require_private_folder(path.parent)
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        from tinyvex.storage.file.os_errors import translate_os_error

        raise translate_os_error(error, f"`{path}` cannot be written") from error
    try:
        until = time.monotonic() + limit_seconds
        while not _try_lock(descriptor):
            if time.monotonic() > until:
                raise DataFolderUnusable(
                    f"another process has locked `{path}` for {limit_seconds:g} s; retry when it ends"
                )
            time.sleep(0.002)
        yield
    finally:
        os.close(descriptor)


class DataFolder:
    """The paths of a data folder's files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "data.sqlite3"
        self.unfinished = path / "data.sqlite3.new"
        self.restoring = path / "restoring.sqlite3"
        self.lock_file = path / "lock"
        self.running_calls = path / "running"
        self.stuck_calls = path / "stuck-calls"
        self.last_commit = path / "last-commit"
        self.discovery = path / "server.json"
        self.last_served = path / "served.json"
        self.dashboard_page = path / "dashboard.html"
        self.pairing_offer = path / "pairing.json"
        self.paired_tokens = path / "tokens.json"
        self.pairing_lock = path / "tokens.lock"
        self.token_uses = path / "token-uses.json"

    @property
    def side_files(self) -> tuple[Path, Path, Path]:
        """The files that SQLite creates next to the database, or next to the file that a link leads to."""
        real = follow_links(self.database)
        return Path(f"{real}-wal"), Path(f"{real}-journal"), Path(f"{real}-shm")

    @property
    def logs(self) -> tuple[Path, Path]:
        """The files that SQLite replays into the database."""
        return self.side_files[:2]

    @property
    def wal(self) -> Path:
        """The write-ahead log."""
        return self.side_files[0]

    def prepare(self) -> None:
        """
        Create the folder and the missing ones above it, readable only by their owner.

        Raises:
            DataFolderUnusable: it cannot be created, or the path is another file.
        """
        try:
            make_private_folder(self.path)
        except OSError as error:
            from tinyvex.storage.file.os_errors import translate_os_error

            raise translate_os_error(error, f"the data folder `{self.path}` cannot be created") from error

    def remove_unfinished(self) -> None:
        """Delete the unfinished files of killed restores, compactions and upgrades; the caller owns the folder."""
        with contextlib.suppress(OSError):  # it only occupies space
            real = follow_links(self.database)
            remove_unfinished(real)
            remove_unfinished_upgrade(real)
            self.remove_restoring()

    def remove_restoring(self) -> None:
        """
        Delete the copy of an older backup that a restore upgrades.

        Raises:
            OSError: it cannot be deleted.
        """
        remove_with_side_files(self.restoring)
        remove_unfinished_upgrade(self.restoring)

    def require_database(self) -> None:
        """
        Refuse a folder without a database.

        Raises:
            DataFolderUnusable: it has none, or does not exist.
        """
        self.require_folder()
        if not self.database.is_file():
            raise DataFolderUnusable(f"the data folder `{self.path}` has no database; `tinyvex dev` creates one")

    def require_folder(self) -> None:
        """
        Refuse a folder that does not exist.

        Raises:
            DataFolderUnusable: it does not exist.
        """
        if not self.path.is_dir():
            raise DataFolderUnusable(f"the data folder `{self.path}` does not exist; `tinyvex dev` creates it")

    def exists(self) -> bool:
        """Return whether the folder is a data folder: it has a database, or is locked by a process that creates one."""
        return self.database.exists() or self.lock_file.exists()

    def own_files(self) -> tuple[Path, ...]:
        """Return every file that Tinyvex writes in the folder, existing or not."""
        real = follow_links(self.database)
        return (
            self.database, *self.side_files, self.unfinished, unfinished_name(self.database),
            real, unfinished_name(real), unfinished_upgrade(real), self.restoring, unfinished_upgrade(self.restoring),
            self.lock_file, self.last_commit, self.running_calls, self.stuck_calls,
            self.discovery, self.last_served, self.dashboard_page, self.pairing_offer, self.paired_tokens,
            self.pairing_lock, self.token_uses,
        )  # fmt: skip

    def restrict_to_owner(self) -> None:
        """
        Remove the access of other users from the database's files.

        The folder may have been created by another program and be readable by all. On Windows, its own access rules apply.
        """
        if sys.platform == "win32":
            return
        for path in (self.database, *self.side_files):
            with contextlib.suppress(OSError):  # it does not exist, or belongs to another user
                if path.stat().st_mode & 0o077:
                    path.chmod(0o600)

    def lock(self) -> FolderLock:
        """
        Take ownership of the folder, as every process does before it writes to the database.

        Raises:
            DataFolderLocked: another process owns it; the message names the process.
            DataFolderUnusable: other users can write to the folder or have placed a file there, or the lock file cannot
                be created or written.
        """
        try:
            require_private_folder(self.path)
            require_own_file(self.database, may_be_link=True)
            for path in (follow_links(self.database), *self.side_files):  # SQLite opens them by their names
                require_own_file(path)
            return FolderLock(self.lock_file)
        except OSError as error:
            from tinyvex.storage.file.os_errors import translate_os_error

            raise translate_os_error(error, f"the data folder `{self.path}` cannot be written") from error


class FolderLock:
    """Ownership of a data folder, until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = open_private(path, os.O_RDWR | os.O_CREAT)
        if not _try_lock_repeatedly(self._descriptor):
            os.close(self._descriptor)
            raise _locked(path)
        self._withheld = forks.withhold_folder(path.parent)
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Release the folder; idempotent."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # the text is only used in messages
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._withheld.release()
            self._descriptor = None


def unfinished_upgrade(real: Path) -> Path:
    """Return the name under which the upgraded form of a database is written until it is complete."""
    return real.with_name(f"{real.name}.upgrade")


def remove_unfinished_upgrade(real: Path) -> None:
    """
    Delete an upgraded form that is incomplete.

    Raises:
        OSError: it cannot be deleted.
    """
    remove_with_side_files(unfinished_upgrade(real))


def lock_holder(folder: Path) -> int | None:
    """
    Return the process id of a data folder's owner: 0 if it is unknown, None if no process owns the folder.

    If the lock is free, this function shares it for an instant. Commands that only share it do not own the folder.

    Raises:
        DataFolderUnusable: another user placed the lock file there.
    """
    path = DataFolder(folder).lock_file
    try:
        descriptor = open_private(path, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _try_share(descriptor) else _find_holder(path) or 0
    finally:
        os.close(descriptor)


def _find_holder(path: Path) -> int | None:
    """
    Return the process that holds a lock: the one in the file, unless it has ended; None if it is unknown.

    A child that a C library forked, unnoticed by Python, holds the lock on after the death of the process that took it.
    """
    named = _read_holder(path)
    if sys.platform == "win32" or (named is not None and _is_alive(named)):
        return named
    return next((pid for pid in _pids() if pid != os.getpid() and _has_open(pid, path)), None)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _pids() -> list[int]:
    """Return the ids of all processes; none on a system without `/proc`."""
    try:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    except OSError:
        return []


def _has_open(pid: int, path: Path) -> bool:
    """Return whether a process has a file open; False also if it belongs to another user."""
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if descriptor.samefile(path):
                    return True
    return False


def _read_holder(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text("ascii"))
    return None
