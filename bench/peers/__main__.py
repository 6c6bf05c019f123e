"""
`python -m bench.peers [peer ...] [--real]`: compare Tinyvex with other programs, in one run.

JSON lines on stdout, one for each measure and line; tables on stderr.
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
    """Return Tinyvex, the base of the comparison, and the named peers; all of them if none is named."""
    wanted = names or list(NAMES)
    return [importlib.import_module(f"bench.peers.{name}").PEER for name in NAMES if name in {"tinyvex", *wanted}]


def sync_microseconds(times: int = 500) -> float:
    """Measure the median of writing 4 KiB over old bytes, as a write-ahead log does, and syncing the disk."""
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
    Measure every line in every round, one line after another, so that other load on the machine affects all alike.

    Returns:
        Results by measure and by label.
    """
    results: dict[Measure, dict[str, Bench]] = {}
    for measure in measures:
        participants = [line for line in lines if measure in line.measures]
        results[measure] = {line.label: Bench(measure, real=real, rounds=rounds) for line in participants}
        for number in range(rounds):
            # Every other round runs backwards, so that no line always follows the same one.
            for line in participants if number % 2 == 0 else reversed(participants):
                print(f"{measure} {number + 1}/{rounds} {line.label}", file=sys.stderr, flush=True)
                MEASURES[measure](results[measure][line.label], line)
    return results


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="peer", help=f"one of {', '.join(NAMES)}; all if omitted")
    parser.add_argument("--real", action="store_true", help="use real sizes; without it, only exercise the code")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="rounds of a real run; medians are reported (%(default)s)"
    )
    parser.add_argument("--measure", action="append", choices=list(MEASURES), help="run only this measure; repeatable")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"`{unknown[0]}` is not a peer; the peers are {', '.join(NAMES)}")
    chosen = peers(options.names)
    versions = {peer.name: peer.version() if peer.installed() else "not installed" for peer in chosen}
    environment = machine() | {"microseconds of a sync": sync_microseconds()}
    print(json.dumps({"machine": environment, "peers": versions}), flush=True)
    lines = [line for peer in chosen if peer.installed() for line in peer.lines]
    measures = cast("list[Measure]", options.measure or list(MEASURES))
    results = run_peers(lines, measures, real=options.real, rounds=options.rounds if options.real else 1)
    for measure, benches in results.items():
        for line in lines:
            if line.label in benches:
                print(json.dumps(record(measure, line, benches), ensure_ascii=False), flush=True)
    print(f"\na sync of this disk takes {environment['microseconds of a sync']} µs", file=sys.stderr)
    print("\n".join(tables(chosen, versions, results)), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
