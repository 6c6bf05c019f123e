"""
The log of slow calls: function, run time and rows read; a bounded number of lines a minute, and the count of the rest.
"""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.support.loop import VirtualLoop, run_virtual
from tests.support.storage import Blocker, SteppedRuntime, opened
from tinyvex import errors, limits
from tinyvex.functions.app.loader import load_app
from tinyvex.functions.run.call import Call
from tinyvex.functions.run.code_switch import CodeSwitch
from tinyvex.functions.run.executor import Executor
from tinyvex.functions.run.slow_log import MINUTE_SECONDS, SlowLog, Stopwatch

APP = """
import tinyvex as tv

clock = None

@tv.table("items")
class Item(tv.Document):
    n: int

@tv.query
def take(ctx: tv.QueryCtx, seconds: float) -> int:
    clock.seconds += seconds
    return len(ctx.db.query(Item).collect())

@tv.mutation
def add(ctx: tv.MutationCtx, seconds: float) -> None:
    clock.seconds += seconds
    ctx.db.query(Item).collect()
    ctx.db.insert(Item(n=1))

@tv.mutation
def fail(ctx: tv.MutationCtx, seconds: float) -> None:
    clock.seconds += seconds
    raise tv.AppError("no")
"""


class Clock(SteppedRuntime):
    """A runtime whose monotonic clock advances when a test or a function advances it."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
async def clock() -> Any:
    runtime = Clock()
    runtime.bind(asyncio.get_running_loop())
    return runtime


@pytest.fixture
async def executor(clock: Clock, tmp_path: Path) -> Any:
    (tmp_path / "app.py").write_text(APP, "utf-8")
    app = load_app(tmp_path / "app.py")
    app.functions["app:take"].function.__globals__["clock"] = clock
    async with opened(tmp_path / "data", {"items": {}}, runtime=clock) as store:
        running = Executor(store, clock, CodeSwitch(app))
        yield running
        running.close()


def call(name: str, seconds: float) -> Call:
    return Call(f"app:{name}", f'{{"seconds": {seconds}}}'.encode(), request_id="session-1")


def fields(record: logging.LogRecord) -> dict[str, Any]:
    names = ("kind", "function", "request_id", "duration_ms", "waited_ms", "rows_read", "error", "left_out")
    return {name: getattr(record, name) for name in names if hasattr(record, name)}


async def test_a_slow_query_is_logged(executor: Executor, caplog: pytest.LogCaptureFixture) -> None:
    """One warning has path, time, rows and request id."""
    await executor.mutation(call("add", 0))
    await executor.query(call("take", 1.5))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert fields(record) == {
        "kind": "query", "function": "app:take", "request_id": "session-1", "duration_ms": 1500.0, "rows_read": 1,
    }  # fmt: skip
    assert record.getMessage() == "slow query app:take: 1500 ms, 1 rows read (request session-1)"


async def test_a_quick_call_is_not_logged(executor: Executor, caplog: pytest.LogCaptureFixture) -> None:
    """Below `slow_ms` nothing is logged; at it, the call is."""
    await executor.query(call("take", 0.999))
    assert caplog.records == []
    await executor.query(call("take", 1.0))
    assert len(caplog.records) == 1


async def test_a_wait_for_the_writer_is_logged_but_makes_no_call_slow(
    executor: Executor, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Two mutations wait 5 s for another one; only the one that itself runs long is logged, with both times."""
    blocker = Blocker(executor.store)
    slow, quick = (executor.runtime.loop.create_future() for _ in range(2))
    executor.mutation_nowait(call("add", 2), None, lambda outcome, error: slow.set_result(error))
    executor.mutation_nowait(call("add", 0), None, lambda outcome, error: quick.set_result(error))
    clock.seconds += 5
    await blocker.grouped(slow, quick)
    (record,) = caplog.records
    assert (record.duration_ms, record.waited_ms) == (2000.0, 5000.0)  # type: ignore[attr-defined]


async def test_a_slow_failure_is_logged_with_its_name(executor: Executor, caplog: pytest.LogCaptureFixture) -> None:
    """The number of rows that it read is unknown."""
    with pytest.raises(errors.AppError):
        await executor.mutation(call("fail", 3))
    (record,) = caplog.records
    assert fields(record) == {
        "kind": "mutation", "function": "app:fail", "request_id": "session-1",
        "duration_ms": 3000.0, "waited_ms": 0.0, "error": "AppError",
    }  # fmt: skip


async def test_with_0_every_call_is_logged(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Unknown functions are not, because their names are arbitrary text from a client."""
    log = SlowLog(clock, 0)
    watch = Stopwatch(clock, "query", call("take", 0))
    log.ran(watch, 0, None)
    log.ran(watch, None, errors.FunctionNotFound("no"))
    log.close()
    assert len(caplog.records) == 1


def slow_call(clock: Any) -> Stopwatch:
    watch = Stopwatch(clock, "query", Call("app:take", b"{}"))
    with watch:
        clock.seconds += 2
    return watch


def test_lines_of_a_minute_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """The rest is counted, and the count is logged at the end of the minute; the next minute starts at zero."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        clock = Clock()
        clock.bind(loop)
        log = SlowLog(clock)
        for _ in range(limits.SLOW_LINES_PER_MINUTE + 7):
            log.ran(slow_call(clock), 0, None)
        assert len(caplog.records) == limits.SLOW_LINES_PER_MINUTE
        await asyncio.sleep(MINUTE_SECONDS + 1)
        assert fields(caplog.records[-1]) == {"left_out": 7}
        caplog.clear()
        log.ran(slow_call(clock), 0, None)
        await asyncio.sleep(MINUTE_SECONDS + 1)
        assert len(caplog.records) == 1

    run_virtual(run())


async def test_the_count_is_logged_on_close(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A server that stops within the minute still logs the count."""
    log = SlowLog(clock)
    for _ in range(limits.SLOW_LINES_PER_MINUTE + 1):
        log.ran(slow_call(clock), 0, None)
    log.close()
    assert fields(caplog.records[-1]) == {"left_out": 1}


async def test_a_run_that_does_not_end_counts_up_to_now(clock: Clock) -> None:
    """Its thread was abandoned and may still be running."""
    watch = Stopwatch(clock, "mutation", call("add", 0))
    clock.seconds += 1
    watch.__enter__()
    clock.seconds += 4
    assert (watch.waited_seconds(), watch.run_seconds()) == (1, 4)


async def test_a_run_that_is_repeated_counts_once(clock: Clock) -> None:
    """A group that runs again runs its members again; the last run is the committed one."""
    watch = Stopwatch(clock, "mutation", call("add", 0))
    for seconds in (5, 2):
        with watch:
            clock.seconds += seconds
    assert (watch.waited_seconds(), watch.run_seconds()) == (0, 2)
