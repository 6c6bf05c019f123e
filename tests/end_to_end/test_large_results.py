"""The memory of a server process whose clients ask for large results and do not read them."""

from pathlib import Path
from typing import Any

import anyio
import pytest

import tinyvex as tv
from tests.support.process import ServerProcess
from tests.support.raw import RawClient
from tinyvex.runtime import Runtime

MIB = 1 << 20
CLIENTS = 60
RESULT_BYTES = 4 * MIB
UNREAD_BYTES = 24 * MIB
UNDELIVERED_BYTES = 8 * MIB
AWAITED_BYTES = 24 * MIB
WORK_BYTES = 60 * MIB
"""Two results that are being computed, each as a text and as JSON, and what the allocator retains."""
TRANSITION, FATAL_ERROR = "tinyvex/transition", "tinyvex/fatalError"

APP = f"""
import time
import tinyvex as tv
from tinyvex import limits

limits.UNREAD_BYTES_MAX = {UNREAD_BYTES}
limits.UNDELIVERED_BYTES_MAX = {UNDELIVERED_BYTES}
limits.RESULT_CACHE_BYTES_MAX = {UNDELIVERED_BYTES}
limits.AWAITED_BYTES_MAX = {AWAITED_BYTES}
numbers = set()

@tv.query
def big(ctx: tv.QueryCtx, number: int) -> str:
    numbers.add(number)
    return f"{{number:08d}}" + "x" * {RESULT_BYTES - 8}

@tv.query
def slow(ctx: tv.QueryCtx, number: int) -> int:
    time.sleep(0.5)
    return number

@tv.query
def computed(ctx: tv.QueryCtx) -> int:
    return len(numbers)
"""


def peak_bytes(pid: int) -> int:
    """Return the largest resident memory that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    pytest.skip("the system does not report it")


def add(number: int, resume: dict[str, Any] | None) -> dict[str, Any]:
    query = {"type": "Add", "queryId": 0, "udfPath": "app:big", "args": {"number": number}, "resume": resume}
    return {"baseVersion": 0, "newVersion": 1, "modifications": [query]}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports the peak")
@pytest.mark.parametrize("kind", ["one-shot", "live", "resumed"])
async def test_clients_that_do_not_read_take_bounded_memory(tmp_path: Path, kind: str) -> None:
    """However many there are, and however they ask; a client that reads is served meanwhile."""
    (tmp_path / "app.py").write_text(APP, "utf-8")
    with ServerProcess(tmp_path / "app.py", tmp_path / "data", "--no-token") as server:
        runtime = Runtime()
        stalled = [await RawClient.open(server.url, runtime) for _ in range(CLIENTS)]
        async with tv.connect(server.url) as client:
            assert await client.query("app:computed") == 0
            before = peak_bytes(server.process.pid)
            for number, other in enumerate(stalled):
                await other.answer(other.connect(sessionId=f"stalled-{number}"))
                other.pause()
                if kind == "one-shot":
                    other.send("query", udfPath="app:big", args={"number": number})
                else:
                    offer = {"ts": 1, "hash": "x" * 22} if kind == "resumed" else None
                    other.send("modifyQuerySet", **add(number, offer))
            with anyio.fail_after(60):
                while await client.query("app:computed") < CLIENTS:
                    pass
        assert peak_bytes(server.process.pid) - before < UNREAD_BYTES + UNDELIVERED_BYTES + WORK_BYTES
        for other in stalled:
            other.cut()
            await other.end()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports the peak")
async def test_results_that_wait_for_slow_queries_take_bounded_memory(tmp_path: Path) -> None:
    """However many clients have a long result that waits for a slow query; some are closed, and the others are served."""
    (tmp_path / "app.py").write_text(APP, "utf-8")
    with ServerProcess(tmp_path / "app.py", tmp_path / "data", "--no-token") as server:
        runtime = Runtime()
        waiting = [await RawClient.open(server.url, runtime) for _ in range(CLIENTS)]
        for number, other in enumerate(waiting):
            await other.answer(other.connect(sessionId=f"waiting-{number}"))
        async with tv.connect(server.url) as client:
            assert await client.query("app:computed") == 0
            before = peak_bytes(server.process.pid)
            for number, other in enumerate(waiting):
                queries = [
                    {"type": "Add", "queryId": query_id, "udfPath": path, "args": {"number": number}}
                    for query_id, path in enumerate(("app:big", "app:slow"))
                ]
                other.send("modifyQuerySet", baseVersion=0, newVersion=1, modifications=queries)
            with anyio.fail_after(60):
                while await client.query("app:computed") < CLIENTS:
                    pass
        assert peak_bytes(server.process.pid) - before < AWAITED_BYTES + UNDELIVERED_BYTES + WORK_BYTES
        endings = []
        with anyio.fail_after(60):
            for other in waiting:
                ending = await other.message(lambda message: message.get("method") in {TRANSITION, FATAL_ERROR})
                endings.append(ending["params"].get("error", {}).get("data", {}).get("name", ending["method"]))
        assert set(endings) == {TRANSITION, "Overloaded"}
        for other in waiting:
            other.cut()
            await other.end()
