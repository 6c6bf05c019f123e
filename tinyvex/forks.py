"""
Keep the server's files and sockets out of child processes.

Python marks descriptors as closed on exec, so a program that is started gets none. A child that is forked without exec,
such as a worker of a process pool, inherits all of them. After a kill of the server such a child would hold the data
folder's lock, the port, and the connections of clients, which would never learn that the server ended.

After each fork, the child therefore replaces every descriptor of an open file in a withheld folder, and of every socket
with a withheld local port, by one of `/dev/null`. It replaces instead of closing, because SQLite and the event loop still
know the numbers, which must not lead to other files. It opens `/dev/null` to read, so that SQLite in the child can never
get a write lock, which is its condition for copying and deleting the write-ahead log.

A child must not return into the server's code: it would commit to memory that it shares with the server, or take the
wake-ups of the server's loops. A function that is called by the server compares `generation` before and after, and
`end_child` ends a child. Loops that run the app's code withhold their selectors, so that a child that awaits ends too.

A fork by a C library that calls neither Python nor exec is not noticed; on Linux, `storage/file/data_folder.py` names such a process.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from selectors import BaseSelector

__all__ = ["Withheld", "end_child", "generation", "withhold_folder", "withhold_port", "withhold_selector"]

generation = 0
"""Differs in each child from its parent's."""

DESCRIPTORS = "/dev/fd"
"""The folder with an entry for each open descriptor of the process that reads it."""


class Withheld:
    """A folder, a port or a selector that children do not get, until `release`."""

    def __init__(
        self, folder: Path | None = None, port: int | None = None, selector: BaseSelector | None = None
    ) -> None:
        self.folder = folder
        self.port = port
        self.selector = selector
        _withheld.add(self)

    def release(self) -> None:
        """Stop withholding it; idempotent."""
        _withheld.discard(self)


_withheld: set[Withheld] = set()


def withhold_folder(folder: Path) -> Withheld:
    """Withhold all open files of a folder from children."""
    return Withheld(folder=folder.absolute())


def withhold_port(port: int) -> Withheld:
    """Withhold the listening socket of a port, and its connections, from children."""
    return Withheld(port=port)


def withhold_selector(selector: BaseSelector) -> Withheld:
    """Withhold a selector from children, in which it fails."""
    return Withheld(selector=selector)


def end_child() -> NoReturn:
    """End this process, a child that returned from the function that forked it, or raised; `sys.exit` sets its exit code."""
    raised = sys.exception()
    if isinstance(raised, SystemExit) and isinstance(raised.code, int | None):
        os._exit((raised.code or 0) & 0xFF)
    os.write(2, b"tinyvex: a child process returned from the function that forked it, so it ends; use os._exit there\n")
    os._exit(1)


def _replace_withheld() -> None:
    """Replace the withheld descriptors of this process, a child that was just forked."""
    global generation  # noqa: PLW0603
    generation += 1
    if not _withheld:
        return
    for one in _withheld:
        if one.selector is not None:
            one.selector.close()
    files = {identity for one in _withheld if one.folder is not None for identity in _files_of(one.folder)}
    ports = {one.port for one in _withheld if one.port is not None}
    _withheld.clear()
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        for descriptor in [int(entry.name) for entry in Path(DESCRIPTORS).iterdir()]:
            if _is_withheld(descriptor, files, ports):
                os.dup2(null, descriptor, inheritable=False)
    finally:
        os.close(null)


def _files_of(folder: Path) -> set[tuple[int, int]]:
    files = set()
    with contextlib.suppress(OSError):  # the folder was moved or deleted
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                status = path.stat()
                files.add((status.st_dev, status.st_ino))
    return files


def _is_withheld(descriptor: int, files: set[tuple[int, int]], ports: set[int]) -> bool:
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISSOCK(status.st_mode):
            return (status.st_dev, status.st_ino) in files
        return _local_port(descriptor) in ports
    except OSError:  # it was that of the list itself, or a socket without an address
        return False


def _local_port(descriptor: int) -> int | None:
    """Return the local port of a socket; None if it is not one of TCP."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        is_tcp = borrowed.family in (socket.AF_INET, socket.AF_INET6) and borrowed.type == socket.SOCK_STREAM
        return int(borrowed.getsockname()[1]) if is_tcp else None
    finally:
        borrowed.detach()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_withheld)
