"""A server under attack answers as documented, serves well-behaved clients, and retains nothing of the attackers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import accounts
from tests.support.fuzz import MESSAGES, SEED, resident_bytes
from tests.support.hostile import UPGRADE, Attacker, Wire, frame
from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.process import ServerProcess
from tests.support.raw import RawClient
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.runtime import Runtime
from tinyvex.server.server import Server, ServerOptions
from tinyvex.storage.maintenance.check import check_folder

APP = Path(accounts.__file__)
ATTACKERS = 8
DEADLINE_SECONDS = 200.0
GROWTH_BYTES_MAX = 64 << 20
"""Allowed growth of resident memory between the first tenth of the messages and the last, for caches."""


class Citizen:
    """A well-behaved client that relies on its answers."""

    def __init__(self, raw: RawClient) -> None:
        self._raw = raw
        self._round = 0

    @classmethod
    async def arrive(cls, url: str, runtime: Runtime) -> Citizen:
        """Connect and watch a query."""
        raw = await RawClient.open(url, runtime)
        assert "result" in await raw.answer(raw.connect(sessionId="a-citizen-of-a-test"))
        for owner in ("ada", "bob"):
            await raw.ask(
                "mutation", requestId=len(owner) + ord(owner[0]), udfPath="accounts:open", args={"owner": owner}
            )
        add = {"type": "Add", "queryId": 0, "udfPath": "accounts:balance", "args": {"owner": "bob"}}
        await raw.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])
        return cls(raw)

    async def live(self) -> None:
        """
        Check that a ping, a query, an action and a mutation are answered, and that the mutation's transition arrives.
        """
        raw = self._raw
        self._round += 1
        assert "result" in await raw.ask("ping")
        answer = await raw.ask("query", udfPath="accounts:echo", args={"value": [self._round]})
        assert answer["result"]["value"] == [self._round]
        assert "result" in await raw.ask("action", requestId=self._round, udfPath="accounts:audit", args={})
        args = {"source": "ada", "target": "bob", "amount": 1}
        answer = await raw.ask("mutation", requestId=1_000 + self._round, udfPath="accounts:transfer", args=args)
        ts = answer["result"]["ts"]
        await raw.message(lambda message: message.get("params", {}).get("endVersion", {}).get("ts", 0) >= ts)
        raw.messages.clear()


async def besiege(attacker: Attacker, citizen: Citizen, resident: Callable[[], int]) -> None:
    """Run rounds of concurrent attacks; serve the citizen after each, and check that memory does not grow."""
    before = 0
    while attacker.sent < MESSAGES:
        if not before and attacker.sent > MESSAGES // 10:
            before = resident()
        async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
            for _ in range(ATTACKERS):
                group.create_task(attacker.attack())
            group.create_task(citizen.live())
    print(attacker.sent, attacker.attacks, f"{(resident() - before) >> 10} KiB more")
    assert resident() - before < GROWTH_BYTES_MAX


def descriptors(pid: int | str) -> Counter[str]:
    """Return a process's open files and sockets by target: `socket`, `pipe`, or a path."""
    counts: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir() if sys.platform == "linux" else ():
        with contextlib.suppress(FileNotFoundError):  # closed just now, as the one that lists them
            counts[str(entry.readlink()).partition(":")[0]] += 1
    return counts


def test_a_server_on_a_virtual_clock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """
    After the attacks there are one connection, and as many tasks, sessions, live queries and descriptors as before.
    """
    print(f"FUZZ_SEED={SEED}")
    caplog.set_level(logging.ERROR)

    def held(server: Server, runtime: WorldRuntime) -> dict[str, Any]:
        others = str(tmp_path.parent)  # a test before this one may have left a thread, which closes its files at last
        files = {name: n for name, n in descriptors("self").items() if tmp_path.name in name or others not in name}
        return {
            "tasks": len(asyncio.all_tasks()),
            "background tasks": len(server.tasks),
            "connections": (
                server.counters.connections,
                len(server.sessions.connections),
                len(runtime.network.transports),
            ),
            "sessions": len(server.sessions.by_id),
            "live queries": server.counters.live_queries,
            "descriptors": files,
        }

    async def main() -> None:
        runtime = WorldRuntime(Network(random.Random(SEED)), random.Random(SEED))
        async with Server(ServerOptions(app=APP, data=tmp_path / "data", port=4800), runtime) as server:
            citizen = await Citizen.arrive(server.url, runtime)
            await citizen.live()
            before = held(server, runtime)
            assert before["sessions"] == 1
            attacker = Attacker(runtime, server.port, SEED, patience_seconds=150.0)
            await besiege(attacker, citizen, resident_bytes)
            await asyncio.sleep(10)
            await citizen.live()
            assert held(server, runtime) == before
            print(server.counters.messages_received, "messages received")

    run_virtual(main())
    assert [record.getMessage() for record in caplog.records if record.name == "tinyvex.server"] == []
    assert [record.getMessage() for record in caplog.records if record.name == "tinyvex.websockets"] == []
    assert check_folder(tmp_path / "data") == []


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(("request_and_more", "status"), [(HEALTH * 2, 200), (UPGRADE % 4800 + frame(b"{}"), 101)])
def test_answers_are_in_order_of_pipelined_input(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, request_and_more: bytes, status: int
) -> None:
    """The answer to a first request precedes the answers to bytes sent right behind it."""

    async def main() -> None:
        runtime = WorldRuntime(Network(random.Random(SEED)), random.Random(SEED))
        async with Server(ServerOptions(app=APP, data=tmp_path / "data", port=4800), runtime):
            _, wire = await runtime.dial(Wire, "127.0.0.1", 4800)
            assert isinstance(wire, Wire)
            wire.write(request_and_more)
            await wire.until(lambda: bool(wire.messages), 60)
            assert wire.status == status

    run_virtual(main())
    assert [record.getMessage() for record in caplog.records if "defect" in record.getMessage()] == []


def action_loops(before: Counter[str], now: Counter[str]) -> Counter[str]:
    """Return the descriptors of the loops that actions started: each has a selector and a pair of sockets."""
    loops = min(max(now["anon_inode"] - before["anon_inode"], 0), limits.ACTION_THREADS)
    return Counter({"anon_inode": loops, "socket": 2 * loops})


async def test_a_server_on_real_sockets(tmp_path: Path) -> None:
    """
    After the attacks the process has one connection and as many descriptors as before, and logged no internal error.
    """
    print(f"FUZZ_SEED={SEED}")
    with ServerProcess(APP, tmp_path / "data", "--no-token") as process:
        pid, runtime = process.process.pid, Runtime()
        runtime.bind(asyncio.get_running_loop())
        citizen = await Citizen.arrive(process.url, runtime)
        await citizen.live()
        # SQLite keeps the descriptor of a connection that was closed for the next one: at most as many as scraped at once.
        before = descriptors(pid) + Counter({str(tmp_path / "data" / "data.sqlite3"): ATTACKERS})
        attacker = Attacker(runtime, process.ready["port"], SEED, patience_seconds=20.0)
        await besiege(attacker, citizen, lambda: resident_bytes(pid))
        for _ in range(1_000):
            await citizen.live()
            if descriptors(pid) <= before + action_loops(before, descriptors(pid)):
                break
        assert descriptors(pid) <= before + action_loops(before, descriptors(pid))
        assert process.terminate() == 0
    output = b"".join(process.errors)
    for complaint in (b"defect", b"parser failed", b"Fatal error", b"never retrieved", b"was destroyed"):
        assert complaint not in output, output[-3000:]
    assert check_folder(tmp_path / "data") == []
