"""Patches of a real server, applied with published libraries, give the result of a fresh query at the same version."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

import tinyvex as tv
from tests.support.raw import RawClient
from tests.support.required import required_program
from tinyvex.runtime import Runtime
from tinyvex.server.server import Server, ServerOptions

NODE_FOLDER = Path(__file__).resolve().parents[1] / "node"
SEED = 20_261_121
CHANGES = 60
QUERIES = ["ranked", "newest", "overview", "grouped", "sizes"]

APP = """
from typing import Any

import tinyvex as tv

@tv.table("players", indexes={"by_score": ["score"], "by_team": ["team", "score"]})
class Player(tv.Document):
    name: str
    team: str
    score: int
    tags: list[str]
    profile: dict[str, Any] | None = None

@tv.query
def ranked(ctx: tv.QueryCtx) -> tv.Rows[Player]:
    return ctx.db.query(Player).with_index("by_score").order("desc").collect()

@tv.query
def newest(ctx: tv.QueryCtx) -> tv.Rows[Player]:
    return ctx.db.query(Player).order("desc").take(10)

@tv.query
def overview(ctx: tv.QueryCtx) -> dict[str, object]:
    red = ctx.db.query(Player).with_index("by_team", team="red").collect()
    return {"red/team": red, "best~": ctx.db.query(Player).with_index("by_score").order("desc").first(),
            "count": ctx.db.query(Player).count(), "none": None if len(red) % 3 else [len(red)]}

@tv.query
def grouped(ctx: tv.QueryCtx) -> list[dict[str, object]]:
    teams: dict[str, list[Player]] = {}
    for player in ctx.db.query(Player):
        teams.setdefault(player.team, []).append(player)
    return [{"team": team, "total": sum(p.score for p in players), "names": [p.name for p in players]}
            for team, players in sorted(teams.items())]

@tv.query
def sizes(ctx: tv.QueryCtx) -> list[int] | None:
    found = [player.score for player in ctx.db.query(Player)]
    return None if len(found) % 5 == 0 else found

@tv.mutation
def change(ctx: tv.MutationCtx, kinds: list[str], seed: int) -> None:
    import random
    draw = random.Random(seed)
    for kind in kinds:
        players = list(ctx.db.query(Player))
        if kind == "add" or not players:
            ctx.db.insert(Player(name=draw.choice("äbc~/") * 3, team=draw.choice(["red", "blue", "a/b"]),
                                 score=draw.randrange(50), tags=draw.sample(["x", "y", "z"], 2)))
            continue
        player = draw.choice(players)
        if kind == "remove":
            ctx.db.delete(player.id)
        elif kind == "score":
            ctx.db.patch(player.id, score=draw.randrange(50))
        elif kind == "tags":
            ctx.db.patch(player.id, tags=draw.sample(["x", "y", "z"], draw.randrange(4)))
        else:
            ctx.db.patch(player.id, profile=draw.choice([None, {"a": [1, {"b": draw.random()}], "~k/": "é"}]))
"""


@dataclass
class History:
    """The life of one query: its first result, each patch, and the result of a fresh query after each."""

    document: Any = None
    patches: list[Any] = field(default_factory=list)
    fresh: list[Any] = field(default_factory=list)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Server]:
    """Run a server in this process."""
    (folder / "game.py").write_text(APP)
    async with Server(ServerOptions(app=folder / "game.py", data=folder / "data", client_token="secret")) as server:
        yield server


async def record(folder: Path) -> list[History]:
    """Play random changes; a history ends, and another begins, when the server sends a full value."""
    draw = random.Random(SEED)
    runtime = Runtime()
    histories: list[History] = []
    current: dict[int, History] = {}
    async with serving(folder) as server:
        client = await RawClient.open(server.url, runtime)
        await client.answer(client.connect(token="secret", capabilities=["patch"]))
        adds = [
            {"type": "Add", "queryId": number, "udfPath": f"game:{name}", "args": {}}
            for number, name in enumerate(QUERIES)
        ]
        await client.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=adds)
        for step in range(CHANGES):
            kinds = draw.choices(
                ["add", "remove", "score", "tags", "profile"], [5, 1, 3, 2, 2], k=draw.choice([1, 1, 4])
            )
            result = await client.ask(
                "mutation", requestId=step, udfPath="game:change", args={"kinds": kinds, "seed": step}
            )
            ts = result["result"]["ts"]
            transition = await client.message(lambda m, ts=ts: reaches(m, ts))
            for change in modifications_up_to(client, transition):
                history = current.get(change["queryId"])
                if "patch" in change:
                    assert history is not None
                    history.patches.append(change["patch"])
                else:
                    history = current[change["queryId"]] = History(change["value"])
                    histories.append(history)
            at = transition["params"]["endVersion"]["ts"]
            for number, history in current.items():
                answer = await client.ask("query", udfPath=f"game:{QUERIES[number]}", args={}, ts=at)
                history.fresh[len(history.patches) :] = []
                history.fresh += [answer["result"]["value"]] * (len(history.patches) + 1 - len(history.fresh))
        client.cut()
    return histories


def reaches(message: dict[str, Any], ts: int) -> bool:
    """Return whether it is a transition at or past `ts`."""
    return message.get("method") == "tinyvex/transition" and message["params"]["endVersion"]["ts"] >= ts


def modifications_up_to(client: RawClient, transition: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the modifications since the last call, in order."""
    modifications = []
    while client.messages:
        message = client.messages.pop(0)
        modifications += message.get("params", {}).get("modifications", [])
        if message is transition:
            break
    return modifications


def patched_in_python(history: History) -> list[Any]:
    """Return the states after each patch, by the `jsonpatch` package."""
    states, state = [], history.document
    for patch in history.patches:
        state = jsonpatch.apply_patch(state, patch)
        states.append(state)
    return states


async def test_patches_applied_with_libraries_equal_fresh_queries(tmp_path: Path) -> None:
    """Rows, rows in objects, groupings and lists, through every kind of change; in Python, and in Node if installed."""
    histories = await record(tmp_path)
    operations = Counter(operation["op"] for h in histories for patch in h.patches for operation in patch)
    assert operations.keys() == {"add", "remove", "replace", "move"}, SEED
    assert sum(len(h.patches) for h in histories) > 2 * CHANGES, SEED
    expected = [canonical(h.fresh[1:]) for h in histories]
    assert [canonical(patched_in_python(h)) for h in histories] == expected, SEED
    assert [canonical(states) for states in patched_in_node(histories)] == expected, SEED


def patched_in_node(histories: list[History]) -> list[list[Any]]:
    """Return the states after each patch, by `fast-json-patch`."""
    node = required_program("node")
    if not (NODE_FOLDER / "node_modules" / "fast-json-patch").is_dir():
        if os.environ.get("TINYVEX_TEST_ALL"):
            pytest.fail("tests/node is not installed, and make test-all needs it")
        pytest.skip("tests/node is not installed; make test does it where npm is")
    given = json.dumps([{"document": h.document, "patches": h.patches} for h in histories])
    ran = subprocess.run(
        [node, NODE_FOLDER / "apply.mjs"], input=given, capture_output=True, text=True, check=True, timeout=60
    )
    states: list[list[Any]] = json.loads(ran.stdout)
    return states


def canonical(states: list[Any]) -> list[str]:
    """Serialise so that `true` is not 1, with integral numbers written as Node does."""
    return [json.dumps(state, sort_keys=True, ensure_ascii=False) for state in states]


async def test_the_python_client_agrees_with_fresh_queries(tmp_path: Path) -> None:
    """The client agrees in verifying mode, through the same changes."""
    draw = random.Random(SEED)
    async with serving(tmp_path) as server, tv.connect(server.url, "secret", verify=True) as client:
        subscriptions = [client.subscribe(f"game:{name}") for name in QUERIES]
        for step in range(CHANGES):
            kinds = draw.choices(["add", "remove", "score", "tags", "profile"], [5, 1, 3, 2, 2], k=2)
            await client.mutation("game:change", {"kinds": kinds, "seed": step})
        for subscription, name in zip(subscriptions, QUERIES, strict=True):
            assert await anext(subscription) == await client.query(f"game:{name}"), name
        assert client.counters.checks_passed > CHANGES
        assert client.counters.checks_failed == client.counters.patches_failed == 0


async def test_patches_need_the_capability(tmp_path: Path) -> None:
    """S-35: without the capability every update is a full value."""
    async with serving(tmp_path) as server:
        client = await RawClient.open(server.url, Runtime())
        await client.answer(client.connect(token="secret"))
        add = {"type": "Add", "queryId": 0, "udfPath": "game:ranked", "args": {}}
        await client.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])
        for step in range(3):
            args = {"kinds": ["add"] * 3, "seed": step}
            result = await client.ask("mutation", requestId=step, udfPath="game:change", args=args)
            await client.message(lambda m, ts=result["result"]["ts"]: reaches(m, ts))
        updates = [u for m in client.messages for u in m.get("params", {}).get("modifications", [])]
        assert len(updates) >= 4
        assert all("value" in update for update in updates)
        client.cut()
