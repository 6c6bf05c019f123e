"""
Runtime: the only way to threads, timers, clocks, randomness and sockets.

Everything that could differ between two runs of the same program goes through one object.
The server and the client get the real one;
tests give them one whose workers run inline on a virtual-time loop and whose sockets are in memory,
so that a whole world of server and clients is reproduced by a seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import queue
import random
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import ssl

__all__ = ["Listener", "LoopThread", "Runtime", "Worker"]

T = TypeVar("T")

Step = Callable[[], bool]
"""One piece of a worker's work; True when more may be waiting, False to wait for the next `wake`."""


class Worker(Protocol):
    """Something that runs one `Step` again and again, on a thread of its own where the runtime has threads."""

    def wake(self) -> None:
        """Run the step again; from any thread; many calls before the step begins count as one."""

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise `error` inside the step as soon as it runs Python code again; nothing when it is idle."""

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        """End after the step under way; True when the thread has ended in time."""
        ...

    def alive(self) -> bool:
        """Whether the thread still runs."""
        ...


class Listener(Protocol):
    """A listening socket."""

    port: int

    def close(self) -> None:
        """Accept no more connections; those accepted live on."""


class LoopThread(Protocol):
    """An event loop beside the server's own, for code that may block it."""

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """
        Run a coroutine on this loop and wait for it here.

        Cancelling the wait cancels the coroutine.

        Raises:
            RuntimeError: it was cancelled, though the wait was not, or raised what is no `Exception`.
            Exception: whatever else it raised.
        """
        ...

    async def home(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """From this loop: run a coroutine on the server's loop and wait for it."""
        ...

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        """Cancel what runs and end the thread, which need not wait for what `asyncio.to_thread` still does."""
        ...


class Runtime:
    """
    The real runtime.

    `bind` ties it to the running loop, once, before `post`, `listen` or `dial` are used.
    """

    threaded = True

    def __init__(self) -> None:
        self.random = random.Random(secrets.randbits(128))
        self._loop: asyncio.AbstractEventLoop | None = None

    # Clocks and randomness.

    def now_us(self) -> int:
        """Wall clock, microseconds since the epoch; may step backwards."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never backwards; safe in any thread."""
        return time.monotonic()

    def token(self, size_bytes: int = 24) -> str:
        """An unguessable URL-safe text, for secrets and session ids."""
        return secrets.token_urlsafe(size_bytes)

    # The loop.

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use this loop for callbacks and sockets."""
        self._loop = loop

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The bound loop."""
        assert self._loop is not None, "bind() comes first"
        return self._loop

    def post(self, callback: Callable[..., object], *args: object) -> bool:
        """
        Call `callback` on the loop soon, from any thread.

        Returns False when the loop has closed: whoever waited is gone.
        """
        try:
            self.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            return False
        return True

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def pause(self, label: str) -> None:
        """Name a point at which a test may hold a task, or kill it; here nothing happens."""

    def point(self, label: str) -> None:
        """The same in synchronous code."""

    # Threads.

    def start_worker(self, name: str, step: Step) -> Worker:
        """Start a thread that runs `step` once now and again after every `wake`."""
        return _ThreadWorker(name, step)

    def start_loop(self, name: str) -> LoopThread:
        """Start a thread with an event loop."""
        return _ThreadLoop(name, self.loop)

    def give_way(self) -> None:
        """Let other threads run; a scan calls it between pages."""
        time.sleep(0)

    # Sockets.

    async def listen(
        self,
        factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        context: ssl.SSLContext | None = None,
    ) -> Listener:
        """
        Listen on a TCP port; 0 picks a free one.

        Raises:
            OSError: the port is taken or the address is not this machine's.
        """
        server = await self.loop.create_server(factory, host, port, ssl=context, backlog=2048, start_serving=False)
        try:
            await server.start_serving()  # not in the line above: cancelled there, it would go on listening
        except BaseException:
            server.close()
            raise
        return _SocketListener(server)

    async def dial(
        self,
        factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        context: ssl.SSLContext | None = None,
    ) -> tuple[asyncio.BaseTransport, asyncio.Protocol]:
        """
        Connect to a TCP port.

        Raises:
            OSError: nobody answers.
        """
        loop = asyncio.get_running_loop()
        return await loop.create_connection(factory, host, port, ssl=context)


class _SocketListener:
    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]

    def close(self) -> None:
        self._server.close()


class _ThreadWorker:
    def __init__(self, name: str, step: Step) -> None:
        self._step = step
        self._stopping = False
        # At most one token waits: `wake` puts one only when the last was taken, and the queue is C and cheap.
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._token_waits = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        if not self._token_waits:
            self._token_waits = True
            self._tokens.put(None)

    def interrupt(self, error: type[BaseException]) -> None:
        if self._thread.ident is not None:
            raise_in_thread(self._thread.ident, error)

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        self._stopping = True
        self._tokens.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            if not self._step():
                self._tokens.get()
                # Cleared before the step looks for work: a `wake` from here on puts a new token.
                self._token_waits = False


def raise_in_thread(ident: int, error: type[BaseException]) -> None:
    """Raise `error` in another thread when it next runs Python code (CPython's PyThreadState_SetAsyncExc)."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(error))


class _ThreadLoop:
    """
    Its coroutines are somebody else's code, and share the loop.

    What ends a task may end no other: neither those on this loop, nor the one at home that waits.
    """

    def __init__(self, name: str, home: asyncio.AbstractEventLoop) -> None:
        self._home = home
        self._loop = asyncio.new_event_loop()
        # One of ours, so that the end need not wait for what it still does: the loop's own one does.
        self._executor = ThreadPoolExecutor(thread_name_prefix=name)
        self._loop.set_default_executor(self._executor)
        self._stopping = False
        self._end_seconds = 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._stopping:
            # asyncio lets these two out of the loop, also from a task that nobody waits for.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_forever()
        self._executor.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(SystemExit, KeyboardInterrupt):
            self._loop.run_until_complete(self._end_tasks())
        if not asyncio.all_tasks(self._loop):  # else somebody may yet wish to cancel one
            self._loop.close()

    def _end(self, seconds: float) -> None:
        self._stopping, self._end_seconds = True, seconds
        self._loop.stop()

    async def _end_tasks(self) -> None:
        """Cancel all others, and give them the time in which `stop` waits."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=self._end_seconds)
        await self._loop.shutdown_asyncgens()

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._contained(make), self._loop))
        except asyncio.CancelledError as raised:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RuntimeError("the coroutine was cancelled") from raised

    async def _contained(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What is no `Exception` would end whoever it comes to."""
        task = asyncio.current_task()
        try:
            return await make()
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as raised:
            if asyncio.current_task(self._loop) is not task:
                raise  # the loop is gone, and this is thrown away
            raise RuntimeError(f"the coroutine raised {type(raised).__name__}") from raised

    async def home(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), self._home))

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._end, timeout_seconds)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()
