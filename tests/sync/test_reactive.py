"""The cost of an update: rows read, rows decoded, comparisons, messages and bytes; on a real server, frame by frame."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import jsonpatch
import pytest

from tests.support.raw import RawClient
from tinyvex import limits
from tinyvex.runtime import Runtime
from tinyvex.server.server import Server, ServerOptions

PATIENCE_SECONDS = 60.0

APP = """
import tinyvex as tv

@tv.table("items", indexes={"by_list": ["list", "rank"]})
class Item(tv.Document):
    list: str
    rank: int
    text: str = ""

@tv.query
def rows(ctx: tv.QueryCtx, list: str = "a") -> tv.Rows[Item]:
    return ctx.db.query(Item).with_index("by_list", list=list).collect()

@tv.query
def last(ctx: tv.QueryCtx, count: int, list: str = "a") -> tv.Rows[Item]:
    return ctx.db.query(Item).with_index("by_list", list=list).order("desc").take(count)

@tv.query
def counted(ctx: tv.QueryCtx, list: str = "a") -> dict[str, object]:
    found = ctx.db.query(Item).with_index("by_list", list=list).collect()
    return {"items": found, "info": {"total": len(found)}}

@tv.query
def texts(ctx: tv.QueryCtx, list: str = "a") -> object:
    found = [item.text for item in ctx.db.query(Item).with_index("by_list", list=list)]
    return found or None

@tv.mutation
def fill(ctx: tv.MutationCtx, list: str, count: int) -> None:
    for rank in range(count):
        ctx.db.insert(Item(list=list, rank=rank, text=f"the text of item number {rank}"))

@tv.mutation
def add(ctx: tv.MutationCtx, list: str, rank: int, text: str = "new") -> tv.Id[Item]:
    return ctx.db.insert(Item(list=list, rank=rank, text=text))

@tv.mutation
def retext(ctx: tv.MutationCtx, list: str, rank: int, text: str) -> None:
    ctx.db.patch(ctx.db.query(Item).with_index("by_list", list=list, rank=rank).first().id, text=text)

@tv.mutation
def move(ctx: tv.MutationCtx, list: str, rank: int, to: int, to_list: str = "a") -> None:
    ctx.db.patch(ctx.db.query(Item).with_index("by_list", list=list, rank=rank).first().id, rank=to, list=to_list)

@tv.mutation
def delete(ctx: tv.MutationCtx, list: str, rank: int) -> None:
    ctx.db.delete(ctx.db.query(Item).with_index("by_list", list=list, rank=rank).first().id)

@tv.mutation
def retext_many(ctx: tv.MutationCtx, list: str, below: int) -> None:
    for item in ctx.db.query(Item).with_index("by_list", list=list).lt("rank", below).collect():
        ctx.db.patch(item.id, text="changed")
"""


class Viewer:
    """A client that applies what it is sent, with a published JSON Patch library."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self.results: dict[int, Any] = {}
        self.hashes: dict[int, str] = {}
        self.kinds: list[str] = []
        """The kind of each change: value, patch or unchanged."""
        self.ts = 0
        self._query_set = 0
        self._requests = 0
        self._applied = 0

    async def subscribe(self, path: str, *, query_id: int = 0, resume: Any = None, **args: Any) -> Any:
        """Subscribe to one more query and return its first result."""
        add = {"type": "Add", "queryId": query_id, "udfPath": f"app:{path}", "args": args, "resume": resume}
        base, self._query_set = self._query_set, self._query_set + 1
        if resume is not None:
            self.hashes[query_id] = resume["hash"]
        await self.raw.ask("modifyQuerySet", baseVersion=base, newVersion=self._query_set, modifications=[add])
        await self.reached("querySet", self._query_set)
        return self.results.get(query_id)

    async def mutate(self, path: str, **args: Any) -> int:
        """Run a mutation, wait for its transition, and return its `ts`."""
        self._requests += 1
        answer = await self.raw.ask("mutation", requestId=self._requests, udfPath=f"app:{path}", args=args)
        assert "result" in answer, answer
        await self.reached("ts", answer["result"]["ts"])
        return int(answer["result"]["ts"])

    async def ask(self, path: str, **args: Any) -> Any:
        """Run a query once."""
        answer = await self.raw.ask("query", udfPath=f"app:{path}", args=args)
        return answer["result"]["value"]

    async def reached(self, part: str, number: int) -> None:
        await self.raw.until(lambda: self.raw.ended or (self._take_in() and self._version[part] >= number))
        assert not self.raw.ended

    def _take_in(self) -> bool:
        """Apply the transitions received."""
        for message in self.raw.messages[self._applied :]:
            self._applied += 1
            if message.get("method") == "tinyvex/transition":
                self._version = message["params"]["endVersion"]
                self.ts = self._version["ts"]
                for change in message["params"]["modifications"]:
                    self._change(change)
        return hasattr(self, "_version")

    def _change(self, change: dict[str, Any]) -> None:
        query_id = change["queryId"]
        if change["type"] == "QueryUnchanged":
            self.kinds.append("unchanged")
            assert change["hash"] == self.hashes[query_id]
            return
        assert change["type"] == "QueryUpdated", change
        if "patch" in change:
            self.kinds.append("patch")
            self.results[query_id] = jsonpatch.apply_patch(self.results[query_id], change["patch"])
        else:
            self.kinds.append("value")
            self.results[query_id] = change["value"]
        self.hashes[query_id] = change["hash"]

    @property
    def patches(self) -> list[Any]:
        """Return all patches so far."""
        return [
            change["patch"]
            for message in self.raw.messages
            if message.get("method") == "tinyvex/transition"
            for change in message["params"]["modifications"]
            if "patch" in change
        ]


class World:
    """A server in this loop, and its clients."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.server: Server
        self._viewers = 0

    async def start(self) -> None:
        options = ServerOptions(app=self.folder / "app.py", data=self.folder / "data")
        self.server = await Server(options).__aenter__()

    async def stop(self) -> None:
        await self.server.__aexit__(None, None, None)

    @property
    def counters(self) -> Any:
        return self.server.counters

    async def viewer(self, *, patches: bool = True) -> Viewer:
        raw = await RawClient.open(self.server.url, Runtime())
        self._stack.push_async_callback(raw.end)
        self._stack.callback(raw.cut)
        self._viewers += 1
        capabilities = ["patch"] if patches else []
        await raw.answer(raw.connect(sessionId=f"session-{self._viewers}", capabilities=capabilities))
        return Viewer(raw)

    def costs(self) -> Costs:
        return Costs(self.counters)


class Costs:
    """The growth of counters."""

    def __init__(self, counters: Any) -> None:
        self._counters = counters
        self._before = {name: getattr(counters, name) for name in counters.__slots__}

    def __getattr__(self, name: str) -> int:
        return int(getattr(self._counters, name) - self._before[name])


@asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server on which every wait has a deadline."""
    (tmp_path / "app.py").write_text(APP)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with AsyncExitStack() as stack:
            made = World(tmp_path, stack)
            await made.start()
            try:
                yield made
            finally:
                await stack.aclose()
                await made.stop()


# One row of many.


async def test_one_changed_row_of_many_is_one_row_of_work(tmp_path: Path) -> None:
    """No row is read again, one is applied, and two are decoded: the old and the new one."""
    async with world(tmp_path) as here:
        viewer = await here.viewer()
        await viewer.mutate("fill", list="a", count=3_000)
        await viewer.subscribe("rows")
        costs = here.costs()
        await viewer.mutate("retext", list="a", rank=1_234, text="changed")
        assert (costs.recomputations, costs.rows_read, costs.rows_applied) == (1, 0, 1)
        assert costs.rows_decoded <= 2
        assert viewer.results[0] == await viewer.ask("rows")
        assert viewer.kinds == ["value", "patch"]


async def test_one_changed_row_of_a_thousand_is_a_few_bytes(tmp_path: Path) -> None:
    """The transition, with everything around the patch, has at most 400 bytes."""
    async with world(tmp_path) as here:
        writer, viewer = await here.viewer(), await here.viewer()
        await writer.mutate("fill", list="a", count=1_000)
        await viewer.subscribe("rows")
        before = len(viewer.raw.messages)
        ts = await writer.mutate("retext", list="a", rank=500, text="changed")
        await viewer.reached("ts", ts)
        [transition] = viewer.raw.messages[before:]
        assert len(json.dumps(transition, separators=(",", ":"))) <= 400


@pytest.mark.parametrize(
    ("mutation", "args", "operations"),
    [
        ("add", {"rank": -1}, ["add"]),
        ("add", {"rank": 5_000}, ["add"]),
        ("delete", {"rank": 500}, ["remove"]),
        ("move", {"rank": 999, "to": -1}, ["move", "replace"]),
        ("move", {"rank": 500, "to": 0, "to_list": "b"}, ["remove"]),
        ("retext", {"rank": 500, "text": "changed"}, ["replace"]),
    ],
    ids=["head", "tail", "deleted", "reordered", "left", "changed"],
)
async def test_a_change_is_sent_as_the_fewest_operations(
    tmp_path: Path, mutation: str, args: dict[str, Any], operations: list[str]
) -> None:
    """For every kind of change of one row out of a thousand."""
    async with world(tmp_path) as here:
        viewer = await here.viewer()
        await viewer.mutate("fill", list="a", count=1_000)
        await viewer.subscribe("rows")
        await viewer.mutate(mutation, list="a", **args)
        assert viewer.results[0] == await viewer.ask("rows")
        [patch] = viewer.patches
        assert [operation["op"] for operation in patch] == operations


async def test_a_hundred_rows_of_a_thousand_are_shorter_than_the_full_value(tmp_path: Path) -> None:
    """They arrive in one correct patch."""
    async with world(tmp_path) as here:
        viewer = await here.viewer()
        await viewer.mutate("fill", list="a", count=1_000)
        whole = len(json.dumps(await viewer.subscribe("rows")))
        await viewer.mutate("retext_many", list="a", below=100)
        assert viewer.results[0] == await viewer.ask("rows")
        assert len(json.dumps(viewer.patches[0])) < whole / 4


async def test_rows_inside_an_object_are_compared_as_rows(tmp_path: Path) -> None:
    """A new row and a new total are two operations, and no row is read."""
    async with world(tmp_path) as here:
        viewer = await here.viewer()
        await viewer.mutate("fill", list="a", count=500)
        await viewer.subscribe("counted")
        costs = here.costs()
        await viewer.mutate("add", list="a", rank=1_000)
        assert viewer.results[0] == await viewer.ask("counted")
        assert sorted(operation["path"] for operation in viewer.patches[0]) == ["/info/total", "/items/500"]
        assert (costs.rows_read, costs.rows_applied) == (0, 1)


async def test_a_result_that_becomes_null_is_sent_as_such(tmp_path: Path) -> None:
    """From a list to null and back, in a function that inspects its rows."""
    async with world(tmp_path) as here:
        viewer = await here.viewer()
        await viewer.mutate("add", list="a", rank=0, text="x" * 1_000)
        await viewer.subscribe("texts")
        await viewer.mutate("delete", list="a", rank=0)
        assert viewer.results[0] is None
        await viewer.mutate("add", list="a", rank=0, text="again")
        assert viewer.results[0] == ["again"]


async def test_a_take_refills_after_a_deletion(tmp_path: Path) -> None:
    """After a deletion among the newest ten rows, one row is read to replace it."""
    async with world(tmp_path) as here:
        viewer = await here.viewer()
        await viewer.mutate("fill", list="a", count=300)
        await viewer.subscribe("last", count=10)
        costs = here.costs()
        await viewer.mutate("delete", list="a", rank=295)
        assert viewer.results[0] == await viewer.ask("last", count=10)
        assert [row["rank"] for row in viewer.results[0]] == [299, 298, 297, 296, 294, 293, 292, 291, 290, 289]
        assert (costs.rows_read, costs.rows_applied) == (1, 1)


async def test_a_client_without_the_capability_is_sent_values(tmp_path: Path) -> None:
    """Next to a client with the capability; both are right."""
    async with world(tmp_path) as here:
        new, old = await here.viewer(), await here.viewer(patches=False)
        await new.mutate("fill", list="a", count=100)
        for viewer in (new, old):
            await viewer.subscribe("rows")
        ts = await new.mutate("retext", list="a", rank=50, text="changed")
        await old.reached("ts", ts)
        assert (new.kinds, old.kinds) == (["value", "patch"], ["value", "value"])
        assert new.results[0] == old.results[0]


# Many clients.


async def test_many_subscribers_share_one_comparison(tmp_path: Path) -> None:
    """The patch is computed once and sent fifty times."""
    async with world(tmp_path) as here:
        viewers = [await here.viewer() for _ in range(50)]
        await viewers[0].mutate("fill", list="a", count=200)
        for viewer in viewers:
            await viewer.subscribe("rows")
        costs = here.costs()
        ts = await viewers[0].mutate("retext", list="a", rank=100, text="changed")
        for viewer in viewers:
            await viewer.reached("ts", ts)
        assert (costs.recomputations, costs.diffs, costs.patches_sent) == (1, 1, 50)


async def test_a_commit_elsewhere_computes_nothing(tmp_path: Path) -> None:
    """Five hundred live queries on other lists cost a commit nothing."""
    async with world(tmp_path) as here:
        viewer, writer = await here.viewer(), await here.viewer()
        for number in range(500):
            await viewer.subscribe("rows", query_id=number, list=f"list {number}")
        costs = here.costs()
        await writer.mutate("add", list="another", rank=0)
        assert costs.recomputations == 0


# Resume.


async def test_an_unchanged_result_is_not_sent_again(tmp_path: Path) -> None:
    """A reconnecting client is sent a few bytes, however large the result is."""
    async with world(tmp_path) as here:
        first = await here.viewer()
        await first.mutate("fill", list="a", count=2_000)
        await first.subscribe("rows")
        second = await here.viewer()
        before = here.costs()
        await second.subscribe("rows", resume={"ts": first.ts, "hash": first.hashes[0]})
        assert second.kinds == ["unchanged"]
        assert before.bytes_sent < 1_000


@pytest.mark.parametrize("restarted", [False, True], ids=["same server", "restarted"])
async def test_a_resumed_result_arrives_as_a_patch(tmp_path: Path, restarted: bool) -> None:
    """Changed, deleted, added and moved rows are reconstructed from the log, once for all clients."""
    async with world(tmp_path) as here:
        first = await here.viewer()
        await first.mutate("fill", list="a", count=1_000)
        offered = await first.subscribe("rows")
        token, ts = first.hashes[0], first.ts
        first.raw.cut()
        writer = await here.viewer()
        await writer.mutate("retext", list="a", rank=10, text="changed")
        await writer.mutate("delete", list="a", rank=20)
        await writer.mutate("add", list="a", rank=2_000)
        await writer.mutate("move", list="a", rank=30, to=0, to_list="b")
        if restarted:
            writer.raw.cut()
            await here.stop()
            await here.start()
        costs = here.costs()
        for _ in range(3):
            back = await here.viewer()
            back.results[0] = offered
            await back.subscribe("rows", resume={"ts": ts, "hash": token})
            assert back.kinds == ["patch"]
            assert back.results[0] == await back.ask("rows")
            assert len(json.dumps(back.patches[0])) < 1_000
        assert costs.results_reconstructed <= 3


@pytest.mark.parametrize(
    "wrong", [{"hash": "nonsense"}, {"ts": 0}, {"ts": 1}, {"ts": 2**52}], ids=["hash", "zero", "early", "future"]
)
async def test_a_result_that_cannot_be_reconstructed_is_sent_as_full_value(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    """After a wrong hash, or a `ts` that is not in the log."""
    async with world(tmp_path) as here:
        first = await here.viewer()
        await first.mutate("fill", list="a", count=100)
        await first.subscribe("rows")
        resume = {"ts": first.ts, "hash": first.hashes[0]} | wrong
        await first.mutate("retext", list="a", rank=10, text="changed")
        first.raw.cut()
        await first.raw.end()
        back = await here.viewer()
        await back.subscribe("rows", resume=resume)
        assert back.kinds == ["value"]
        assert back.results[0] == await back.ask("rows")


# Memory.


async def test_memory_is_bounded_and_evicted_results_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little room, older queries are evicted, and every client still receives the right result."""
    monkeypatch.setattr(limits, "RESULT_CACHE_BYTES_MAX", 300_000)
    async with world(tmp_path) as here:
        viewer = await here.viewer()
        for name in "abcdefgh":
            await viewer.mutate("fill", list=name, count=200)
        for number, name in enumerate("abcdefgh"):
            await viewer.subscribe("rows", query_id=number, list=name)
            assert here.counters.cached_bytes <= 400_000
        assert here.counters.results_evicted > 0
        late = await here.viewer()
        for number, name in enumerate("abcdefgh"):
            await viewer.mutate("retext", list=name, rank=5, text="changed")
            assert viewer.results[number] == await late.subscribe("rows", query_id=number, list=name)


async def test_no_memory_is_used_without_subscribers(tmp_path: Path) -> None:
    """The last unsubscribe frees the memory."""
    async with world(tmp_path) as here:
        viewer, other = await here.viewer(), await here.viewer()
        await viewer.mutate("fill", list="a", count=200)
        await viewer.subscribe("rows")
        assert here.counters.cached_bytes > 0
        viewer.raw.cut()
        await viewer.raw.end()
        while here.counters.live_queries:
            await other.ask("last", count=1)
        assert here.counters.cached_bytes == 0
