"""
Thousands of connections to one real server: the cost of each, and that the server serves all of them.

Small by default. `LOAD_CONNECTIONS=5500 LOAD_SECONDS=120` is the long run: ten of eleven connections are idle, the
others
active; `LOAD_STORM=2000` reconnect together after the server was killed. `pytest -s` shows the figures.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.load.generator import Client
from tests.support.fuzz import resident_bytes
from tests.support.process import ServerProcess, free_port
from tinyvex import limits

if sys.platform == "win32":
    pytest.skip("needs limits of open files", allow_module_level=True)

import resource

CONNECTIONS = int(os.environ.get("LOAD_CONNECTIONS", "330"))
SECONDS = int(os.environ.get("LOAD_SECONDS", "5"))
STORM = int(os.environ.get("LOAD_STORM", str(min(2_000, CONNECTIONS))))

IDLE = CONNECTIONS * 10 // 11
ACTIVE = CONNECTIONS - IDLE
ROOMS = 100
HEARTBEATS = max(1, int(SECONDS / limits.HEARTBEAT_SECONDS))
DIALLING = 100
"""Connections opened concurrently, if opening is not what is tested."""

CONNECTION_BYTES_MAX = 64 << 10
GROWTH_BYTES_MAX = 48 << 20
STORM_SECONDS_MAX = 30.0
PATIENCE_SECONDS = SECONDS + 100.0

APP = """
import tinyvex as tv

@tv.table("lines", indexes={"by_room": ["room"]})
class Line(tv.Document):
    room: int
    text: str

@tv.query
def recent(ctx: tv.QueryCtx, room: int) -> tv.Rows[Line]:
    return ctx.db.query(Line).with_index("by_room", room=room).order("desc").take(10)

@tv.mutation
def add(ctx: tv.MutationCtx, room: int, text: str) -> None:
    ctx.db.insert(Line(room=room, text=text))
"""


class Member(Client):
    """
    A watcher of a room.

    Attributes:
        pings: number of WebSocket pings received.
        gap_seconds: the longest time without one.
        moved: number of transitions received.
        lost: the reason for the lost connection.
    """

    def __init__(self, port: int, number: int) -> None:
        super().__init__(port, f"a-member-with-number-{number}")
        self.number = number
        self.pings = self.moved = 0
        self.gap_seconds = 0.0
        self.lost: BaseException | None = None
        self._pinged_at = time.monotonic()
        self._wanted: Callable[[], bool] | None = None
        self._reached: asyncio.Future[None] | None = None

    async def watch(self) -> None:
        """Subscribe, and wait for the first result."""
        add = {"type": "Add", "queryId": 0, "udfPath": "app:recent", "args": {"room": self.number % ROOMS}}
        await self.call("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])
        await self.until(lambda: self.moved > 0)

    async def until(self, wanted: Callable[[], bool]) -> None:
        """Wait until received messages make the condition true."""
        if not wanted():
            self._wanted, self._reached = wanted, asyncio.get_running_loop().create_future()
            await self._reached

    def _frame(self, head: int, payload: bytes) -> None:
        if head == 0x89:
            now = time.monotonic()
            self.gap_seconds = max(self.gap_seconds, now - self._pinged_at)
            self._pinged_at = now
            self.pings += 1
        super()._frame(head, payload)

    def transition(self, payload: bytes) -> None:
        self.moved += 1

    def received(self) -> None:
        if self._wanted is not None and self._wanted() and self._reached is not None and not self._reached.done():
            self._wanted = None
            self._reached.set_result(None)

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        self.lost = error
        if self._reached is not None and not self._reached.done():
            self._reached.set_exception(error)


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """Raise the limit of open files, here and in the server that is started."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max(CONNECTIONS, STORM) + 256
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"{needed} open files are needed, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(APP, "utf-8")
    return path


async def arrive(port: int, numbers: range) -> list[Member]:
    """Connect members that watch, some of them concurrently."""
    members: list[Member] = []
    for start in numbers[::DIALLING]:
        batch = range(start, min(start + DIALLING, numbers.stop))
        members += await asyncio.gather(*(Member.dial(port, number) for number in batch))
        await asyncio.gather(*(member.watch() for member in members[-len(batch) :]))
    return members


async def write_until(done: asyncio.Event, member: Member) -> int:
    """Add lines one after another, each until its transition arrives; return their number."""
    for count in itertools.count():
        if done.is_set():
            return count
        moved = member.moved
        args = {"room": member.number % ROOMS, "text": f"line {count}"}
        await member.call("mutation", requestId=count, udfPath="app:add", args=args)
        await member.until(lambda moved=moved: member.moved > moved)  # type: ignore[misc]
    raise AssertionError


async def test_idle_connections_cost_little_and_stay_open(app: Path, tmp_path: Path) -> None:
    """While others write, each idle connection gets its pings in time; none is closed, and memory does not grow."""
    with ServerProcess(app, tmp_path / "data", "--no-token") as server:
        pid, port = server.process.pid, server.ready["port"]
        async with asyncio.timeout(PATIENCE_SECONDS):
            warm = await arrive(port, range(CONNECTIONS, CONNECTIONS + ROOMS))  # every room's query is there
            empty = resident_bytes(pid)
            idle = await arrive(port, range(IDLE))
            each = (resident_bytes(pid) - empty) / IDLE
            active = await arrive(port, range(IDLE, CONNECTIONS))
            done = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                writers = [group.create_task(write_until(done, member)) for member in active]
                await all_of(idle, lambda member: member.pings >= HEARTBEATS // 2)
                half = resident_bytes(pid)
                await all_of(idle, lambda member: member.pings >= HEARTBEATS)
                grown = resident_bytes(pid) - half
                done.set()
        gap = max(member.gap_seconds for member in idle)
        moved = sum(member.moved for member in (*warm, *idle, *active))
        print(
            f"{IDLE} idle, {ACTIVE} active: {each / 1024:.1f} KiB per idle connection, {grown >> 10} KiB grown, "
            f"{sum(writer.result() for writer in writers)} mutations, {moved} transitions, longest gap {gap:.1f} s"
        )
        assert [member.lost for member in (*idle, *active) if member.lost] == []
        assert each < CONNECTION_BYTES_MAX
        assert grown < GROWTH_BYTES_MAX
        assert gap < 3 * limits.HEARTBEAT_SECONDS
        leave(*warm, *idle, *active)


async def all_of(members: list[Member], wanted: Callable[[Member], bool]) -> None:
    """Wait until it holds for each."""
    for member in members:
        await member.until(lambda member=member: wanted(member))  # type: ignore[misc]


def leave(*members: Member) -> None:
    """Close all."""
    for member in members:
        member.close()


async def test_a_storm_of_reconnects_settles(app: Path, tmp_path: Path) -> None:
    """When all clients of a killed server reconnect to its successor together, all watch again within seconds."""
    server = ServerProcess(app, tmp_path / "data", "--no-token", "--port", str(free_port()))
    with server:
        port = server.ready["port"]
        async with asyncio.timeout(PATIENCE_SECONDS):
            members = await arrive(port, range(STORM))
            server.kill()
            server.start()
            start = time.monotonic()
            again = await asyncio.gather(*(come_back(port, member.number) for member in members))
            seconds = time.monotonic() - start
        print(f"{STORM} connections watch again after {seconds:.1f} s")
        assert [member.lost for member in again if member.lost] == []
        assert seconds < STORM_SECONDS_MAX
        leave(*again)


async def come_back(port: int, number: int) -> Member:
    """Connect and watch."""
    member: Member = await Member.dial(port, number)
    await member.watch()
    return member
