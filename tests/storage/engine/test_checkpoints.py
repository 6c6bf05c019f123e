"""The write-ahead log stays bounded, even with overlapping readers."""

import asyncio
import sqlite3
import threading

import pytest

from tests.support.storage import insert, numbers, opened, unit
from tinyvex.storage.engine import checkpoints
from tinyvex.storage.engine.checkpoints import WriteAheadLog
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.operations import MoveTablet

BOUND = 200_000


@pytest.fixture
def small(monkeypatch):
    """Lower the limits, so that a small log is checkpointed and waited for."""
    monkeypatch.setattr("tinyvex.storage.engine.writer.WAL_BYTES_MAX", BOUND // 4)
    monkeypatch.setattr(checkpoints, "WAL_BYTES_CHECKPOINT", BOUND // 10)
    monkeypatch.setattr(checkpoints, "WAL_BYTES_WAIT", BOUND // 2)


class Relay:
    """Overlapping reads, each of which lasts until the next has started, so that there is always a reader."""

    def __init__(self):
        self._begun = threading.Condition()
        self._count = 0
        self._ended = False

    def read(self, snapshot):
        numbers(snapshot)
        with self._begun:
            self._count += 1
            mine = self._count
            self._begun.notify_all()
            assert self._begun.wait_for(lambda: self._ended or self._count > mine, 30)

    def end(self):
        with self._begun:
            self._ended = True
            self._begun.notify_all()


async def test_reads_that_overlap_do_not_make_the_log_grow(tmp_path, small):
    """The writer waits for active readers, so that the log can be restarted."""
    relay, sizes, written = Relay(), [], False
    async with opened(tmp_path) as store:

        async def read_on():
            while not written:
                await store.read(relay.read)

        readers = [asyncio.ensure_future(read_on()) for _ in range(3)]
        for number in range(150):
            await store.write(unit(insert({"n": number, "text": "x" * 4000})))
            sizes.append(store.statistics().wal_bytes)
        written = True
        relay.end()
        await asyncio.gather(*readers)
        assert await store.read(numbers) == list(range(150))
    assert max(sizes) < 2 * BOUND


@pytest.fixture
def file(tmp_path):
    """Create a log with some frames; return a function that opens it."""
    opened_here = []

    def connect():
        connection = sqlite3.connect(tmp_path / "file", isolation_level=None)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        opened_here.append(connection)
        return connection

    writer = connect()
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE t(a)")
    yield connect
    for connection in opened_here:
        connection.close()


def test_a_timed_out_wait_is_retried_when_the_log_has_grown(file, monkeypatch):
    """A long read delays the writer rarely and briefly."""
    monkeypatch.setattr(checkpoints, "WAL_BYTES_WAIT", 0)
    monkeypatch.setattr(checkpoints, "WAL_WAIT_MS", 1)
    writer, reader = file(), file()
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    writer.execute("INSERT INTO t VALUES (zeroblob(50000))")
    statements = []
    writer.set_trace_callback(statements.append)
    log = WriteAheadLog()
    waits = []
    for _ in range(8):
        statements.clear()
        log.checkpoint(writer, "PASSIVE")
        waits.append(sum("RESTART" in statement for statement in statements))
        writer.execute("INSERT INTO t VALUES (zeroblob(8000))")
    assert waits[0] == checkpoints.WAL_WAITS
    assert waits[1] == 0
    assert 2 <= sum(wait > 0 for wait in waits) <= 4
    reader.execute("COMMIT")
    log.checkpoint(writer, "PASSIVE")
    assert log.size == 0


class Busy:
    """A connection whose log another process is copying."""

    def execute(self, _):
        return self

    def fetchone(self):
        return 1, -1, -1


def test_a_log_that_another_process_copies_is_not_taken_for_copied():
    """The result is unknown in this case; the checkpoint is retried after further writes."""
    log = WriteAheadLog()
    log.size = 1_000_000
    log.checkpoint(Busy(), "PASSIVE")
    assert log.size == 1_000_000
    assert not log.is_above(0)
    log.changed(checkpoints.WAL_BYTES_CHECKPOINT)
    assert log.is_above(0)


def test_the_rows_of_a_step_count():
    """A step's record is small, however many rows it changes."""
    log = WriteAheadLog()
    log.committed(CommitRecord(1, (MoveTablet(101, 102, (), 1_000),)), rows=1_000)
    assert log.size >= 1_000 * checkpoints.ROW_BYTES
