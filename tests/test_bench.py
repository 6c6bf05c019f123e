"""Run every benchmark in smoke mode, so that none can rot; and test the harness."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import benchmarks, machine, run_benchmark
from bench.compare import line
from bench.harness import Bench, Figure
from bench.load.generator import frame
from bench.workloads import zipf

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", benchmarks())
def test_benchmark_runs_small(name):
    """A benchmark runs to its end, reports figures that are not negative, and hashes its work."""
    bench = run_benchmark(name, real=False)
    assert bench.figures()
    assert all(sample >= 0 for figure in bench.figures() for sample in figure.samples)
    assert all(len(figure.samples) >= 1 for figure in bench.figures())
    assert bench.result_hash != Bench(name, real=False, rounds=1).result_hash


@pytest.mark.parametrize("name", ["codec", "commit", "latency"])
def test_same_seed_does_the_same_work(name):
    """Two runs of a benchmark have the same result hash."""
    assert run_benchmark(name, real=False).result_hash == run_benchmark(name, real=False).result_hash


def test_every_benchmark_is_in_the_readme():
    """`bench/README.md` explains the figures of every benchmark."""
    text = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    assert [name for name in benchmarks() if f"`{name}`" not in text] == []


def test_command_prints_json():
    """`--json` prints one object with the machine and the records."""
    finished = subprocess.run(
        [sys.executable, "-m", "bench", "order", "--json"], cwd=ROOT, check=True, capture_output=True
    )
    report = json.loads(finished.stdout)
    assert report["machine"].keys() == machine().keys()
    assert [record["name"] for record in report["benchmarks"]] == ["order"]


def test_command_refuses_an_unknown_name():
    """An unknown name lists the known ones."""
    finished = subprocess.run([sys.executable, "-m", "bench", "nonsense"], cwd=ROOT, capture_output=True, check=False)
    assert finished.returncode == 2
    assert b"canonical" in finished.stderr


def test_results_are_records():
    """Every file in `results/` has a machine, a sentence of context, and real runs."""
    files = sorted((ROOT / "bench" / "results").glob("*.json"))
    assert files
    for file in files:
        report = json.loads(file.read_text(encoding="utf-8"))
        assert report["context"]
        assert report["machine"]["commit"]
        assert all(record["real"] for record in report["benchmarks"]), file.name


class TestHarness:
    def test_median_and_spread(self):
        """A figure is the median of its rounds; its spread is half their range, as a fraction of the median."""
        figure = Figure("f", "µs", "lower", (1.0, 2.0, 4.0))
        assert (figure.median, figure.spread) == (2.0, 0.75)

    def test_parameters_depend_on_the_mode(self):
        """A parameter is small in smoke mode and recorded."""
        small, real = Bench("b", real=False, rounds=1), Bench("b", real=True, rounds=3)
        assert (small.parameter("n", 1, 1000), real.parameter("n", 1, 1000)) == (1, 1000)
        assert real.record()["parameters"] == {"n": 1000}

    def test_random_repeats(self):
        """Each round has the same random numbers."""
        bench = Bench("b", real=False, rounds=1)
        assert bench.random().random() == bench.random().random()

    def test_hash_separates_its_parts(self):
        """The hash depends on the boundaries between results."""
        first, second = Bench("b", real=False, rounds=1), Bench("b", real=False, rounds=1)
        first.hash([b"ab", b"c"])
        second.hash([b"a", b"bc"])
        assert first.result_hash != second.result_hash


class TestCompare:
    def test_disjoint_rounds_give_a_verdict(self):
        """If the rounds of two commits do not overlap, the line states which is better."""
        figure = {"better": "lower", "unit": "ms"}
        assert line(("b", "f"), figure, [4.0, 5.0] * 2, [1.0, 2.0] * 2).endswith("better")
        assert line(("b", "f"), figure, [1.0, 2.0] * 2, [4.0, 5.0] * 2).endswith("WORSE")

    def test_few_rounds_give_no_verdict(self):
        """Two disjoint rounds give no verdict: this happens by chance."""
        assert line(("b", "f"), {"better": "lower", "unit": "ms"}, [1.0, 2.0], [4.0, 5.0]).endswith("x 3.00")

    def test_overlapping_rounds_give_no_verdict(self):
        """If the rounds overlap, there is a ratio and no verdict."""
        figure = {"better": "lower", "unit": "ms"}
        assert line(("b", "f"), figure, [1.0, 3.0] * 2, [2.0, 4.0] * 2).endswith("x 1.50")


class TestGenerator:
    @pytest.mark.parametrize(("size", "head"), [(5, 2), (200, 4), (70_000, 10)])
    def test_frame_lengths(self, size, head):
        """Frames use the three length encodings of RFC 6455, the mask bit, and the key 0."""
        data = frame(b"x" * size)
        assert data[0] == 0x81
        assert data[1] & 0x80
        assert data[head : head + 4] == b"\0\0\0\0"
        assert data[head + 4 :] == b"x" * size


def test_zipf_prefers_the_first():
    """By Zipf's law, item 0 is chosen about twice as often as item 1."""
    numbers = zipf(Bench("b", real=False, rounds=1).random(), 16)
    chosen = [next(numbers) for _ in range(20_000)]
    assert set(chosen) == set(range(16))
    assert 1.8 < chosen.count(0) / chosen.count(1) < 2.2
