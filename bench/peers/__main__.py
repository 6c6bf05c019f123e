"""
`python -m bench.peers [peer ...] [--real]`: Tinyvex beside other programs, in one run.

JSON lines on stdout, one for each measure and line; tables for people on stderr.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from typing import cast

from bench.__main__ import machine
from bench.harness import Bench
from bench.peers.measures import MEASURES
from bench.peers.peer import Line, Measure, Peer
from bench.peers.report import record, tables

__all__ = ["peers", "run_peers"]

NAMES = ("tinyvex", "pocketbase", "sqlite", "triplit", "redis", "nats")
ROUNDS = 5


def peers(names: list[str]) -> list[Peer]:
    """Tinyvex, which all others are compared with, and those named; all of them if none is."""
    wanted = names or list(NAMES)
    return [importlib.import_module(f"bench.peers.{name}").PEER for name in NAMES if name in {"tinyvex", *wanted}]


def sync_microseconds(times: int = 500) -> float:
    """The median of writing 4 KiB over old bytes, as a write-ahead log does, and waiting for the disk."""
    samples = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for number in range(times + 1):
            started = time.perf_counter()
            file.seek(0)
            file.write(bytes([number % 256]) * 4096)
            os.fsync(file.fileno())
            samples.append((time.perf_counter() - started) * 1e6)
    return round(statistics.median(samples[1:]), 1)


def run_peers(
    lines: list[Line], measures: list[Measure], *, real: bool, rounds: int
) -> dict[Measure, dict[str, Bench]]:
    """
    Take every figure of every line in every round, one line after another, so that a slow minute hits all alike.

    Returns:
        By measure and by label.
    """
    results: dict[Measure, dict[str, Bench]] = {}
    for measure in measures:
        takes_part = [line for line in lines if measure in line.measures]
        results[measure] = {line.label: Bench(measure, real=real, rounds=rounds) for line in takes_part}
        for number in range(rounds):
            # Every other round runs backwards, so that nobody always comes after the same one.
            for line in takes_part if number % 2 == 0 else reversed(takes_part):
                print(f"{measure} {number + 1}/{rounds} {line.label}", file=sys.stderr, flush=True)
                MEASURES[measure](results[measure][line.label], line)
    return results


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="peer", help=f"of: {', '.join(NAMES)}; all if none is given")
    parser.add_argument("--real", action="store_true", help="real sizes; without it, only see that everything works")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of a real run; medians are reported (%(default)s)")
    parser.add_argument("--measure", action="append", choices=list(MEASURES), help="only this one; repeatable")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"no peer is called {unknown[0]}; there are: {', '.join(NAMES)}")
    chosen = peers(options.names)
    versions = {peer.name: peer.version() if peer.installed() else "not installed" for peer in chosen}
    where = machine() | {"microseconds of a sync": sync_microseconds()}
    print(json.dumps({"machine": where, "peers": versions}), flush=True)
    lines = [line for peer in chosen if peer.installed() for line in peer.lines]
    measures = cast("list[Measure]", options.measure or list(MEASURES))
    results = run_peers(lines, measures, real=options.real, rounds=options.rounds if options.real else 1)
    for measure, benches in results.items():
        for line in lines:
            if line.label in benches:
                print(json.dumps(record(measure, line, benches), ensure_ascii=False), flush=True)
    print(f"\na sync of this disk takes {where['microseconds of a sync']} µs", file=sys.stderr)
    print("\n".join(tables(chosen, versions, results)), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
