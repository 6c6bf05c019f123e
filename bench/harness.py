"""
The harness of a benchmark: parameters, seed, rounds, and a few figures as the result.

A benchmark is a module with a docstring and one function, `run(bench)`.
It has two sizes: smoke, which every test run executes so that the benchmark cannot rot, and real.
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
"""The seed of every run: two runs of one benchmark do the same work and print the same hash."""

CALIBRATION_SECONDS_MAX = 0.05


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a benchmark, from several rounds."""

    name: str
    unit: str
    better: Better
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the reported and compared value."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Return half the distance between the lowest and the highest round, as a fraction of the median."""
        return (max(self.samples) - min(self.samples)) / 2 / self.median if self.median else 0.0

    def line(self) -> str:
        """Format for a terminal."""
        spread = f"± {self.spread:.0%}" if len(self.samples) > 1 else ""
        return f"  {self.name:<54} {format_number(self.median):>10} {self.unit:<14} {spread}".rstrip()

    def record(self) -> dict[str, object]:
        """Convert for `compare` and for `results/`."""
        return {**asdict(self), "median": self.median, "spread": round(self.spread, 4)}


@dataclass(slots=True)
class Bench:
    """
    The state of one benchmark run.

    Attributes:
        rounds: number of samples of each figure; their median is reported.
    """

    name: str
    real: bool
    rounds: int
    parameters: dict[str, object] = field(default_factory=dict)
    _samples: dict[str, tuple[str, Better, list[float]]] = field(default_factory=dict)
    _digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=8))

    def parameter(self, name: str, smoke: T, real: T) -> T:
        """Choose a size of the work: small in smoke mode, which only exercises the code."""
        value = real if self.real else smoke
        self.parameters[name] = value
        return value

    def random(self) -> random.Random:
        """Create a generator from the seed, the same in every round."""
        return random.Random(SEED)

    def add(self, name: str, unit: str, sample: float, better: Better = "lower") -> None:
        """Add one round's figure; samples of the same name belong together."""
        self._samples.setdefault(name, (unit, better, []))[2].append(sample)

    def time(self, name: str, call: Callable[[], object], *, operations: int = 1) -> None:
        """Measure one operation of a call, in microseconds, over all rounds."""
        for _ in range(self.rounds):
            seconds = seconds_per_call(call, at_least_seconds=0.2 if self.real else 0.0)
            self.add(name, "µs", seconds / operations * 1e6)

    def hash(self, results: Iterable[bytes]) -> None:
        """Add results to the hash; a different hash means that different work was measured."""
        for result in results:
            self._digest.update(len(result).to_bytes(8, "big"))
            self._digest.update(result)

    @property
    def result_hash(self) -> str:
        """Return the hash of everything passed to `hash` so far."""
        return self._digest.hexdigest()

    def figures(self) -> list[Figure]:
        """Return the figures in the order in which they were first added."""
        return [Figure(name, unit, better, tuple(samples)) for name, (unit, better, samples) in self._samples.items()]

    def lines(self) -> list[str]:
        """Format the report for a terminal."""
        parameters = ", ".join(f"{name} {value}" for name, value in self.parameters.items())
        head = f"{self.name} ({'real' if self.real else 'smoke'}; {parameters}; result {self.result_hash})"
        return [head, *(figure.line() for figure in self.figures())]

    def record(self) -> dict[str, object]:
        """Convert the report to JSON types."""
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
    Measure a call repeatedly for the given time, with the garbage collector disabled.

    With 0 seconds, a single call exercises the code.
    """
    number = 1
    was_enabled = gc.isenabled()
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
        if was_enabled:
            gc.enable()


def format_number(value: float) -> str:
    """Format with three significant digits and thousands separators."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
