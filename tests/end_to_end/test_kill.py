"""An acknowledged mutation survives SIGKILL and runs once, and no mutation is ever partial."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import anyio
import pytest

import tinyvex as tv
from tests.support.process import ServerProcess, free_port
from tinyvex.storage.maintenance.check import check_folder

KILLS = 50
WRITERS = 8
SEED = 20_260_101

APP = Path(__file__).resolve().parents[1] / "support" / "ledger.py"


class Writers:
    """Concurrent posts through one client that outlives servers."""

    def __init__(self, client: tv.Client) -> None:
        self.client = client
        self.next_number = 0
        self.acknowledged: dict[int, int] = {}
        self.progress = anyio.Event()
        self.wanted = 0

    async def write(self) -> None:
        """Post until cancelled."""
        while True:
            number = self.next_number
            self.next_number += 1
            self.acknowledged[number] = await self.client.mutation("ledger:post", {"number": number}, type=int)
            if len(self.acknowledged) >= self.wanted:
                self.progress.set()

    async def more(self, count: int) -> None:
        """Wait for this many further acknowledgements."""
        self.wanted = len(self.acknowledged) + count
        self.progress = anyio.Event()
        with anyio.fail_after(60):
            await self.progress.wait()


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_doubled_or_halved_over_many_kills(tmp_path: Path) -> None:
    """After each of 50 SIGKILLs under load the file is sound; at the end every posting is present exactly once."""
    pick = random.Random(SEED)
    server = ServerProcess(APP, tmp_path, "--no-token", "--port", str(free_port()))
    await asyncio.to_thread(server.start)
    try:
        async with tv.connect(server.url) as client, anyio.create_task_group() as tasks:
            writers = Writers(client)
            for _ in range(WRITERS):
                tasks.start_soon(writers.write)
            for _ in range(KILLS):
                await writers.more(pick.randint(1, 60))
                await asyncio.to_thread(server.kill)
                assert await asyncio.to_thread(check_folder, tmp_path) == []
                await asyncio.to_thread(server.start)
            await writers.more(WRITERS * 2)
            tasks.cancel_scope.cancel()
        async with tv.connect(server.url) as client:
            audit = await client.query("ledger:audit")
    finally:
        await asyncio.to_thread(server.kill)
    halves = [tuple(half) for half in audit["halves"]]
    halves_by_number = Counter(number for number, _ in halves)
    assert len(set(halves)) == len(halves), f"a posting happened twice, seed {SEED}"
    assert set(halves_by_number.values()) == {2}, f"a posting is half there, seed {SEED}"
    assert set(writers.acknowledged) <= set(halves_by_number), f"an acknowledged posting is lost, seed {SEED}"
    assert audit["count"] == len(halves_by_number)
    assert len(set(writers.acknowledged.values())) == len(writers.acknowledged), "each has its own count"
