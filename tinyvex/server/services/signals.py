"""
Operating-system signals request a stop or a reload.

::

    running ──first stop signal──► stopping (the server drains, deadline SHUTDOWN_SECONDS)
    stopping ──second stop signal──► the signal's default action ends the process
    a forked child ──any of them──► the signal's default action ends the child
    running or stopping ──SIGHUP, if the command reloads──► no change; requests a reload

If the command does not reload, SIGHUP is a stop signal: the terminal was closed. Windows has no SIGHUP.

The handlers are plain Python handlers (`signal.signal`) instead of the loop's: these exist on Windows too, and they run
even while an app's module-level code blocks the loop.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from tinyvex import forks
from tinyvex.runtime import Runtime

SIGHUP: int | None = getattr(signal, "SIGHUP", None)
# SIGBREAK is Ctrl-Break on Windows, the only signal that a parent can send to its child there.
STOP_SIGNALS: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)


def end_by_default(number: int) -> NoReturn:
    """End the process by the default action of a signal."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # process 1 of a container: Linux ignores the default action there


@contextmanager
def stop_on_signals(
    runtime: Runtime, on_stop: Callable[[], None], on_reload: Callable[[], None] | None = None
) -> Iterator[None]:
    """
    Inside the context, call `on_stop` on the runtime's loop at the first stop signal; a second one ends the process.

    A signal that was ignored before stays ignored (`nohup`). One that the parent had blocked is accepted: a program that
    blocks signals for its own threads does not mean its children.

    Args:
        runtime: bound to the loop.
        on_stop: called once.
        on_reload: called at every SIGHUP; None makes SIGHUP a stop signal.

    Raises:
        ValueError: entered outside the main thread.
    """
    stopping = False
    generation = forks.generation

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        if forks.generation != generation:  # a child, which its parent or a process pool wants to end
            end_by_default(number)
        if number == SIGHUP and on_reload is not None:
            runtime.post(on_reload)
            return
        if stopping:
            end_by_default(number)
        stopping = True
        runtime.post(on_stop)

    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    handled = [number for number, handler in previous.items() if handler is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, handle)
    blocked = None if sys.platform == "win32" else signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
    try:
        yield
    finally:
        if sys.platform != "win32" and blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number in handled:
            signal.signal(number, previous[number])
