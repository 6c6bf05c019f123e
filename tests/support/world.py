"""
A runtime without threads: server and clients on one virtual-time loop, reproducible by a seed.

The steps of workers run as callbacks after a delay that the seed chooses, so that some seed produces every order of
events that threads could produce. A killed process is a runtime that does nothing any more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tests.support.network import Network
from tinyvex.runtime import Listener, LoopThread, Runtime, Step, Worker

T = TypeVar("T")

EPOCH_US = 1_700_000_000_000_000


class Killed(BaseException):
    """Raised at a crash point; nothing catches it, as nothing survives SIGKILL."""


class WorldRuntime(Runtime):
    """The runtime of one simulated process."""

    threaded = False

    def __init__(self, network: Network, source: random.Random) -> None:
        super().__init__()
        self.random = random.Random(source.getrandbits(64))
        self.network = network
        self.killed = False
        self.stepped_us = 0
        """The offset of the wall clock."""
        self.crash_points: dict[str, int] = {}
        """By label, the number of times that a crash point is still passed before it kills."""
        self.on_kill: Callable[[], None] | None = None
        self._posted_until = 0.0
        self._schedule = random.Random(source.getrandbits(64))

    # Clocks and randomness.

    def now_us(self) -> int:
        return EPOCH_US + self.stepped_us + int(self.loop.time() * 1_000_000)

    def monotonic(self) -> float:
        return self.loop.time()

    def token(self, size_bytes: int = 24) -> str:
        return self.random.randbytes(size_bytes).hex()

    # The loop.

    def post(self, callback: Callable[..., object], *args: object) -> bool:
        # Late perhaps, but in order, as `call_soon_threadsafe` is; equal times need not run in order.
        self._posted_until = max(self._posted_until + 1e-7, self.loop.time() + self.delay_seconds())
        self.loop.call_at(self._posted_until, self._unless_killed, callback, *args)
        return True

    def _unless_killed(self, callback: Callable[..., object], *args: object) -> None:
        if not self.killed:
            callback(*args)

    def delay_seconds(self) -> float:
        """Return the time after which a thread gets the processor."""
        return self._schedule.choice((0.0, 0.0001, 0.001, 0.01))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self.killed:
            await asyncio.get_running_loop().create_future()

    async def pause(self, label: str) -> None:
        self.point(label)

    def point(self, label: str) -> None:
        left = self.crash_points.get(label)
        if left is None:
            return
        self.crash_points[label] = left - 1
        if left <= 1:
            del self.crash_points[label]
            self.kill()
            raise Killed(label)

    def kill(self) -> None:
        """End the process: from now on it does nothing."""
        self.killed = True
        if self.on_kill is not None:
            self.loop.call_soon(self.on_kill)

    # Threads.

    def start_worker(self, name: str, step: Step) -> Worker:
        return InlineWorker(self, step)

    def start_loop(self, name: str) -> LoopThread:
        return InlineLoop()

    def give_way(self) -> None:
        """Do nothing: the world has no other threads."""

    # Sockets.

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, context: object = None
    ) -> Listener:
        return self.network.listen(factory, port)

    async def dial(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, context: object = None
    ) -> tuple[asyncio.BaseTransport, asyncio.Protocol]:
        return await self.network.dial(factory, port)


class InlineWorker:
    """A worker whose steps are callbacks of the loop."""

    def __init__(self, runtime: WorldRuntime, step: Step) -> None:
        self._runtime = runtime
        self._step = step
        self._scheduled = False
        self._stopped = False
        self.wake()

    def wake(self) -> None:
        if not self._scheduled and not self._stopped:
            self._scheduled = True
            runtime = self._runtime
            runtime.loop.call_later(runtime.delay_seconds(), self._run)

    def _run(self) -> None:
        self._scheduled = False
        if self._stopped or self._runtime.killed:
            return
        try:
            if self._step():
                self.wake()
        except Killed:
            self._stopped = True

    def interrupt(self, error: type[BaseException]) -> None:
        """Do nothing: no step runs while another one could interrupt it."""

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        while not self._stopped and not self._runtime.killed and self._step():
            pass
        self._stopped = True
        return True

    def alive(self) -> bool:
        return not self._stopped


class InlineLoop:
    """The same loop, as there is only one."""

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await make()

    async def home(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await make()

    def post(self, callback: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_soon(callback)

    def interrupt(self, error: type[BaseException]) -> None:
        """Do nothing: no code blocks the loop while another one could interrupt it."""

    def stack(self) -> str:
        return ""

    def alive(self) -> bool:
        return True

    def request_stop(self, timeout_seconds: float) -> None:
        """Do nothing: the loop belongs to the world."""

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        return True
