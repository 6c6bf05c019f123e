"""
Open the files of a data folder so that no other user chooses what they lead to, or reads them.

Another user who can write to the folder, or could at some time, may have placed a link there: what is written through it
would change a file elsewhere. A file or folder of another user may be changed by that user at any time.

======================================================  ==================================================
a process that writes, and                              is
======================================================  ==================================================
the folder belongs to another user                      refused, root included
others may write to the folder                          refused; the group may write if the owner is alone in it
a file of the folder is a link                          refused; only the database may be one, made by the owner
a file has another owner than the folder                refused
a file of the owner may be read by others               accepted, and made private (0600)
======================================================  ==================================================

A process that only reads accepts a folder of another user that was named to it, so that root can inspect it.
Windows has neither such owners nor such modes: files inherit the access list of the folder.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from pathlib import Path

from tinyvex.errors import DataFolderUnusable
from tinyvex.storage.file.atomic_file import sync_file, sync_folder

__all__ = [
    "make_private_folder",
    "open_private",
    "other_owner",
    "read_private",
    "require_own_file",
    "require_private_folder",
    "warn_of_shared_key",
    "write_private_file",
]

log = logging.getLogger("tinyvex.storage")

_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""No link is followed, and no pipe is waited for."""


def other_owner(path: Path) -> str | None:
    """
    Return the name of the user, if it is another one, to whom a path or the link at its place belongs.

    Raises:
        OSError: there is no such file.
    """
    if sys.platform == "win32":
        return None
    for info in (path.lstat(), path.stat()):
        if info.st_uid != os.geteuid():
            return _user_name(info.st_uid)
    return None


def warn_of_shared_key(option: str, path: Path) -> None:
    """
    Log a warning if every user of the machine can read or write a file with a key, which is an option's value.

    It is accepted, because containers mount secrets with such modes for their only user.

    Raises:
        OSError: the file cannot be examined.
    """
    if sys.platform != "win32" and path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        log.warning("%s `%s` is open to every user of this machine; run `chmod o-rw '%s'`", option, path, path)


def make_private_folder(folder: Path) -> None:
    """
    Create a folder and the missing ones above it, for the owner alone, whatever the umask.

    Raises:
        OSError: one of them cannot be created.
    """
    for path in (*reversed(folder.parents), folder):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)


def require_private_folder(folder: Path) -> None:
    """
    Refuse a folder in which other users can replace files.

    Raises:
        DataFolderUnusable: it belongs to another user, or others may write to it.
        OSError: it does not exist.
    """
    if sys.platform == "win32":
        return
    info = folder.stat()
    if info.st_uid != os.geteuid():
        raise DataFolderUnusable(
            f"the data folder `{folder}` belongs to {_user_name(info.st_uid)};"
            " run the command as that user, or choose another folder with --data"
        )
    if info.st_mode & stat.S_IWOTH or (info.st_mode & stat.S_IWGRP and not _is_private_group(info)):
        raise DataFolderUnusable(
            f"other users may write to the data folder `{folder}`;"
            f" run `chmod go-w '{folder}'`, or choose another folder with --data"
        )


def require_own_file(path: Path, *, may_be_link: bool = False) -> None:
    """
    Refuse a file that another user placed in the data folder.

    Raises:
        DataFolderUnusable: it has another owner, or is a link although it may not be one.
        OSError: it cannot be examined.
    """
    try:
        info = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(info.st_mode) and not may_be_link:
        raise _link(path)
    _require_owner(path, info)


def open_private(path: Path, flags: int) -> int:
    """
    Open a file of a data folder, and return its descriptor.

    Args:
        path: the file.
        flags: as for `os.open`. With `O_CREAT` the file is created if it does not exist, and made private if it does.

    Raises:
        DataFolderUnusable: it is a link, is not a regular file, has a second name, or has another owner than the folder.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | _FLAGS, 0o600)
    except OSError:
        if path.is_symlink():
            raise _link(path) from None
        raise
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise DataFolderUnusable(f"`{path}` is not a regular file; delete it")
        _require_owner(path, info)
        if flags & os.O_CREAT and sys.platform != "win32":
            if info.st_nlink > 1:  # it would be emptied under its other name as well
                raise DataFolderUnusable(f"`{path}` is also known under another name, as a hard link; delete it")
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_private(path: Path) -> bytes:
    """
    Return the content of a file of a data folder.

    Raises:
        DataFolderUnusable, OSError: as raised by `open_private`.
    """
    with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
        return file.read()


def write_private_file(path: Path, content: bytes, *, sync: bool = False) -> None:
    """
    Create or replace a file of a data folder in one step, so that no reader sees a part of it.

    Several processes may write the same file; the last one wins.

    Args:
        path: the file; a link in its place is replaced.
        content: what it will contain.
        sync: the new content survives a power failure; otherwise the old content may be back after one.

    Raises:
        DataFolderUnusable: the folder is not private, or cannot be written.
        DiskFull: the disk has no room for the file.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        require_private_folder(path.parent)
        unfinished.unlink(missing_ok=True)  # left over from a killed process with the same id
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        if sync:
            sync_file(unfinished)
        unfinished.replace(path)
        if sync:
            sync_folder(path.parent)
    except OSError as error:
        from tinyvex.storage.file.os_errors import translate_os_error

        raise translate_os_error(error, f"`{path}` cannot be written") from error


def _link(path: Path) -> DataFolderUnusable:
    return DataFolderUnusable(f"`{path}` is a link, which Tinyvex never creates; delete it")


def _require_owner(path: Path, info: os.stat_result) -> None:
    if sys.platform != "win32" and info.st_uid != path.parent.stat().st_uid:
        raise DataFolderUnusable(
            f"`{path}` belongs to {_user_name(info.st_uid)}, and its folder to another user;"
            " delete it if you do not know why it is there"
        )


if sys.platform != "win32":

    def _user_name(user_id: int) -> str:
        import pwd

        try:
            return f"user `{pwd.getpwuid(user_id).pw_name}`"
        except KeyError:
            return f"the user with id {user_id}"

    def _is_private_group(info: os.stat_result) -> bool:
        """Return whether a folder's group is the one that systems with umask 002 create for its owner alone."""
        import grp
        import pwd

        try:
            group, user = grp.getgrgid(info.st_gid), pwd.getpwuid(info.st_uid)
        except KeyError:
            return False
        return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
