"""
The event loop that a client belongs to, and the tasks on it that wait for a change.

asyncio's objects are not thread-safe: a call from another thread or loop would change the client's state without waking
its loop, and nothing would wake the caller. So every call checks where it runs before it changes anything.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["ClientLoop", "Waiters"]


class ClientLoop:
    """The event loop of one client; none until the client is entered, and after it was left."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_name = ""

    def bind(self) -> None:
        """Bind the client to the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread_name = threading.current_thread().name

    def unbind(self) -> None:
        """Release the loop: the client is closed, so a call from anywhere has no effect or raises ClientClosed."""
        self._loop = None

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call a function on the loop, from any thread or a finalizer; not if the loop was released or closed."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(callback)

    def check(self) -> None:
        """
        Check that the caller runs on the client's loop.

        Raises:
            RuntimeError: it runs on another loop, or in a thread without one; the message names both.
        """
        if self._loop is None or _running_loop() is self._loop:
            return
        caller = threading.current_thread().name
        if self._loop.is_closed():
            raise RuntimeError(
                f"the client belongs to an event loop of thread `{self._thread_name}` that was closed; "
                "use a client only inside the asyncio.run() that entered it"
            )
        where = f"thread `{caller}`" if _running_loop() is None else f"another event loop, in thread `{caller}`"
        raise RuntimeError(
            f"the client belongs to the event loop of thread `{self._thread_name}`, but it was called from {where}; "
            "call it through `asyncio.run_coroutine_threadsafe` or `loop.call_soon_threadsafe`, "
            "or use tv.connect_blocking, whose client any thread may call"
        )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Waiters:
    """The tasks that wait for one thing to change."""

    def __init__(self) -> None:
        self._futures: dict[asyncio.Future[None], None] = {}

    async def wait(self) -> None:
        """Wait for the next `wake`."""
        future = asyncio.get_running_loop().create_future()
        self._futures[future] = None
        try:
            await future
        finally:
            del self._futures[future]

    def wake(self) -> None:
        """Wake every task that waits."""
        for future in self._futures:
            if not future.done():
                future.set_result(None)
