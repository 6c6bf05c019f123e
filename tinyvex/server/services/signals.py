"""
Operating-system signals become one request to stop, or requests to reload.

::

    running ──first signal to stop──► stopping (the server drains, deadline SHUTDOWN_SECONDS)
    stopping ──second one──► ended at once by the signal's default action
    running ──SIGHUP, where it reloads──► running; while stopping it is no signal to stop either

Where nothing is to be reloaded SIGHUP asks to stop: the terminal was closed. Windows has no such signal.

Handlers are plain Python ones (`signal.signal`) and not the loop's:
they exist on Windows too, and run even while the loop is busy with someone's module-level code.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tinyvex.runtime import Runtime

SIGHUP: int | None = getattr(signal, "SIGHUP", None)
# SIGBREAK: Windows' Ctrl-Break, the only one a parent can send to its child there.
STOP_SIGNALS: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)


@contextmanager
def stop_on_signals(
    runtime: Runtime, on_stop: Callable[[], None], on_reload: Callable[[], None] | None = None
) -> Iterator[None]:
    """
    While inside, call `on_stop` on the runtime's loop at the first signal to stop; the second one kills.

    With `on_reload`, SIGHUP calls that instead, each time.

    Only the main thread may enter it.
    A signal that was being ignored stays ignored (`nohup`).

    Raises:
        ValueError: called outside the main thread.
    """
    stopping = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        if number == SIGHUP and on_reload is not None:
            runtime.post(on_reload)
            return
        if stopping:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stopping = True
        runtime.post(on_stop)

    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    handled = [number for number, handler in previous.items() if handler is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, previous[number])
