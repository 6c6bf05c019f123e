"""An asyncio loop whose clock jumps to the next timer when nothing is ready: tests neither wait nor depend on speed."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(AssertionError):
    """Every task waits and no timer is set, so nothing can happen any more."""


class VirtualSelector(selectors.BaseSelector):
    """Never blocks: a wait with a timeout moves the clock instead."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = 0
        self.at_turn: dict[int, Callable[[], object]] = {}
        """Callbacks between two turns of the loop, by turn: at any point where a task may wait."""
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        if self.turns in self.at_turn:
            self.at_turn.pop(self.turns)()
        events = self._real.select(0)
        if events:
            return events
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        self.now += max(timeout, 0.0)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; `time()` counts virtual seconds since its creation."""

    def __init__(self) -> None:
        self._virtual = VirtualSelector()
        super().__init__(self._virtual)

    def in_turns(self, turns: int, callback: Callable[[], object]) -> None:
        """Call `callback` after this many more turns, between two of them."""
        self._virtual.at_turn[self._virtual.turns + turns] = callback

    def skip(self, seconds: float) -> None:
        """Let time pass in which nothing runs, as for a suspended process."""
        self._virtual.now += seconds

    def time(self) -> float:
        return self._virtual.now


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a new virtual loop, then cancel the tasks that it left."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
