"""
Bytes on the wire for one update of a result of 1,000 rows, for seven kinds of change.

The figure is the whole transition that one client receives, including the envelope.
The size of the full value is given for comparison.
"""

from __future__ import annotations

import json
from typing import Any

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.generator import Client, Deliveries
from bench.load.process import ServerProcess
from bench.workloads import WORDS, body


def run(bench: Bench) -> None:
    rows = bench.parameter("rows", 100, 1_000)
    for _ in range(bench.rounds):
        with ServerProcess() as server:
            generator.run(_round(bench, server, rows))


async def _round(bench: Bench, server: ServerProcess, rows: int) -> None:
    random = bench.random()
    control: Client = await Client.dial(server.port, "bench-control")
    (channel,) = await chatting.open_channels(control, 1)
    await chatting.fill(control, random, channel, rows * 2)
    watcher: Deliveries = await Deliveries.dial(server.port, "bench-watcher")
    await watcher.subscribe("chat:recent", channel=channel, limit=rows)
    await watcher.held(1)
    bench.add("the full value", "bytes", len(watcher.latest))

    async def measure(label: str, path: str, **args: Any) -> None:
        await watcher.held(await control.commit(path, **args))
        bench.add(label, "bytes", len(watcher.latest))

    ids = [row["_id"] for row in json.loads(watcher.latest)["params"]["modifications"][0]["value"]]
    some = random.sample(ids, rows // 10)
    middle = ids[rows // 2 : rows // 2 + 1]
    await measure("a short field of one row changed", "chat:edit", messages=middle, body="seen")
    await measure("a text of one row changed", "chat:edit", messages=middle, body=body(random))
    await measure("one row added at the head, one dropped off the end", "chat:send",
                  channel=channel, author=WORDS[0], body=body(random))  # fmt: skip
    await measure("one row deleted, one more at the end", "chat:remove", messages=ids[:1])
    await measure("a tenth of the rows changed", "chat:edit", messages=some, body=body(random))
    await measure("a tenth of the rows deleted", "chat:remove", messages=some)
    await measure("all rows changed", "chat:edit", messages=[i for i in ids[1:] if i not in some], body=body(random))
    await chatting.hash_tally(bench, control)
    for client in (control, watcher):
        client.close()
