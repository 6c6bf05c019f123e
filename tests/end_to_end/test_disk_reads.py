"""
Disks that cannot be read: each request is answered correctly or refused with a storage error, and recovery is
immediate.

Faults occur at every access of SQLite to its files: opening, reading, asking for the size, mapping the shared memory.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.disk import (
    CANTOPEN,
    IOERR_FSTAT,
    IOERR_READ,
    IOERR_SHMMAP,
    IOERR_SHORT_READ,
    OK,
    Access,
    recording,
)
from tests.support.postings import SEED, audit, audited, make, post, serve
from tests.support.raw import RawClient
from tinyvex import errors
from tinyvex.server.server import Server
from tinyvex.storage.engine import writer
from tinyvex.storage.file import pragmas
from tinyvex.storage.maintenance.check import check_folder

POSTINGS = 60
FAULTS = {
    "read": ("read", IOERR_READ),
    "short": ("read", IOERR_SHORT_READ),
    "size": ("size", IOERR_FSTAT),
    "map": ("map", IOERR_SHMMAP),
    "open": ("open", CANTOPEN),
}
FILES = DATABASE, LOG = "data.sqlite3", "data.sqlite3-wal"

STARTS = [(fault, file) for fault in FAULTS for file in FILES if (fault, file) not in {("short", LOG), ("map", LOG)}]
"""A truncated log looks complete; the shared memory belongs to the database."""


@pytest.fixture(autouse=True)
def _little_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the caches, so that pages are read again and again from the log and the file."""
    monkeypatch.setattr(pragmas, "cache", lambda connection, _: connection.execute("PRAGMA cache_size = 1"))
    monkeypatch.setattr(writer, "WAL_BYTES_CHECKPOINT", 60_000)
    monkeypatch.setattr(writer, "WAL_BYTES_LULL", 120_000)


class Fault:
    """Refuses one kind of access to one file, from the n-th on, a number of times."""

    def __init__(self, fault: str, file: str) -> None:
        self.kind, self.code = FAULTS[fault]
        self.file = file
        self.after = self.times = 0
        self.met = 0

    def __call__(self, access: Access) -> int:
        if access.kind != self.kind or access.file != self.file or not self.times:
            return OK
        self.after -= 1
        if self.after >= 0:
            return OK
        self.times -= 1
        self.met += 1
        return self.code


def is_storage_error(error: dict[str, Any]) -> bool:
    """Return whether it is a listed storage error that describes itself."""
    kind = getattr(errors, error["data"]["name"])
    return issubclass(kind, errors.StorageError)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("fault", ["read", "short"])
def test_a_server_answers_or_refuses_while_reads_fail(tmp_path: Path, fault: str, file: str) -> None:
    """
    Mutations, one-shot and live queries return correct results or errors, without hanging, and recover with the disk.
    """
    pick = random.Random(f"{SEED} {fault} {file}")
    refusals: Counter[str] = Counter()
    refuse = Fault(fault, file)

    async def work(server: Server, client: RawClient) -> None:
        acknowledged: set[int] = set()
        tried: set[int] = set()

        def check(there: Counter[int]) -> None:
            assert acknowledged <= set(there) <= tried, (
                "what was acknowledged is there, and nothing that was not asked for"
            )
            assert set(there.values()) <= {2}, "a posting is half there"

        async def ask(request_id: int) -> Any:
            async with asyncio.timeout(100):
                answer = await client.answer(request_id)
            if "result" in answer:
                return answer["result"]
            assert is_storage_error(answer["error"]), answer
            refusals[answer["error"]["data"]["name"]] += 1
            return None

        async def watch() -> None:
            add = {"type": "Add", "queryId": 0, "udfPath": "ledger:audit", "args": {}}
            await client.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])

        async def post_once(number: int) -> Any:
            """Post; connect again if an unknown outcome ends the socket."""
            nonlocal client
            answer = await ask(post(client, number))
            if answer is None and refusals["OutcomeUnknown"]:
                await client.until(lambda: client.ended)
                refusals["OutcomeUnknown"] = refuse.times = 0
                client = await RawClient.open(server.url, server.runtime)
                assert "result" in await client.answer(client.connect())
                await watch()
            return answer

        await watch()
        for number in range(POSTINGS):
            refuse.after, refuse.times = pick.randint(0, 30), pick.choice((0, 1, 1, 2, 10, 1000))
            tried.add(number)
            if await post_once(number) is not None:
                acknowledged.add(number)
            view = await ask(client.send("query", udfPath="ledger:audit", args={}))
            if view is not None:
                check(audited(view["value"]))
            await asyncio.sleep(pick.choice((0, 0, 10)))  # virtual: time for a checkpoint
            refuse.times = 0
            check(await audit(client))
        for number in sorted(tried - acknowledged):  # as a client does that was refused
            assert (await client.answer(post(client, number)))["result"]
        assert set(await audit(client)) == tried
        last = await client.message(lambda message: set(shown(message)) == tried)
        assert set(shown(last).values()) == {2}

    make(tmp_path / "data")
    with recording(tmp_path / "data", accesses=True) as disk:
        disk.refuses = refuse
        serve(tmp_path / "data", work)
    assert check_folder(tmp_path / "data") == []
    print(refuse.met, refusals)
    assert refuse.met > POSTINGS / 2
    assert refusals


def shown(message: dict[str, Any]) -> Counter[int]:
    """Return a transition's result of the audit."""
    for change in message.get("params", {}).get("modifications", []):
        if "value" in change:
            return audited(change["value"])
        if change["type"] == "QueryFailed":
            assert is_storage_error(change["error"]), change
    return Counter()


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "file"), STARTS)
def test_a_start_that_cannot_read_does_no_harm(tmp_path: Path, fault: str, file: str) -> None:
    """At whichever access a start fails, it reports a storage error; the next start has all data."""
    folder = tmp_path / "data"
    make(folder)

    async def fill(server: Server, client: RawClient) -> None:
        for number in range(4):
            await client.answer(post(client, number))
        assert set(await audit(client)) == set(range(4))
        # As a process that was killed leaves it: the next one has a log to read.
        for name in FILES:
            left[name] = (folder / name).read_bytes()

    left: dict[str, bytes] = {}
    serve(folder, fill)
    refused = attempts_until_it_starts(tmp_path, left, fault, file)
    print(refused, "starts refused")
    assert refused


def attempts_until_it_starts(place: Path, left: dict[str, bytes], fault: str, file: str) -> int:
    """Fail the first, the second, … access of a start until none is left; return the number of refused starts."""
    refused = 0
    for after in range(1_000):
        folder = place / str(after)
        folder.mkdir()
        for name, data in left.items():
            (folder / name).write_bytes(data)
        refuse = Fault(fault, file)
        refuse.after, refuse.times = after, 1

        async def look(server: Server, client: RawClient, refuse: Fault = refuse) -> None:
            refuse.times = 0
            assert set(await audit(client)) == set(range(4))

        with recording(folder, accesses=True) as disk:
            disk.refuses = refuse
            try:
                serve(folder, look)
            except errors.StorageError:
                refused += 1
                assert still_open(folder) == []
        serve(folder, look)
        if not refuse.met:
            return refused
    raise AssertionError("a start has no end of accesses")


def still_open(folder: Path) -> list[str]:
    """Return the files in a folder that this process has open, if the system reports them."""
    targets = [str(link.readlink()) for link in Path("/proc/self/fd").glob("*") if link.is_symlink()]
    return [path for path in targets if path.startswith(str(folder))]
