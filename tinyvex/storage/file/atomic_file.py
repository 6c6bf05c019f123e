"""
Create a file in one step: under its name it is complete and synced, whenever the process or the machine stopped.

The file is written under another name in the same folder, synced and renamed. If the name is a symbolic link, the link stays
and the file that it leads to is replaced, as it is when a program writes through the link.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tinyvex.errors import DataFolderUnusable

__all__ = [
    "atomic_file",
    "follow_links",
    "remove_unfinished",
    "remove_with_side_files",
    "sync_file",
    "sync_folder",
    "unfinished_name",
]

if sys.platform == "darwin":
    import fcntl


@contextlib.contextmanager
def atomic_file(target: Path, *, replace: bool) -> Iterator[Path]:
    """
    Create a file that appears under its name only when it is complete and synced.

    Yields the path to write to. If the block raises, the target is unchanged.

    Args:
        target: the file to create.
        replace: replace an existing file.

    Raises:
        DataFolderUnusable: the target exists and `replace` is False, is not a regular file, or cannot be written.
        DiskFull: the disk has no room for the file.
    """
    own: os.stat_result | None = None
    real = follow_links(target)
    unfinished = unfinished_name(real)
    try:
        _refuse_present(target, replace=replace)
        remove_unfinished(real)
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        own = os.fstat(descriptor)
        os.close(descriptor)
        yield unfinished
        _refuse_present(target, replace=replace)
        if not _is_same(unfinished, own):
            raise DataFolderUnusable(f"another process is writing `{target}` as well; choose another file")
        sync_file(unfinished)
        unfinished.replace(real)
        sync_folder(real.parent)
    except OSError as error:
        from tinyvex.storage.file.os_errors import translate_os_error

        raise translate_os_error(error, f"`{target}` cannot be written") from error
    finally:
        with contextlib.suppress(OSError):
            if own is not None and _is_same(unfinished, own):
                remove_unfinished(real)


def follow_links(target: Path) -> Path:
    """
    Return the file that a path leads to, existing or not.

    Raises:
        DataFolderUnusable: it leads to a file without a name, such as a pipe behind `/dev/stdout`.
    """
    real = Path(os.path.realpath(target))
    if target.exists() and not (real.exists() and target.samefile(real)):
        raise _not_regular(target)
    return real


def unfinished_name(real: Path) -> Path:
    """Return the name under which a file is written until it is complete."""
    return real.with_name(f"{real.name}.unfinished")


def remove_unfinished(real: Path) -> None:
    """
    Delete the unfinished file of a killed process, and the files that SQLite created next to it.

    Raises:
        OSError: one of them cannot be deleted.
    """
    remove_with_side_files(unfinished_name(real))


def remove_with_side_files(database: Path) -> None:
    """
    Delete a database that nothing uses any more, and the files that SQLite created next to it.

    Raises:
        OSError: one of them cannot be deleted.
    """
    for suffix in ("", "-journal", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _refuse_present(target: Path, *, replace: bool) -> None:
    if target.exists() and not target.is_file():
        raise _not_regular(target)
    if target.exists() and not replace:
        raise DataFolderUnusable(f"`{target}` already exists; choose another file, or pass --replace")


def _not_regular(target: Path) -> DataFolderUnusable:
    kind = "a folder" if target.is_dir() else "not a regular file"
    return DataFolderUnusable(f"`{target}` is {kind}, so it cannot be replaced; choose another file")


def _is_same(path: Path, known: os.stat_result) -> bool:
    """Return whether a path still leads to the file that was created, and not to one of another process."""
    return os.path.samestat(path.stat(), known)


def sync_file(path: Path) -> None:
    """Make the contents of a file durable."""
    with path.open("r+b") as file:
        if sys.platform == "darwin":  # fsync leaves data in the drive's cache
            fcntl.fcntl(file.fileno(), fcntl.F_FULLFSYNC)
        else:
            os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable; Windows needs no such call."""
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
