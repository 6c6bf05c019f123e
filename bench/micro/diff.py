"""
Compute the patch between two results: of uninspected rows, and of a list that a function built itself.

Rows have the form that a live query holds: chunks shared by both versions, with their digests computed.
"""

from __future__ import annotations

from functools import partial
from random import Random

from bench.harness import Bench
from bench.workloads import document
from tinyvex.functions.result.chunked_rows import ChunkedRows
from tinyvex.functions.result.result_body import Body, RowsPart
from tinyvex.storage.log.revisions import StoredDocument
from tinyvex.sync.diff import diff
from tinyvex.values import codec


def run(bench: Bench) -> None:
    sizes = bench.parameter("rows", [100], [100, 1_000, 10_000])
    for count in sizes:
        for label, new, old in versions(bench.random(), count):
            measure(bench, f"{count:,} rows, {label}", as_rows(old), as_rows(new))
    count = bench.parameter("list", 100, 1_000)
    for label, new, old in versions(bench.random(), count):
        measure(bench, f"list of {count:,}, {label}", as_text(old), as_text(new))


def measure(bench: Bench, label: str, old: Body, new: Body) -> None:
    assert old.token != new.token
    bench.hash([diff(old, new).patch or b"value"])
    bench.time(label, partial(diff, old, new))


def versions(random: Random, count: int) -> list[tuple[str, ChunkedRows, ChunkedRows]]:
    """Return a label, the rows after a change, and the rows before it, for each kind of change."""
    rows = [row(random, index) for index in range(1, count + 1)]
    old = ChunkedRows.of(rows)
    head = row(random, 0)
    return [
        ("1 changed", changed(old, rows[count // 2 : count // 2 + 1]), old),
        ("1 at the head", old.changed({head.key: head}), old),
        ("100 changed", changed(old, random.sample(rows, 100)), old),
        ("all others", ChunkedRows.of([row(random, index) for index in range(1, count + 1)]), old),
    ]


def row(random: Random, place: int) -> StoredDocument:
    internal = random.randbytes(16)
    value = {"_creationTime": 1_767_225_600_000 + place, "_id": internal.hex(), **document(random)}
    return StoredDocument(place.to_bytes(8, "big"), internal, 1, codec.encode(value))


def changed(old: ChunkedRows, rows: list[StoredDocument]) -> ChunkedRows:
    """Change one field of each of these rows."""
    new = [
        StoredDocument(row.key, row.internal, row.ts, row.json.replace(b'"reply":null', b'"reply":1')) for row in rows
    ]
    return old.changed({row.key: row for row in new})


def as_rows(rows: ChunkedRows) -> Body:
    return Body([RowsPart(rows, 1, reverse=False)])


def as_text(rows: ChunkedRows) -> Body:
    return Body([as_rows(rows).json()])
