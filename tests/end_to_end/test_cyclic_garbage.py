"""The memory of a server whose functions leave cycles behind, while many live queries stand."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from tests.support.fuzz import resident_bytes
from tests.support.http import request
from tests.support.process import ServerProcess
from tests.support.raw import RawClient
from tests.support.storage import bound_runtime

APP = Path(__file__).parents[1] / "support" / "cyclic.py"
LIVE_QUERIES = 4_000  # nearly QUERIES_PER_CONNECTION_MAX
MUTATIONS = 4_000
GARBAGE_BYTES = MUTATIONS * 100_000
GROWTH_BYTES_MAX = GARBAGE_BYTES // 8
WINDOW = 100


async def test_cyclic_garbage_of_functions_is_freed(tmp_path: Path) -> None:
    """400 MB of it leave a fraction in memory; and the metrics count the collections."""
    numbers = itertools.count(1).__next__
    with ServerProcess(APP, tmp_path, "--no-token") as server:
        client = await RawClient.open(server.url, bound_runtime())
        await client.answer(client.connect())
        adds = [
            {"type": "Add", "queryId": number, "udfPath": "cyclic:written", "args": {"author": f"author {number}"}}
            for number in range(LIVE_QUERIES)
        ]
        await client.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=adds)
        await client.notification("transition")

        async def mutate(count: int) -> None:
            for _ in range(0, count, WINDOW):
                call: dict[str, Any] = {"udfPath": "cyclic:write_in_circles", "args": {"author": "Ann"}}
                sent = [client.send("mutation", requestId=numbers(), **call) for _ in range(WINDOW)]
                await client.answer(sent[-1])
                client.messages.clear()

        await mutate(MUTATIONS // 4)
        before = resident_bytes(server.process.pid)
        await mutate(MUTATIONS)
        assert resident_bytes(server.process.pid) - before < GROWTH_BYTES_MAX
        metrics = request(server.ready["port"], "/metrics")[2]
        assert 'tinyvex_collection_seconds_bucket{le="+Inf"} 0' not in metrics
        client.cut()
        await client.end()
