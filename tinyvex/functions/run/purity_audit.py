"""
Dev mode's eye on queries and mutations: they should compute, and not touch the world outside the database.

A mutation that waits for a socket keeps every other writer waiting; a query that reads a file is not run again
when the file changes. Nothing forbids it, but in dev mode the log says so, once for each function and deed.
Python's audit events (PEP 578) tell; a hook cannot be removed, so production never installs it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

__all__ = ["install", "running"]

log = logging.getLogger("tinyvex.functions")

DEEDS = {
    "open": "opens a file",
    "os.listdir": "lists a folder",
    "os.remove": "removes a file",
    "os.system": "starts a process",
    "socket.connect": "connects a socket",
    "socket.getaddrinfo": "looks up a host name",
    "sqlite3.connect": "opens another database",
    "subprocess.Popen": "starts a process",
    "time.sleep": "sleeps",
}


class _Here(threading.local):
    path: str | None = None


_here = _Here()


@contextmanager
def running(path: str) -> Iterator[None]:
    """While inside, this thread runs the function `path`."""
    _here.path = path
    try:
        yield
    finally:
        _here.path = None


@cache
def install() -> None:
    """Watch from now on; once per process."""
    warned: set[tuple[str, str]] = set()

    def hook(event: str, _args: tuple[object, ...]) -> None:
        path = _here.path
        if path is None or event not in DEEDS or (path, event) in warned:
            return
        warned.add((path, event))
        _here.path = None  # the log handler may open files itself
        log.warning(
            "%s %s: that belongs into an action; others wait meanwhile, and no re-run sees it", path, DEEDS[event]
        )
        _here.path = path

    sys.addaudithook(hook)
