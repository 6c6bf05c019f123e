"""
Promise 2: mutations are strictly serializable, and their order is the order of `ts`.

Several clients append to registers concurrently, in seeded worlds where connections are cut and the server is killed.
Every history is checked. In the order of `ts`, each mutation must have returned the state before it.
An operation that ended before another one started has the smaller `ts`; this includes one-shot queries.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.simulated_server import PORT, SimulatedServer
from tests.support.world import WorldRuntime
from tinyvex.client.client import Client
from tinyvex.client.pending_requests import CallKind
from tinyvex.errors import ConnectionLost
from tinyvex.server.server import ServerOptions

CLIENTS = 4
APPENDS = 25
SEEDS = 10
REGISTERS = 2

APP = """
import tinyvex as tv

@tv.table("registers", indexes={"by_name": ["name"]})
class Register(tv.Document):
    name: int
    entries: list[int]

def find(ctx: tv.QueryCtx, name: int) -> Register | None:
    return ctx.db.query(Register).with_index("by_name", name=name).first()

@tv.mutation
def append(ctx: tv.MutationCtx, name: int, other: int, entry: int) -> list[int]:
    register, seen = find(ctx, name), find(ctx, other)
    before = register.entries if register else []
    if register is None:
        ctx.db.insert(Register(name=name, entries=[entry]))
    else:
        ctx.db.patch(register.id, entries=[*before, entry])
    return [len(before), len(seen.entries) if seen else 0, ctx.now]

@tv.query
def lengths(ctx: tv.QueryCtx) -> list[int]:
    return [len(found.entries) if (found := find(ctx, name)) else 0 for name in range(2)] + [ctx.now]
"""


@dataclass(frozen=True)
class Operation:
    """A request and its answer, with their times."""

    asked_at: float
    answered_at: float
    ts: int
    returned: list[int]
    appended_to: int | None
    """None for a query."""
    other: int = 0


class History:
    """A world in which clients append and query, and record their results."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.network = Network(random.Random(self.random.getrandbits(64)))
        (folder / "registers.py").write_text(APP)
        self.options = ServerOptions(app=folder / "registers.py", data=folder / "data", port=PORT)
        self.operations: list[Operation] = []
        self.kills = 0
        self._left = CLIENTS
        self._processes: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Run until every client has appended everything."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._serve)
            for number in range(CLIENTS):
                tasks.start_soon(self._client, number, random.Random(self.random.getrandbits(64)))
            while self._left:
                await asyncio.sleep(self.random.random())
                if self.random.random() < 0.3:
                    self.network.cut_any()
            tasks.cancel_scope.cancel()
        await self.server.server.stop()

    async def _serve(self) -> None:
        while True:
            self.server = SimulatedServer(self.network, self.random, self.options, Counter())
            if self.kills < 3:
                point = self.random.choice(("writer:before-commit", "writer:after-commit"))
                self.server.runtime.crash_points[point] = self.random.randint(3, 15)
            # Not awaited: a process that dies leaves nothing to wait for.
            self._processes.append(asyncio.get_running_loop().create_task(self.server.run()))
            await self.server.died.wait()
            self.kills += 1
            await asyncio.sleep(self.random.random())

    async def _client(self, number: int, pick: random.Random) -> None:
        runtime = WorldRuntime(self.network, pick)
        runtime.bind(asyncio.get_running_loop())
        async with Client(f"ws://127.0.0.1:{PORT}", None, runtime) as client, anyio.create_task_group() as calls:
            for count in range(APPENDS):
                await asyncio.sleep(pick.random() * 0.05)
                calls.start_soon(self._append, client, pick.randrange(REGISTERS), number * 1_000 + count)
                if pick.random() < 0.5:
                    calls.start_soon(self._look, client)
        self._left -= 1

    async def _append(self, client: Client, name: int, entry: int) -> None:
        args = {"name": name, "other": 1 - name, "entry": entry}
        await self._ask(client, CallKind.MUTATION, "registers:append", args, name)

    async def _look(self, client: Client) -> None:
        await self._ask(client, CallKind.QUERY, "registers:lengths", {}, None)

    async def _ask(self, client: Client, kind: CallKind, path: str, args: dict[str, int], name: int | None) -> None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        call = client.mutation(path, args) if kind is CallKind.MUTATION else client.query(path, args)
        try:
            *returned, ts = await call  # the function's `ctx.now` is its commit's `ts`, or its snapshot's
        except ConnectionLost:
            assert kind is CallKind.QUERY, "a mutation is sent again"
            return
        self.operations.append(Operation(asked_at, loop.time(), ts, returned, name, 1 - (name or 0)))


def check(operations: list[Operation]) -> None:
    """Check that every result follows from the order of `ts`, and that real time agrees with that order."""
    lengths = [0] * REGISTERS
    for operation in sorted(operations, key=lambda one: (one.ts, one.appended_to is None)):
        if operation.appended_to is None:
            assert operation.returned == lengths
        else:
            assert operation.returned == [lengths[operation.appended_to], lengths[operation.other]]
            lengths[operation.appended_to] += 1
    for later in operations:
        earlier = [one.ts for one in operations if one.answered_at < later.asked_at]
        limit = max(earlier, default=0)
        assert later.ts > limit if later.appended_to is not None else later.ts >= limit


@pytest.mark.parametrize("seed", range(SEEDS))
def test_histories_are_strictly_serializable(seed: int, tmp_path: Path) -> None:
    """Histories across kills and cuts, with several concurrent calls of each client, are strictly serializable."""
    history = History(seed, tmp_path)
    run_virtual(history.run())
    assert history.kills > 0
    assert sum(one.appended_to is not None for one in history.operations) == CLIENTS * APPENDS
    check(history.operations)


@pytest.mark.parametrize(
    "wrong",
    [
        Operation(5, 6, 30, [0, 0], 0, 1),  # it does not see the one before it
        Operation(5, 6, 5, [0, 0], 0, 1),  # it goes before one that had returned when it was asked
        Operation(5, 6, 15, [0, 0], None),  # a query that has not heard of what had returned
    ],
)
def test_the_checker_rejects_bad_histories(wrong: Operation) -> None:
    """The checker rejects histories that are not serializable."""
    fine = [Operation(0, 1, 10, [0, 0], 0, 1), Operation(2, 3, 20, [1, 0], 0, 1), Operation(2, 4, 20, [2, 0], None)]
    check(fine)
    with pytest.raises(AssertionError):
        check([*fine, wrong])
