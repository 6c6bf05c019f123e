"""`python -m bench [name ...] [--real] [--json | --lines]`: run benchmarks and print their figures."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import os
import platform
import sqlite3
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tinyvex
from bench.harness import Bench

HERE = Path(__file__).resolve().parent
ROUNDS = 5


def benchmarks() -> dict[str, str]:
    """
    Return the modules by name: every file of `micro/` and `load/` that has a `run(bench)`; micro benchmarks first.
    """
    files = [*sorted((HERE / "micro").glob("*.py")), *sorted((HERE / "load").glob("*.py"))]
    return {
        file.stem: f"bench.{file.parent.name}.{file.stem}"
        for file in files
        if "\ndef run(bench: Bench) -> None:" in file.read_text(encoding="utf-8")
    }


def run_benchmark(name: str, *, real: bool, rounds: int = ROUNDS) -> Bench:
    """
    Run one benchmark.

    Args:
        name: a name from `benchmarks`.
        real: use the real size instead of the smoke size.
        rounds: rounds of a real run; a smoke run has one.
    """
    bench = Bench(name, real=real, rounds=rounds if real else 1)
    importlib.import_module(benchmarks()[name]).run(bench)
    return bench


def machine() -> dict[str, object]:
    """Describe the machine and the software that the figures depend on."""
    return {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {package: _version(package) for package in ("msgspec", "websockets", "uvloop")},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "tinyvex": tinyvex.__version__,
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    root = Path(tinyvex.__file__).resolve().parents[1]
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # not a checkout: `compare` runs exported trees


def main() -> None:
    """Run the command."""
    known = benchmarks()
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(known)}; all if omitted")
    parser.add_argument("--real", action="store_true", help="use real sizes; without it, only exercise the code")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="rounds of a real run; medians are reported (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, as in results/")
    parser.add_argument(
        "--lines", action="store_true", help="print a line with a JSON object as soon as each benchmark ends"
    )
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"`{unknown[0]}` is not a benchmark; the benchmarks are {', '.join(known)}")
    records = []
    for name in options.names or known:
        bench = run_benchmark(name, real=options.real, rounds=options.rounds)
        records.append(bench.record())
        print("\n".join(bench.lines()), file=sys.stderr if options.json or options.lines else sys.stdout, flush=True)
        if options.lines:
            print(json.dumps(records[-1], ensure_ascii=False), flush=True)
    if options.json:
        json.dump({"machine": machine(), "benchmarks": records}, sys.stdout, indent=1, ensure_ascii=False)
        print()


if __name__ == "__main__":
    main()
