"""
Promise 1: at every sync, acknowledged mutations survive a power failure, and run once.

A server runs mutations while everything that SQLite writes and syncs is recorded.
Then the disk is restored to its state at each sync, with unsynced changes lost, or randomly lost, kept and torn.
A server started on it has every acknowledged mutation, and answers each resent one as before.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.disk import FULL, IOERR_FSYNC, IOERR_TRUNCATE, IOERR_WRITE, OK, READONLY, Disk, Step, recording
from tests.support.postings import SEED, audit, make, post, serve
from tests.support.raw import RawClient
from tinyvex.server.server import Server
from tinyvex.storage.engine import writer
from tinyvex.storage.maintenance.check import check_folder

POSTINGS = 40
UNDER_WAY = 3
FILES = "data.sqlite3", "data.sqlite3-wal", "last-commit"


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run checkpoints of every kind all the time."""
    monkeypatch.setattr(writer, "WAL_BYTES_CHECKPOINT", 20_000)
    monkeypatch.setattr(writer, "WAL_BYTES_TRUNCATE", 30_000)
    monkeypatch.setattr(writer, "WAL_BYTES_LULL", 60_000)
    monkeypatch.setattr(writer, "WAL_BYTES_MAX", 90_000)


def record(folder: Path) -> tuple[Disk, dict[int, Any]]:
    """Run postings, a few in flight at a time; return the disk's history, and the answers by posting."""
    answers: dict[int, Any] = {}

    async def work(server: Server, client: RawClient) -> None:
        async def one(number: int) -> None:
            answers[number] = (await client.answer(post(client, number)))["result"]
            disk.mark(str(number))

        for first in range(0, POSTINGS, UNDER_WAY):
            await asyncio.gather(*(one(number) for number in range(first, first + UNDER_WAY)))
            if first % 2:
                await asyncio.sleep(10)  # virtual: time for a checkpoint

    make(folder)
    with recording(folder) as disk:
        serve(folder, work)
    return disk, answers


@pytest.mark.slow
def test_acknowledged_mutations_survive_power_loss_at_every_sync(tmp_path: Path, often: None) -> None:
    """
    No acknowledged posting is lost, none is partial, and a resent one returns its first answer without running again.
    """
    disk, answers = record(tmp_path / "first")
    assert sum(step.kind == "truncate" for step in disk.steps) > 3, "logs were truncated after checkpoints"
    pick = random.Random(SEED)
    moments = [(at, chance) for at in [*disk.syncs, len(disk.steps)] for chance in (None, pick, pick)]
    print(f"{len(moments)} power failures, {len(disk.syncs)} syncs")
    for count, (at, chance) in enumerate(moments):
        folder = tmp_path / str(count)
        acknowledged = sorted(map(int, disk.marks(at)))
        restore(folder, disk.files(at, chance))

        async def come_back(server: Server, client: RawClient, acknowledged: list[int] = acknowledged) -> None:
            there = await audit(client)
            assert set(acknowledged) <= set(there), "an acknowledged posting is lost"
            assert set(there.values()) <= {2}, "a posting is half there"
            for number in acknowledged:
                assert (await client.answer(post(client, number)))["result"] == answers[number]
            assert await audit(client) == there

        try:
            serve(folder, come_back)
            assert check_folder(folder) == []
        except BaseException as error:
            error.add_note(f"seed {SEED}, before step {at} ({disk.steps[at : at + 1]}), chance {chance is not None}")
            raise


def restore(folder: Path, files: dict[str, bytes]) -> None:
    """Write a disk's state into a folder."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


FAULTS = {"full": FULL, "write": IOERR_WRITE, "sync": IOERR_FSYNC, "truncate": IOERR_TRUNCATE, "read-only": READONLY}
KINDS = {"full": "write", "write": "write", "sync": "sync", "truncate": "truncate", "read-only": "write"}


class Killed(NamedTuple):
    """The files that a process leaves that is killed after an answer, the postings in them, and the one answered last."""

    files: dict[str, bytes]
    acknowledged: frozenset[int]
    number: int
    answer: dict[str, Any]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_at_any_step_loses_nothing_and_ends_with_it(tmp_path: Path, often: None, fault: str) -> None:
    """
    Each mutation is answered or refused for good, also if the process is killed then; a resent one runs once.

    Reads continue; when the disk works again, so does the server.
    """
    pick = random.Random(f"{SEED} {fault}")
    kinds: Counter[str] = Counter()
    kills: list[Killed] = []
    folder = tmp_path / "data"

    async def work(server: Server, client: RawClient) -> None:
        acknowledged: set[int] = set()
        for number in range(POSTINGS):
            broken = number % 4 == 1
            left = pick.randint(0, 3)

            def fails(step: Step, left: list[int] = [left], broken: bool = broken) -> int:  # noqa: B006
                if not broken or step.kind != KINDS[fault]:
                    return OK
                left[0] -= 1
                return FAULTS[fault] if left[0] < 0 else OK

            disk.fails = fails
            answer = await client.answer(post(client, number))
            if "result" in answer:
                acknowledged.add(number)
            else:
                kinds[answer["error"]["data"]["name"]] += 1
                assert broken, answer
            if broken:
                files = {name: (folder / name).read_bytes() for name in FILES}
                kills.append(Killed(files, frozenset(acknowledged), number, answer))
            if is_unknown(answer):
                assert await client.end() == 1008
                client = await reconnect(server)
            there = await audit(client)
            assert acknowledged <= set(there), "an acknowledged posting is lost"
            assert set(there.values()) <= {2}, "a posting is half there"
            await asyncio.sleep(10)  # virtual: time for a checkpoint, which may fail too
        disk.fails = lambda step: OK

    make(folder)
    with recording(folder) as disk:
        serve(folder, work)
    assert check_folder(folder) == []
    assert fault == "truncate" or kinds, "some mutations were refused"
    print(kinds)
    for count, killed in enumerate(kills):
        restore(tmp_path / str(count), killed.files)
        serve(tmp_path / str(count), partial(come_back_after_kill, killed))


def is_unknown(answer: dict[str, Any]) -> bool:
    """Return whether a mutation was answered with `OutcomeUnknown`."""
    return "error" in answer and answer["error"]["data"]["name"] == "OutcomeUnknown"


async def reconnect(server: Server) -> RawClient:
    """Open another socket of the same session."""
    client = await RawClient.open(server.url, server.runtime)
    assert "result" in await client.answer(client.connect())
    return client


async def come_back_after_kill(killed: Killed, server: Server, client: RawClient) -> None:
    """Compare what exists with what was answered, and send the last mutation again."""
    there = set(await audit(client))
    if is_unknown(killed.answer):
        assert there - {killed.number} == killed.acknowledged
    else:
        assert there == killed.acknowledged, "a refused posting exists, or an acknowledged one is lost"
    again = (await client.answer(post(client, killed.number)))["result"]
    if "result" in killed.answer:
        assert again == killed.answer["result"]
    assert set(await audit(client)) == killed.acknowledged | {killed.number}
