"""Shared steps of the load benchmarks: channels, prepared messages, and the cost of a phase on both sides."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.harness import Bench
from bench.load.generator import Client, Deliveries, mutation
from bench.load.process import ServerProcess
from bench.workloads import WORDS, body

__all__ = ["add_latencies", "fill", "hash_tally", "observed", "open_channels", "percentile", "prepared_sends"]


async def open_channels(control: Client, count: int) -> list[str]:
    """Create channels; return their ids."""
    return [str(await control.mutate("chat:open_channel", name=f"channel-{number}")) for number in range(count)]


async def fill(control: Client, random: random.Random, channel: str, count: int, *, step: int = 500) -> list[str]:
    """Insert many messages into a channel; return the ids of some."""
    ids = []
    for start in range(0, count, step):
        bodies = [body(random) for _ in range(min(step, count - start))]
        ids.append(str(await control.mutate("chat:fill", channel=channel, author=WORDS[0], bodies=bodies)))
    return ids


def prepared_sends(random: random.Random, channels: Iterable[str], first: int) -> list[bytes]:
    """Prepare framed requests of the canonical mutation, one for each channel named, numbered from `first`."""
    return [
        mutation(number, "chat:send", channel=channel, author=random.choice(WORDS), body=body(random))
        for number, channel in enumerate(channels, first)
    ]


def add_latencies(bench: Bench, watcher: Deliveries, commits: Iterable[tuple[int, int]]) -> None:
    """
    Record the time until a watcher held each commit.

    Args:
        bench: receives the figures.
        watcher: a subscriber of a query that all the commits touched.
        commits: the time at which each mutation was sent, in microseconds, and the `ts` it received when it started.
    """
    from_send, from_ts = [], []
    for sent_us, ts in commits:
        arrived_us = watcher.arrival_us(ts)
        assert arrived_us is not None, f"the watcher received no transition to {ts}"
        from_send.append((arrived_us - sent_us) / 1000)
        from_ts.append((arrived_us - ts) / 1000)
    for part in (0.5, 0.99):
        bench.add(f"commit to subscriber p{part * 100:.0f}", "ms", percentile(from_ts, part))
    for part in (0.5, 0.99):
        bench.add(f"send to subscriber p{part * 100:.0f}", "ms", percentile(from_send, part))


async def hash_tally(bench: Bench, control: Client) -> None:
    """Add the resulting messages to the result hash; their order of arrival is not deterministic."""
    tally: dict[str, Any] = await control.query("chat:tally")
    bench.hash(f"{name}={tally[name]}".encode() for name in sorted(tally))


@contextmanager
def observed(bench: Bench, server: ServerProcess, label: str, operations: int, unit: str) -> Iterator[None]:
    """
    Record the cost of a phase of this many operations.

    Adds three figures: operations per second; the server's processor time for each, which is less sensitive to noise;
    and the load of the generator's process, which shows whether the first figure is the server's or the generator's.
    """
    server_before, own_before, started = server.cpu_seconds(), time.process_time(), time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    own = time.process_time() - own_before
    bench.add(label, f"{unit}/s", operations / seconds, "higher")
    spent = server.cpu_seconds() - server_before
    if spent:
        bench.add(f"{label}: server processor", f"µs/{unit}", spent / operations * 1e6, "lower")
    bench.add(f"{label}: generator busy", "%", own / seconds * 100, "neither")


def percentile(samples: Sequence[float], part: float) -> float:
    """Return the sample below which this fraction of them lies."""
    ordered = sorted(samples)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]
