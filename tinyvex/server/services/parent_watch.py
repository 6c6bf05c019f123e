"""
Noticing that the parent process has died, by whatever means: the sidecar then stops.

The portable twins, each a function that waits a moment and says whether the parent is gone:

========  ============================================================================
Linux     a pidfd of the parent becomes readable (kernel 5.3); else the polling of below
macOS     a kqueue filter on the parent's exit
Windows   the parent's process handle is signalled; or standard input, if a pipe, ends
others    `getppid` changes
========  ============================================================================

Only Linux's and the polling twin could be run by the authors' tests.

Windows also looks at standard input because Python's launchers there (a venv's `python.exe`, `tinyvex.exe`)
stand between the app and this process, and outlive the app.
Elsewhere it is not looked at: a pipe that the parent merely inherited may end while the parent lives.
`PR_SET_PDEATHSIG` is not used: it fires when the *thread* that started the process ends.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable

from tinyvex.runtime import Runtime, Worker

if sys.platform == "win32":
    import ctypes
    import msvcrt
    import stat

PARENT_WAIT_SECONDS = 0.25
"""How long one step of the watch waits; also how late a polling twin may notice."""

Wait = Callable[[float], bool]
"""Waits at most so many seconds; True when the parent is gone."""


def watch_parent(runtime: Runtime, on_death: Callable[[], None], wait: Wait | None = None) -> Worker:
    """
    Call `on_death` once, on the runtime's loop, when the process's parent has ended.

    The worker can be stopped at any time; its thread ends within `PARENT_WAIT_SECONDS`.

    Args:
        runtime: starts the thread.
        on_death: what to call.
        wait: how to wait; the platform's own way when left out.
    """
    wait_parent = wait if wait is not None else parent_wait(os.getppid())
    dead = False

    def step() -> bool:
        nonlocal dead
        if not dead and wait_parent(PARENT_WAIT_SECONDS):
            dead = True
            runtime.post(on_death)
        return not dead

    return runtime.start_worker("tinyvex-parent", step)


def polling_wait(pid: int) -> Wait:
    """An orphan gets another parent: `getppid` changes."""
    never = threading.Event()

    def wait(seconds: float) -> bool:
        if os.getppid() == pid:
            never.wait(seconds)
        return os.getppid() != pid

    return wait


if sys.platform == "linux":

    def parent_wait(pid: int) -> Wait:
        """How to wait here for the end of this process's parent, whose id was `pid` a moment ago."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # an old kernel, or a sandbox that forbids the call
            return polling_wait(pid)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)

        def wait(seconds: float) -> bool:
            # getppid settles the race in which the parent died, and its id was given away, before the pidfd was opened.
            return os.getppid() != pid or bool(ended.poll(seconds * 1000))

        return wait

elif sys.platform == "win32":

    def parent_wait(pid: int) -> Wait:
        """How to wait here for the end of this process's parent, whose id was `pid` a moment ago."""
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
        """How to wait here for the end of this process's parent, whose id was `pid` a moment ago."""
        if not hasattr(select, "kqueue"):
            return polling_wait(pid)
        queue = select.kqueue()
        ends = select.kevent(pid, filter=select.KQ_FILTER_PROC, flags=select.KQ_EV_ADD, fflags=select.KQ_NOTE_EXIT)
        try:
            queue.control([ends], 0)
        except OSError:  # it has ended already, which getppid tells
            return polling_wait(pid)

        def wait(seconds: float) -> bool:
            return os.getppid() != pid or bool(queue.control(None, 1, seconds))

        return wait
