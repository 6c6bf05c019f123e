"""
Warnings in dev mode about queries and mutations with side effects.

A mutation that waits for a socket blocks every other writer; a query that reads a file does not run again when the file
changes. Nothing forbids either, but in dev mode the log warns, once for each function and kind of side effect.
The warnings come from Python's audit events (PEP 578). An audit hook cannot be removed, so production never installs it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType

__all__ = ["install", "running"]

log = logging.getLogger("tinyvex.functions")

SIDE_EFFECTS = {
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


class _Running(threading.local):
    path: str | None = None
    """The path of the function that this thread runs."""


_running = _Running()


@contextmanager
def running(path: str) -> Iterator[None]:
    """Attribute this thread's side effects to the function `path`."""
    _running.path = path
    try:
        yield
    finally:
        _running.path = None


def _importing() -> bool:
    """Return whether an import statement caused the event: each module is read once, by the first function that needs it."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the only way to learn what caused an audit event
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@cache
def install() -> None:
    """Install the audit hook; once per process."""
    warned: set[tuple[str, str]] = set()

    def hook(event: str, _args: tuple[object, ...]) -> None:
        path = _running.path
        if path is None or event not in SIDE_EFFECTS or (path, event) in warned or _importing():
            return
        warned.add((path, event))
        _running.path = None  # a log handler may open files itself
        log.warning(
            "%s %s: move this to an action; it blocks other calls, and its changes do not run a query again",
            path,
            SIDE_EFFECTS[event],
        )
        _running.path = path

    sys.addaudithook(hook)
