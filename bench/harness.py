"""
What a benchmark is given: its parameters, its seed, its rounds, and a place for few figures.

A benchmark is a module with a docstring and one function, `run(bench)`.
It runs in two sizes: smoke, in every test run, so that it cannot rot; and real.
"""

from __future__ import annotations

import gc
import hashlib
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeVar

__all__ = ["Bench", "Better", "Figure", "seconds_per_call"]

T = TypeVar("T")

Better = Literal["higher", "lower", "neither"]

SEED = 20_260_731
"""Of every run: two runs of one benchmark do the same work, and say so with the same hash."""

CALIBRATION_SECONDS_MAX = 0.05


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a benchmark, from several rounds."""

    name: str
    unit: str
    better: Better
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """What is reported and compared."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Half the distance between the lowest and the highest round, as a part of the median."""
        return (max(self.samples) - min(self.samples)) / 2 / self.median if self.median else 0.0

    def line(self) -> str:
        """For people."""
        spread = f"± {self.spread:.0%}" if len(self.samples) > 1 else ""
        return f"  {self.name:<54} {format_number(self.median):>10} {self.unit:<14} {spread}".rstrip()

    def record(self) -> dict[str, object]:
        """For `compare` and for `results/`."""
        return {**asdict(self), "median": self.median, "spread": round(self.spread, 4)}


@dataclass(slots=True)
class Bench:
    """
    One run of one benchmark.

    Attributes:
        rounds: how often each figure is taken; its median is reported.
    """

    name: str
    real: bool
    rounds: int
    parameters: dict[str, object] = field(default_factory=dict)
    _samples: dict[str, tuple[str, Better, list[float]]] = field(default_factory=dict)
    _digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=8))

    def parameter(self, name: str, smoke: T, real: T) -> T:
        """A size of the work: small in smoke mode, where only the code is tried."""
        value = real if self.real else smoke
        self.parameters[name] = value
        return value

    def random(self) -> random.Random:
        """A generator from the seed, the same in every round."""
        return random.Random(SEED)

    def add(self, name: str, unit: str, sample: float, better: Better = "lower") -> None:
        """One round's figure; rounds of the same name belong together."""
        self._samples.setdefault(name, (unit, better, []))[2].append(sample)

    def time(self, name: str, call: Callable[[], object], *, operations: int = 1) -> None:
        """What one operation of a call takes, in microseconds, over all rounds."""
        for _ in range(self.rounds):
            seconds = seconds_per_call(call, at_least_seconds=0.2 if self.real else 0.0)
            self.add(name, "µs", seconds / operations * 1e6)

    def hash(self, results: Iterable[bytes]) -> None:
        """Take in what the work came to; a change of the hash means that other work was measured."""
        for result in results:
            self._digest.update(len(result).to_bytes(8, "big"))
            self._digest.update(result)

    @property
    def result_hash(self) -> str:
        """Of everything given to `hash` so far."""
        return self._digest.hexdigest()

    def figures(self) -> list[Figure]:
        """In the order in which they were first added."""
        return [Figure(name, unit, better, tuple(taken)) for name, (unit, better, taken) in self._samples.items()]

    def lines(self) -> list[str]:
        """The report for people."""
        parameters = ", ".join(f"{name} {value}" for name, value in self.parameters.items())
        head = f"{self.name} ({'real' if self.real else 'smoke'}; {parameters}; result {self.result_hash})"
        return [head, *(figure.line() for figure in self.figures())]

    def record(self) -> dict[str, object]:
        """The report for programs."""
        return {
            "name": self.name,
            "real": self.real,
            "rounds": self.rounds,
            "seed": SEED,
            "parameters": self.parameters,
            "hash": self.result_hash,
            "figures": [figure.record() for figure in self.figures()],
        }


def seconds_per_call(call: Callable[[], object], *, at_least_seconds: float) -> float:
    """
    Call as often as the time allows, without the garbage collector, and divide.

    With 0 seconds it is called twice: enough to see that it works.
    """
    number = 1
    collecting = gc.isenabled()
    gc.disable()
    try:
        while True:
            started = time.perf_counter()
            for _ in range(number):
                call()
            seconds = time.perf_counter() - started
            if seconds >= at_least_seconds:
                return seconds / number
            number = number * 2 if seconds < CALIBRATION_SECONDS_MAX else int(number * at_least_seconds / seconds) + 1
    finally:
        if collecting:
            gc.enable()


def format_number(value: float) -> str:
    """Three digits that matter, thousands separated."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
