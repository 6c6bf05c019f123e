"""Find the live queries that a written key touches, among 100 to 100,000 that read one range or one point each."""

from __future__ import annotations

from itertools import cycle

from bench.harness import Bench
from tinyvex.sync.read_set_index import ReadSetIndex
from tinyvex.values.key_encoding import encode_part, prefix_end

INDEX = 7


def run(bench: Bench) -> None:
    sizes = bench.parameter("live queries", (10, 1_000), (100, 10_000, 100_000))
    for size in sizes:
        random = bench.random()
        prefixes = [encode_part(f"channel-{number}") for number in range(size)]
        reads = [{INDEX: [(prefix, prefix_end(prefix))]} for prefix in random.sample(prefixes, size)]
        ranges = registered(reads)
        points = registered([{INDEX: [(prefix, prefix + b"\0")]} for prefix in prefixes])
        nested = registered([*reads, {INDEX: [(b"", b"\xff")]}])
        keys = [random.choice(prefixes) + random.randbytes(16) for _ in range(256)]
        bench.hash(repr(sorted(ranges.touched(INDEX, key))).encode() for key in keys)
        for label, subscriptions, written in (
            ("a range", ranges, keys),
            ("a point", points, prefixes),
            ("a range, and one of all", nested, keys),
        ):
            following = cycle(written).__next__
            bench.time(
                f"{size:,} queries of {label} each: one key".replace("all each", "all"),
                lambda subscriptions=subscriptions, following=following: subscriptions.touched(INDEX, following()),
            )
        pair = {INDEX: [(prefixes[0] + b"\1", prefixes[0] + b"\2")]}

        def replace(ranges: ReadSetIndex[int] = ranges, pair: dict[int, list[tuple[bytes, bytes]]] = pair) -> None:
            ranges.add(-1, pair)
            ranges.remove(-1)

        bench.time(f"{size:,} queries: add and remove one", replace)
        bench.time(f"{size:,} queries: add them all", lambda reads=reads: registered(reads), operations=size)


def registered(reads: list[dict[int, list[tuple[bytes, bytes]]]]) -> ReadSetIndex[int]:
    """Register one live query for each read set."""
    subscriptions: ReadSetIndex[int] = ReadSetIndex()
    for owner, ranges in enumerate(reads):
        subscriptions.add(owner, ranges)
    return subscriptions
