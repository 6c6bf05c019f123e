"""
Stop the server when its parent process ends, for any reason: a sidecar must not outlive its app.

Each platform has its own way to wait for the parent:

========  ===================================================================================
Linux     a pidfd of the parent becomes readable (kernel 5.3 and later; otherwise polling)
macOS     a kqueue filter reports the parent's exit
Windows   the parent's process handle is signalled, or standard input is a pipe and ends
others    polling: `getppid` changes; a process that is not the direct parent no longer exists
========  ===================================================================================

Only the Linux and the polling variants are run by the project's tests.

The parent is known by its process id: the one that was this process's parent at its first instruction, or the one that
the caller passed (`--parent-pid`), which covers a parent that ends even before that.

On Windows standard input counts too, because Python's launchers there (a venv's `python.exe`, `tinyvex.exe`) run between
the app and this process and outlive the app. On other platforms it does not count: a pipe that the parent merely
inherited may end while the parent lives.

`PR_SET_PDEATHSIG` is not used: it fires when the *thread* that started this process ends.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from tinyvex import limits
from tinyvex.first_parent import FIRST_PARENT
from tinyvex.server.services.service import ServiceHealth

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime, Worker
    from tinyvex.server.background_tasks import BackgroundTasks

if sys.platform == "win32":
    import ctypes
    import msvcrt
    import stat

__all__ = ["ParentWatch", "parent_wait", "polling_wait"]

log = logging.getLogger("tinyvex.server")

PARENT_WAIT_SECONDS = 0.25
"""The longest single wait: the delay of the polling variant, and of stopping the watch."""

Wait = Callable[[float], bool]
"""Waits up to the given seconds; returns True if the parent has ended."""


class ParentWatch:
    """
    The service that calls `on_death` once, on the runtime's loop, when the parent process has ended.

    Args:
        runtime: starts the thread.
        pid: the parent's process id; it may have ended already.
        on_death: called on the loop.
        make_wait: makes the function that waits; the platform's own by default.
    """

    name = "parent-watch"

    def __init__(
        self, runtime: Runtime, pid: int, on_death: Callable[[], None], make_wait: Callable[[int], Wait] | None = None
    ) -> None:
        self._runtime = runtime
        self._on_death = on_death
        self._make_wait = make_wait if make_wait is not None else parent_wait
        self._parent = pid
        self._wait: Wait | None = None
        self._worker: Worker | None = None
        self._is_stopping = threading.Event()
        self._restarts = 0
        self._error: str | None = None

    async def start(self, tasks: BackgroundTasks) -> None:
        """Start the thread."""
        self._worker = self._runtime.start_worker("tinyvex-parent", self._step)

    async def stop(self) -> None:
        """Stop the watch; its thread ends within PARENT_WAIT_SECONDS, and is not waited for."""
        self._is_stopping.set()
        if self._worker is not None:
            self._worker.stop(timeout_seconds=0)
            self._worker = None

    def health(self) -> ServiceHealth:
        """Return the state of the watch."""
        if self._error is not None:
            return ServiceHealth("failing", self._restarts, self._error)
        return ServiceHealth("stopped" if self._worker is None else "ok", self._restarts)

    def _step(self) -> bool:
        """Wait once, on the thread; False when there is nothing left to wait for."""
        if self._is_stopping.is_set():
            return False
        try:
            if self._wait is None:
                self._wait = self._make_wait(self._parent)
            has_ended = self._wait(PARENT_WAIT_SECONDS)
        except Exception as error:
            if self._error is None:
                log.exception("the parent process cannot be watched; trying again")
            self._error = f"the parent process cannot be watched: {type(error).__name__}"
            self._wait = None
            self._restarts += 1
            self._is_stopping.wait(limits.SERVICE_RESTART_SECONDS_MIN)
            return True
        self._error = None
        if has_ended:
            self._is_stopping.set()
            self._runtime.post(self._on_death)
        return not has_ended


def _has_ended(pid: int) -> bool:
    """Return whether the process has ended. A process whose parent has ended gets another parent."""
    if pid == FIRST_PARENT:
        return os.getppid() != pid
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it exists, and belongs to another user
        return False
    return False


def polling_wait(pid: int) -> Wait:
    """Return a function that polls the process."""
    never = threading.Event()

    def wait(seconds: float) -> bool:
        if not _has_ended(pid):
            never.wait(seconds)
        return _has_ended(pid)

    return wait


if sys.platform == "linux":

    def parent_wait(pid: int) -> Wait:
        """Return this platform's way to wait for the end of the parent, whose process id is or was `pid`."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # an old kernel, or a sandbox that forbids the call
            return polling_wait(pid)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)

        def wait(seconds: float) -> bool:
            # The first check covers a race: the parent ended and its id was reused before the pidfd was opened.
            return _has_ended(pid) or bool(ended.poll(seconds * 1000))

        return wait

elif sys.platform == "win32":

    def parent_wait(pid: int) -> Wait:
        """Return this platform's way to wait for the end of the parent, whose process id is or was `pid`."""
        synchronize, wait_object_0 = 0x00100000, 0
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.OpenProcess.restype = ctypes.c_void_p
        kernel32.WaitForSingleObject.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        kernel32.PeekNamedPipe.argtypes = [ctypes.c_void_p] * 6
        parent = kernel32.OpenProcess(synchronize, False, pid)
        input_pipe = msvcrt.get_osfhandle(0) if stat.S_ISFIFO(os.fstat(0).st_mode) else None

        def wait(seconds: float) -> bool:
            if parent is None:  # it has ended already
                return True
            if input_pipe is not None and not kernel32.PeekNamedPipe(input_pipe, None, 0, None, None, None):
                return True
            return bool(kernel32.WaitForSingleObject(parent, int(seconds * 1000)) == wait_object_0)

        return wait

else:

    def parent_wait(pid: int) -> Wait:
        """Return this platform's way to wait for the end of the parent, whose process id is or was `pid`."""
        if not hasattr(select, "kqueue"):
            return polling_wait(pid)
        queue = select.kqueue()
        ends = select.kevent(pid, filter=select.KQ_FILTER_PROC, flags=select.KQ_EV_ADD, fflags=select.KQ_NOTE_EXIT)
        try:
            queue.control([ends], 0)
        except OSError:  # it has ended already
            return polling_wait(pid)

        def wait(seconds: float) -> bool:
            return _has_ended(pid) or bool(queue.control(None, 1, seconds))

        return wait
