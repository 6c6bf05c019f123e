"""Long work yields to the loop between its pieces."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from tests.support.loop import run_virtual
from tinyvex.runtime import Runtime
from tinyvex.server.transport.fair_queue import FairQueue


def bound() -> FairQueue:
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    return FairQueue(runtime)


def play(scenario: Coroutine[Any, Any, None]) -> None:
    run_virtual(scenario)


def test_one_piece_of_work_is_done_in_each_turn_of_the_loop() -> None:
    """First come, first served; work that continues goes to the end."""

    async def scenario() -> None:
        turns, done = bound(), list[str]()

        def work(name: str, times: int) -> None:
            done.append(name)
            if times > 1:
                turns.submit(lambda: work(name, times - 1))

        for name in "abc":
            turns.submit(lambda name=name: work(name, 2))  # type: ignore[misc]
        counts = []
        for _ in range(7):
            await asyncio.sleep(0)
            counts.append(len(done))
        assert "".join(done) == "abcabc"
        assert counts == [1, 2, 3, 4, 5, 6, 6]

    play(scenario())


def test_work_that_fails_delays_no_other() -> None:
    """The failure is reported to the loop, and the next entry runs."""

    async def scenario() -> None:
        turns, done, reported = bound(), list[str](), list[str]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(str(context["exception"])))

        def fails() -> None:
            raise ValueError("a defect")

        turns.submit(fails)
        turns.submit(lambda: done.append("next"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert (done, reported) == (["next"], ["a defect"])

    play(scenario())
