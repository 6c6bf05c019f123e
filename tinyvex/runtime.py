"""
The only access to threads, timers, clocks, randomness and sockets.

Everything that can differ between two runs of a program goes through one object. The server and the client use the real
one. Tests use one whose workers run inline on a virtual-time loop and whose sockets are in memory, so that a seed
reproduces a whole world of servers and clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import queue
import random
import secrets
import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tinyvex import forks

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    import ssl

__all__ = ["AwakeTimer", "Listener", "LoopThread", "Runtime", "Worker", "bound_reads"]

T = TypeVar("T")

ACCEPT_QUEUE_LENGTH = 2048
"""Connections that the operating system queues until they are accepted."""

READ_BYTES = 64 << 10
"""The most that is received from a socket at once; see `bound_reads`."""

AWAKE_TICK_SECONDS = 3.0
"""The longest pause between two ticks that counts in full: a busy loop is late by less, a suspended process by more."""

GIVE_WAY_SECONDS = 50e-6
"""The pause of `give_way`; the system adds about as much."""

_RESOLUTION_SECONDS = 1e-6
"""A timer that is early by no more is due: differences of floating-point times are not exact."""

Step = Callable[[], bool]
"""Does a piece of work; returns True if more may be waiting, False to wait for the next `wake`."""


class Worker(Protocol):
    """Runs one `Step` repeatedly, on a thread of its own if the runtime has threads."""

    def wake(self) -> None:
        """Run the step again. Thread-safe; many calls before the step begins count as one."""

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise `error` inside the step when it next executes Python code; no effect on an idle worker."""

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        """Stop after the current step; return whether the thread ended in time."""
        ...

    def alive(self) -> bool:
        """Return whether the thread is running."""
        ...


class Listener(Protocol):
    """A listening socket."""

    port: int

    def close(self) -> None:
        """Accept no more connections; open ones are not affected."""


class LoopThread(Protocol):
    """An event loop on a thread of its own, for code that may block it."""

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """
        Run a coroutine on this loop and wait for its result on the caller's loop.

        Cancelling the wait cancels the coroutine.

        Raises:
            RuntimeError: the coroutine was cancelled although the wait was not, or raised a `BaseException` that is
                not an `Exception`.
            Exception: any other exception of the coroutine.
        """
        ...

    async def home(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the home loop, which started this one; the caller waits on this loop."""
        ...

    def post(self, callback: Callable[[], object]) -> None:
        """Call `callback` on this loop soon, unless the loop has ended; thread-safe."""

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise `error` in the code that blocks the loop, when it next executes Python code."""

    def stack(self) -> str:
        """Return the lines that the thread is executing; empty if it has ended."""
        ...

    def alive(self) -> bool:
        """Return whether the thread is running."""
        ...

    def request_stop(self, timeout_seconds: float) -> None:
        """Cancel all coroutines and end the thread after at most this time; idempotent. Does not wait."""

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        """
        Request the stop, and wait; return whether the thread ended in time.

        Calls in `asyncio.to_thread` are not waited for.
        """
        ...


class Runtime:
    """
    The real runtime.

    `bind` ties it to the running loop; call it once, before `post`, `listen` or `dial`.
    """

    threaded = True

    def __init__(self) -> None:
        self.random = random.Random(secrets.randbits(128))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awake = (0.0, math.inf)
        """The seconds skipped so far, and the monotonic time up to which no more are skipped; see `awake_seconds`."""

    # Clocks and randomness.

    def now_us(self) -> int:
        """Return the wall clock in microseconds since the epoch; it may step backwards."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start. Never steps backwards; thread-safe."""
        return time.monotonic()

    def awake_seconds(self) -> float:
        """
        Return the monotonic clock without the time in which this process could not run; thread-safe.

        A process that was stopped, or whose machine slept, must not count that time against a client or a function.
        From the first `tick` on, a pause between two ticks counts as at most AWAKE_TICK_SECONDS.
        """
        now = self.monotonic()
        skipped, until = self._awake
        return (now if now < until else until) - skipped  # noqa: FURB136 - `min` takes many times as long, a dozen times a mutation

    def tick(self) -> float:
        """Note that the loop runs, about once a second; return how many seconds were skipped since the last tick."""
        now = self.monotonic()
        skipped, until = self._awake
        pause = max(now - until, 0.0)
        self._awake = skipped + pause, now + AWAKE_TICK_SECONDS  # one assignment, because other threads read it
        return pause

    def end_ticks(self) -> None:
        """Skip no more time: no further tick will come."""
        self.tick()
        self._awake = self._awake[0], math.inf

    def call_after(self, seconds: float, callback: Callable[[], object]) -> AwakeTimer:
        """Call `callback` on the loop when the process has been able to run for this long; see `awake_seconds`."""
        return AwakeTimer(self, seconds, callback)

    def token(self, size_bytes: int = 24) -> str:
        """Return an unguessable URL-safe text, for secrets and session ids."""
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
        Call `callback` on the loop soon; thread-safe.

        Returns:
            False if the loop has closed, in which case no task waits for the callback any more.
        """
        try:
            self.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            return False
        return True

    async def sleep(self, seconds: float) -> None:
        """Wait for a duration on the monotonic clock."""
        await asyncio.sleep(seconds)

    async def pause(self, label: str) -> None:
        """Mark a point at which a test may pause or kill a task; no effect here."""

    def point(self, label: str) -> None:
        """Mark such a point in synchronous code; no effect here."""

    # Threads.

    def start_worker(self, name: str, step: Step) -> Worker:
        """Start a thread that runs `step` once now, and again after every `wake`."""
        return _ThreadWorker(name, step)

    def start_loop(self, name: str) -> LoopThread:
        """Start a thread with an event loop."""
        return _ThreadLoop(name, self.loop)

    def give_way(self) -> None:
        """
        Yield to other threads; called between the pages of a scan and between the steps in which a long value is encoded.

        A thread that waits for the interpreter lock needs some 50 µs to notice that the lock is free. A shorter pause would
        give it the lock only after the interpreter's switch interval.
        """
        time.sleep(GIVE_WAY_SECONDS)

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
            OSError: the port is in use, or the address does not belong to this machine.
        """
        # asyncio accepts `backlog` sockets in a row. If the process can open no more files, it logs an error for each of
        # them and schedules as many retries, which do the same: a loop without an end. So it
        # accepts one at a time, and the system's own queue gets its length afterwards.
        server = await self.loop.create_server(factory, host, port, ssl=context, backlog=1, start_serving=False)
        try:
            await server.start_serving()  # a separate step, because a cancelled create_server would leave the port open
            for listening in server.sockets:
                with socket.fromfd(listening.fileno(), listening.family, listening.type) as duplicate:
                    duplicate.listen(ACCEPT_QUEUE_LENGTH)
        except BaseException:
            server.close()
            raise
        return _SocketListener(server)

    def open_files_max(self) -> int | None:
        """Return how many files and sockets this process may have open; None if there is no limit."""
        if sys.platform == "win32":
            return None
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return None if soft == resource.RLIM_INFINITY else soft

    def raise_open_files_max(self, wanted: int) -> None:
        """Raise the limit of open files to `wanted`, or to the most that the system allows this process."""
        if sys.platform == "win32":
            return
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < bound:
            with contextlib.suppress(OSError, ValueError):  # macOS has a second limit, which it does not report
                resource.setrlimit(resource.RLIMIT_NOFILE, (bound, hard))

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
            OSError: no server accepted the connection.
        """
        loop = asyncio.get_running_loop()
        return await loop.create_connection(factory, host, port, ssl=context)


class AwakeTimer:
    """
    A timer on the loop that does not count the time in which the process could not run.

    A timer of asyncio does: after a suspension the loop calls it before it reads what has arrived meanwhile.
    """

    __slots__ = ("_callback", "_due", "_handle", "_runtime")

    def __init__(self, runtime: Runtime, seconds: float, callback: Callable[[], object]) -> None:
        self._runtime = runtime
        self._callback = callback
        self._due = runtime.awake_seconds() + seconds
        self._handle = runtime.loop.call_later(seconds, self._expire)

    def cancel(self) -> None:
        """Do not call; idempotent."""
        self._handle.cancel()

    def _expire(self) -> None:
        remaining = self._due - self._runtime.awake_seconds()
        if remaining > _RESOLUTION_SECONDS:
            self._handle = self._runtime.loop.call_later(remaining, self._expire)
        else:
            self._handle.cancel()  # it refers to this timer: no cycle is left for the collector
            self._callback()


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
        # At most one token is queued: `wake` adds one only after the last was taken. SimpleQueue is in C and cheap.
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
                # Cleared before the step looks for work, so that a later `wake` adds a new token.
                self._token_waits = False


def bound_reads(transport: asyncio.BaseTransport) -> None:
    """
    Let a transport receive at most READ_BYTES at once.

    asyncio allocates as much memory as it might receive, 256 KiB. From 128 KiB on the allocator maps memory and unmaps it
    again, which takes 12 µs for every read, however short the message is. Other transports than asyncio's for Unix, such as
    uvloop's, do not have the attribute, nor the problem.
    """
    own: Any = transport
    if hasattr(own, "max_size"):
        own.max_size = READ_BYTES


def raise_in_thread(ident: int, error: type[BaseException]) -> None:
    """Raise `error` in another thread when it next runs Python code (CPython's PyThreadState_SetAsyncExc)."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(error))


class _ThreadLoop:
    """
    A loop shared by coroutines of the app.

    An exception that ends one of them must not end another: neither one on this loop nor the task that waits at home.
    """

    def __init__(self, name: str, home: asyncio.AbstractEventLoop) -> None:
        self._home = home
        if sys.platform == "win32":
            self._loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        else:
            selector = selectors.DefaultSelector()
            self._withheld = forks.withhold_selector(selector)
            self._loop = asyncio.SelectorEventLoop(selector)
        # Closing the loop's own executor would wait for its threads; this one is shut down without waiting.
        self._executor = ThreadPoolExecutor(thread_name_prefix=name)
        self._loop.set_default_executor(self._executor)
        self._stopping = False
        self._end_seconds = 0.0
        self._survived: tuple[type[BaseException], ...] = (SystemExit, KeyboardInterrupt)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        generation = forks.generation
        while not self._stopping:
            # asyncio re-raises SystemExit and KeyboardInterrupt from run_forever, even if they come from a task that is
            # not awaited. An interrupt that came too late for the blocking code surfaces here as well.
            try:
                self._loop.run_forever()
            except self._survived:
                continue
            finally:
                if forks.generation != generation:
                    forks.end_child()
        self._executor.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(SystemExit, KeyboardInterrupt):
            self._loop.run_until_complete(self._end_tasks())
        # A task that did not end keeps the loop open: cancelling it later would fail on a closed loop.
        if not asyncio.all_tasks(self._loop):
            self._loop.close()
        if sys.platform != "win32":
            self._withheld.release()

    def _end(self, seconds: float) -> None:
        if not self._stopping:
            self._stopping, self._end_seconds = True, seconds
            self._loop.stop()

    async def _end_tasks(self) -> None:
        """Cancel all other tasks, and wait for them as long as `stop` waits."""
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
        """Run a coroutine and convert a `BaseException` into a RuntimeError, so that it does not end the waiting task."""
        task = asyncio.current_task()
        try:
            return await make()
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as raised:
            if asyncio.current_task(self._loop) is not task:
                raise  # the loop has ended and the coroutine is being closed
            raise RuntimeError(f"the coroutine raised {type(raised).__name__}") from raised
        finally:
            del task  # it stores the exception, whose traceback has this frame

    async def home(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), self._home))

    def post(self, callback: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(callback)

    def interrupt(self, error: type[BaseException]) -> None:
        self._survived = (*self._survived[:2], error)
        if self._thread.ident is not None:
            raise_in_thread(self._thread.ident, error)

    def stack(self) -> str:
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - the only way to another thread's stack
        return "" if frame is None else "".join(traceback.format_stack(frame))

    def alive(self) -> bool:
        return self._thread.is_alive()

    def request_stop(self, timeout_seconds: float) -> None:
        self.post(lambda: self._end(timeout_seconds))

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        self.request_stop(timeout_seconds)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()
