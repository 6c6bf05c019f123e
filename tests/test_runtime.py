"""The real runtime's second loop, and its listening; everything that runs on threads exercises the rest."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading

import pytest

from tests.support.loop import VirtualLoop, run_virtual
from tests.support.process import free_port
from tinyvex.runtime import AWAKE_TICK_SECONDS, READ_BYTES, LoopThread, Runtime, bound_reads


def start_loop() -> LoopThread:
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    return runtime.start_loop("second")


async def test_coroutines_may_clean_up_when_the_loop_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """`finally` blocks run completely, also if they await, and nothing is logged."""
    thread = start_loop()
    begun, cleaned = threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            cleaned.set()

    with caplog.at_level(logging.WARNING):
        waiting = asyncio.create_task(thread.run(work))
        assert await asyncio.to_thread(begun.wait, 10)
        waiting.cancel()
        assert thread.stop(10)
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert cleaned.is_set()
    assert caplog.records == []


async def test_a_task_that_does_not_end_is_left() -> None:
    """`stop` returns in time even if a task suppresses its cancellation."""
    thread = start_loop()
    begun, over = threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        while not over.is_set():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.to_thread(over.wait, 10)

    waiting = asyncio.create_task(thread.run(work))
    assert await asyncio.to_thread(begun.wait, 10)
    began = asyncio.get_running_loop().time()
    thread.stop(0.05)
    assert asyncio.get_running_loop().time() - began < 5
    over.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_cancelling_the_wait_cancels_the_coroutine() -> None:
    """Cancelling the caller cancels the coroutine on the other loop."""
    thread = start_loop()
    begun, cancelled = threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    waiting = asyncio.create_task(thread.run(work))
    assert await asyncio.to_thread(begun.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.to_thread(cancelled.wait, 10)
    assert thread.stop()


async def test_stopping_is_idempotent() -> None:
    """The second call finds the thread ended."""
    thread = start_loop()
    assert thread.stop()
    assert thread.stop()


@pytest.mark.parametrize("steps", range(6))
async def test_a_cancelled_listen_leaves_the_port_closed(steps: int) -> None:
    """At any step of `listen` at which it may be cancelled."""
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    port = free_port()
    listening = asyncio.create_task(runtime.listen(asyncio.Protocol, "127.0.0.1", port))
    for _ in range(steps):
        await asyncio.sleep(0)
    if not listening.cancel():
        (await listening).close()
    else:
        with pytest.raises(asyncio.CancelledError):
            await listening
    with pytest.raises(OSError, match="refused|failed"):
        await runtime.dial(asyncio.Protocol, "127.0.0.1", port)


@pytest.mark.skipif(sys.platform == "win32", reason="this loop receives into a buffer of its own")
async def test_a_read_receives_few_bytes_at_once() -> None:
    """A transport whose reads are bounded passes long messages on in blocks that the allocator need not map."""
    received: asyncio.Queue[int] = asyncio.Queue()

    class Receiver(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            bound_reads(transport)

        def data_received(self, data: bytes) -> None:
            received.put_nowait(len(data))

    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    listener = await runtime.listen(Receiver, "127.0.0.1", 0)
    transport, _ = await runtime.dial(asyncio.Protocol, "127.0.0.1", listener.port)
    assert isinstance(transport, asyncio.Transport)
    transport.write(bytes(40 * READ_BYTES))
    sizes = [await received.get()]
    while sum(sizes) < 40 * READ_BYTES:
        sizes.append(await received.get())
    assert max(sizes) <= READ_BYTES
    transport.close()
    listener.close()


class ManualRuntime(Runtime):
    """A runtime whose monotonic clock a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_without_ticks_all_time_counts() -> None:
    """A program without a ticker cannot know whether it was suspended."""
    runtime = ManualRuntime()
    started = runtime.awake_seconds()
    runtime.now += 3600
    assert runtime.awake_seconds() - started == 3600


def test_a_pause_between_two_ticks_counts_in_part() -> None:
    """Before the tick that ends it and after, so that no callback that runs first sees another time."""
    runtime = ManualRuntime()
    runtime.tick()
    started = runtime.awake_seconds()
    runtime.now += 3600
    assert runtime.awake_seconds() - started == AWAKE_TICK_SECONDS
    assert runtime.tick() == 3600 - AWAKE_TICK_SECONDS
    assert runtime.awake_seconds() - started == AWAKE_TICK_SECONDS
    runtime.now += 1
    assert runtime.tick() == 0
    assert runtime.awake_seconds() - started == AWAKE_TICK_SECONDS + 1


def test_after_the_last_tick_all_time_counts_again() -> None:
    """Skipped time stays skipped: the clock does not jump."""
    runtime = ManualRuntime()
    runtime.tick()
    started = runtime.awake_seconds()
    runtime.now += 3600
    runtime.end_ticks()
    runtime.now += 60
    assert runtime.awake_seconds() - started == AWAKE_TICK_SECONDS + 60


class VirtualRuntime(Runtime):
    """A runtime on a virtual loop."""

    def __init__(self) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.virtual = loop
        self.bind(loop)

    def monotonic(self) -> float:
        return self.virtual.time()


def test_a_timer_does_not_count_a_suspension() -> None:
    """It expires when the process has run for its seconds, at whatever time that is."""

    async def scenario() -> float:
        runtime = VirtualRuntime()
        runtime.tick()
        expired = asyncio.Event()
        runtime.call_after(10.0, expired.set)
        runtime.virtual.skip(3600)
        while not expired.is_set():
            await asyncio.sleep(0.5)
            runtime.tick()
        return runtime.monotonic() - 3600

    assert run_virtual(scenario()) == pytest.approx(10.0 - AWAKE_TICK_SECONDS, abs=0.6)


def test_a_cancelled_timer_calls_nothing() -> None:
    """Also after a suspension, when it has begun to count again."""

    async def scenario() -> list[str]:
        runtime, calls = VirtualRuntime(), []
        runtime.tick()
        timers = [runtime.call_after(10.0, lambda: calls.append("called")) for _ in range(2)]
        timers[0].cancel()
        runtime.virtual.skip(60)
        await asyncio.sleep(0)
        runtime.tick()
        timers[1].cancel()
        await asyncio.sleep(60)
        return calls

    assert run_virtual(scenario()) == []
