"""A writer that takes over after a stuck function reads its state from the file completely, or not at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.disk import IOERR_READ, IOERR_SHMMAP, IOERR_SHORT_READ, OK, Access, Disk, recording
from tests.support.storage import bound_runtime, insert, numbers, opened, unit
from tinyvex import errors
from tinyvex.storage.engine.store import Store

LIMIT = 0.02
FAULTS = {"read": IOERR_READ, "short": IOERR_SHORT_READ, "map": IOERR_SHMMAP}
KINDS = {"read": "read", "short": "read", "map": "map"}


@contextmanager
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let functions block until the block is left, and be abandoned soon."""
    monkeypatch.setattr("tinyvex.storage.engine.time_limit.FUNCTION_GRACE_SECONDS", LIMIT)
    release = threading.Event()
    try:
        yield release
    finally:
        release.set()


async def join_stuck(store: Store) -> None:
    for worker in store._stuck:
        thread: Any = worker
        await asyncio.to_thread(thread._thread.join, 30)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_takeover_that_cannot_read_fails_its_group_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """
    At whichever access it fails, a mutation is refused with a storage error; the next one finds all tables and documents.
    """
    folder = tmp_path / "data"
    async with opened(folder) as store:
        await store.write(unit(insert({"n": -1})))
    refused = 0
    for after in range(1_000):
        with recording(folder, accesses=True) as disk, stuck(monkeypatch) as release:
            store = Store.open(folder, bound_runtime())
            with pytest.raises(errors.TimeLimitExceeded):
                await store.write(lambda snapshot, ts, e=release: e.wait(30), limit_seconds=LIMIT)  # type: ignore[misc]
            met = refuse_one(disk, KINDS[fault], FAULTS[fault], after)
            (answer,) = await asyncio.gather(store.write(unit(insert({"n": after}))), return_exceptions=True)
            disk.refuses = lambda access: OK
            if isinstance(answer, BaseException):
                assert isinstance(answer, errors.StorageError), answer
                refused += 1
                await store.write(unit(insert({"n": after})))
            assert await store.read(numbers) == list(range(-1, after + 1))
            release.set()
            await join_stuck(store)
            await store.close()
        if not met:
            break
    print(refused, "takeovers refused")
    assert refused


def refuse_one(disk: Disk, kind: str, code: int, after: int) -> list[Access]:
    """Fail one access of a kind, after some others; return the list that it will be in."""
    left = [after]
    met: list[Access] = []

    def refuses(access: Access) -> int:
        if access.kind != kind or met:
            return OK
        left[0] -= 1
        if left[0] >= 0:
            return OK
        met.append(access)
        return code

    disk.refuses = refuses
    return met
