"""
Read the log: a document, 50 documents of an index range, and a whole table, at the newest and at an older timestamp.

Every document has several revisions, which must not make reads of the newest state slower.
"""

from __future__ import annotations

import asyncio

from bench.harness import Bench
from bench.micro.storage import INDEX, TABLE, insert, opened, revise, rows
from bench.workloads import document
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.values.key_encoding import encode_part, prefix_end


def run(bench: Bench) -> None:
    documents = bench.parameter("documents", 200, 20_000)
    revisions = bench.parameter("revisions of each", 2, 10)
    asyncio.run(_run(bench, documents, revisions))


async def _run(bench: Bench, documents: int, revisions: int) -> None:
    random = bench.random()
    values = [document(random) for _ in range(documents)]
    async with opened() as store:
        ids: list[bytes] = []
        for first in range(0, documents, 500):
            ids += await store.write(insert(random, values[first : first + 500]))
        for revision in range(1, revisions):
            for first in range(0, documents, 500):
                changed = [value | {"likes": revision} for value in values[first : first + 500]]
                await store.write(revise(random, ids[first : first + 500], changed))
            if revision == revisions // 2:
                middle = store.last_ts
        channels = [encode_part(f"channel-{number}") for number in range(100)]
        bench.hash(await store.read(lambda snapshot: [b"%d" % len(rows(snapshot))]))
        for label, at in (("newest", None), ("older", middle)):

            def measure(snapshot: Snapshot, label: str = label) -> None:
                table = snapshot.catalog.table(TABLE)
                index = table.indexes[INDEX]
                ends = [(prefix, prefix_end(prefix)) for prefix in channels]
                bench.time(f"{label}: one document", lambda: snapshot.get(table.tablet, random.choice(ids)))
                bench.time(f"{label}: 50 of a range", lambda: snapshot.page(index, *random.choice(ends), limit=50))
                bench.time(f"{label}: all, each", lambda: rows(snapshot), operations=documents)

            await store.read(measure, at=at)
