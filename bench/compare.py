"""
`python -m bench.compare REF REF name [...]`: compare the speed of two commits.

The package of each commit is exported into its own folder, and this tree's benchmarks run against each,
alternately and several times, so that other load on the machine affects both alike.
The result is the ratio of the medians, with a verdict if the rounds of the two do not overlap.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from bench.harness import format_number

HERE = Path(__file__).resolve().parent

ROUNDS_FOR_VERDICT = 4
"""With fewer rounds, two samples of the same commit are disjoint by chance more often than once in thirty runs."""

Samples = dict[tuple[str, str], tuple[dict[str, Any], list[float]]]


def export(ref: str, folder: Path) -> None:
    """Export the package at a commit, together with these benchmarks, into a folder."""
    archive = subprocess.run(
        ["git", "-C", str(HERE.parent), "archive", ref, "tinyvex"], check=True, stdout=subprocess.PIPE
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    shutil.copytree(HERE, folder / "bench", ignore=shutil.ignore_patterns("__pycache__"))


def run(folder: Path, names: list[str], *, real: bool, into: Samples) -> dict[str, str]:
    """Run one round against the package in `folder`; return the result hashes."""
    command = [sys.executable, "-m", "bench", *names, "--json", "--rounds", "1", *(["--real"] if real else [])]
    finished = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    benchmarks = json.loads(finished.stdout)["benchmarks"]
    for benchmark in benchmarks:
        for figure in benchmark["figures"]:
            into.setdefault((benchmark["name"], figure["name"]), (figure, []))[1].extend(figure["samples"])
    return {benchmark["name"]: benchmark["hash"] for benchmark in benchmarks}


def line(key: tuple[str, str], figure: dict[str, Any], before: list[float], after: list[float]) -> str:
    """Format one figure at both commits."""
    first, second = statistics.median(before), statistics.median(after)
    ratio = second / first if first else float("nan")
    is_disjoint = len(before) >= ROUNDS_FOR_VERDICT and (max(before) < min(after) or max(after) < min(before))
    verdict = ""
    if is_disjoint and figure["better"] != "neither":
        verdict = "better" if (ratio > 1) == (figure["better"] == "higher") else "WORSE"
    name = f"{key[0]}: {key[1]}"
    numbers = f"{format_number(first):>10} {format_number(second):>10} {figure['unit']:<12}"
    return f"{name:<64} {numbers} x {ratio:.2f} {verdict}".rstrip()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("before", help="a commit, such as main~1")
    parser.add_argument("after", help="a later commit, such as main")
    parser.add_argument("names", nargs="+", metavar="name", help="the benchmarks to run")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each commit (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="only exercise the code")
    options = parser.parse_args()
    samples: tuple[Samples, Samples] = ({}, {})
    with tempfile.TemporaryDirectory(prefix="tinyvex-compare-") as temporary:
        folders = [Path(temporary) / "before", Path(temporary) / "after"]
        for ref, folder in zip((options.before, options.after), folders, strict=True):
            export(ref, folder)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            order = (0, 1) if number % 2 == 0 else (1, 0)  # so that neither always runs on the warmer machine
            hashes = {
                side: run(folders[side], options.names, real=not options.smoke, into=samples[side]) for side in order
            }
            if hashes[0] != hashes[1]:
                print(f"the two commits did different work: {hashes[0]} and {hashes[1]}", file=sys.stderr)
    for key, (figure, before) in samples[0].items():
        if key in samples[1]:
            print(line(key, figure, before, samples[1][key][1]))


if __name__ == "__main__":
    main()
