"""
A timer that ends the process unless Python code postpones it, and that does not count suspensions.

While a C call holds the interpreter lock, no Python code runs. Only the operating system can count the time then::

    armed ──half the time──► warned ──half the time──► ended by SIGALRM
      ▲                        │
      └──────── arm() ─────────┘

An interval timer of the operating system expires twice. The first SIGALRM prints the stack of every thread on stderr
(`faulthandler`, without the lock); the handler is installed with SA_RESETHAND, so that the second one meets the default
action, which ends the process. In between, `faulthandler`'s own thread writes the stacks to the trace, a file that the
next process reads; it is emptied when the timer is armed again.

A suspended process receives one SIGALRM when it continues, however often the timer expired meanwhile. The second half
therefore always begins in a process that runs, and the event loop calls `arm` before it ends.

Process 1 of a container uses `faulthandler`'s own timer, because Linux ignores the default action of a signal there. So do
systems whose `struct sigaction` is not known here, Windows among them. That timer writes the stacks only to the trace,
exits with 1, and counts suspensions too.

Only the timer of Linux is run by the project's tests.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import platform
import signal
import sys
from typing import Protocol

__all__ = ["SignalTimer", "StuckTimer", "Trace", "stuck_timer"]

_FLAGS_OFFSETS = {
    ("linux", "x86_64"): 136,
    ("linux", "aarch64"): 136,
    ("darwin", "x86_64"): 12,
    ("darwin", "arm64"): 12,
}
"""The offset of `sa_flags` in the C library's `struct sigaction`, in bytes; glibc and musl agree."""

_RESETHAND = 0x0004 if sys.platform == "darwin" else 0x8000_0000

_ACTION_BYTES_MAX = 512
"""More than any `struct sigaction` has."""


class Trace(Protocol):
    """The file for the stacks of a process that ends."""

    descriptor: int

    def clear_trace(self) -> None:
        """Discard its content: the process lives on."""


class StuckTimer(Protocol):
    """Ends the process some seconds after the last call of `arm`."""

    def arm(self, seconds: float) -> None:
        """Begin to count; begin again if it was counting."""

    def disarm(self) -> None:
        """Stop counting."""


class SignalTimer:
    """The timer of POSIX systems; it owns SIGALRM and the interval timer ITIMER_REAL."""

    def __init__(self, flags_offset: int, trace: Trace) -> None:
        self._trace = trace
        self._library = ctypes.CDLL(None, use_errno=True)
        # A parent may have blocked the signal, which this process inherits. It is enough that one thread accepts it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        faulthandler.register(signal.SIGALRM, file=_stderr_descriptor(trace), all_threads=True)
        self._action = ctypes.create_string_buffer(_ACTION_BYTES_MAX)
        self._sigaction(None, self._action)
        flags = ctypes.c_uint32.from_buffer(self._action, flags_offset)
        flags.value |= _RESETHAND

    def arm(self, seconds: float) -> None:
        """Begin to count; begin again if it was counting."""
        self._sigaction(self._action, None)
        signal.setitimer(signal.ITIMER_REAL, seconds / 2, seconds / 2)
        faulthandler.cancel_dump_traceback_later()
        self._trace.clear_trace()
        faulthandler.dump_traceback_later(seconds * 3 / 4, file=self._trace.descriptor)

    def disarm(self) -> None:
        """Stop counting."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.unregister(signal.SIGALRM)
        faulthandler.cancel_dump_traceback_later()

    def _sigaction(self, new: ctypes.Array[ctypes.c_char] | None, old: ctypes.Array[ctypes.c_char] | None) -> None:
        if self._library.sigaction(int(signal.SIGALRM), new, old) != 0:
            raise OSError(ctypes.get_errno(), "sigaction failed")


def _stderr_descriptor(trace: Trace) -> int:
    """Return the descriptor of stderr; that of the trace if the embedding program has no stderr or replaced it."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return trace.descriptor


class _FaulthandlerTimer:
    """The timer of process 1 and of all other systems."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def arm(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, file=self._trace.descriptor, exit=True)

    def disarm(self) -> None:
        faulthandler.cancel_dump_traceback_later()


def stuck_timer(trace: Trace) -> StuckTimer:
    """Return this platform's timer, not armed yet."""
    offset = None if os.getpid() == 1 else _FLAGS_OFFSETS.get((sys.platform, platform.machine()))
    return _FaulthandlerTimer(trace) if offset is None else SignalTimer(offset, trace)
