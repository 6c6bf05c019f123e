"""Results of many megabytes, from a real server process to real clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tinyvex as tv
from tests.support.process import ServerProcess
from tests.support.raw import RawClient
from tinyvex import limits
from tinyvex.runtime import Runtime

APP = """
import sys
import tinyvex as tv

@tv.table("blobs")
class Blob(tv.Document):
    text: str

@tv.query
def blobs(ctx: tv.QueryCtx) -> tv.Rows[Blob]:
    return ctx.db.query(Blob).collect()

@tv.query
def made(ctx: tv.QueryCtx, size: int) -> str:
    return "é" * (size // 2)

@tv.query
def switch_seconds(ctx: tv.QueryCtx) -> float:
    return sys.getswitchinterval()

@tv.mutation
def fill(ctx: tv.MutationCtx, count: int, size: int) -> None:
    for _ in range(count):
        ctx.db.insert(Blob(text="é" * (size // 2)))
"""

PATIENCE_SECONDS = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Run a server process with the app."""
    (tmp_path / "blobs.py").write_text(APP)
    with ServerProcess(tmp_path / "blobs.py", tmp_path / "data") as process:
        yield process


async def raw(server: ServerProcess, *capabilities: str) -> RawClient:
    """Connect a client that sends what the test specifies."""
    client = await RawClient.open(server.url.removesuffix("/sync"), Runtime())
    answer = await client.answer(client.connect(token=server.ready["token"], capabilities=list(capabilities)))
    assert "result" in answer
    return client


def add(path: str, **args: Any) -> dict[str, Any]:
    """Subscribe to one query."""
    modifications = [{"type": "Add", "queryId": 0, "udfPath": path, "args": args}]
    return {"baseVersion": 0, "newVersion": 1, "modifications": modifications}


async def test_a_result_of_50_megabytes_arrives(server: ServerProcess) -> None:
    """The result arrives in chunks; the following update is a patch."""
    async with asyncio.timeout(PATIENCE_SECONDS), tv.connect(server.url, server.ready["token"]) as client:
        for _ in range(4):
            await client.mutation("blobs:fill", {"count": 13, "size": 1_000_000})
        async with client.subscribe("blobs:blobs") as blobs:
            result = await anext(blobs)
            assert sum(len(blob["text"].encode()) for blob in result) == 52_000_000
            assert client.counters.chunks_received >= 52_000_000 // limits.CHUNK_BYTES
            await client.mutation("blobs:fill", {"count": 1, "size": 2})
            assert len(await anext(blobs)) == 53
            assert client.counters.patches_applied == 1


async def test_answers_arrive_between_the_chunks_of_a_transition(server: ServerProcess) -> None:
    """S-80: a ping sent after the first chunk is answered before the last one."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        client = await raw(server, "chunk")
        client.send("modifyQuerySet", **add("blobs:made", size=30_000_000))
        first = await client.notification("transitionChunk")
        await client.ask("ping")
        parts = [m["params"] for m in client.messages if m.get("method") == "tinyvex/transitionChunk"]
        assert len(parts) < first["params"]["partsTotal"]
        client.cut()


async def test_threads_that_compute_take_short_turns(server: ServerProcess) -> None:
    """A thread that waits for the interpreter lock gets it soon, however long another one computes."""
    async with asyncio.timeout(PATIENCE_SECONDS), tv.connect(server.url, server.ready["token"]) as client:
        assert await client.query("blobs:switch_seconds") == pytest.approx(limits.SWITCH_SECONDS)


async def test_a_client_without_the_capability_gets_it_in_one_message(server: ServerProcess) -> None:
    """S-79: a client without the capability receives one message."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        client = await raw(server)
        client.send("modifyQuerySet", **add("blobs:made", size=3_000_000))
        transition = await client.notification("transition")
        [change] = transition["params"]["modifications"]
        assert len(change["value"]) == 1_500_000
        assert not [m for m in client.messages if m.get("method") == "tinyvex/transitionChunk"]
        client.cut()
