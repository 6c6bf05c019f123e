"""The write-ahead log stays bounded, even with overlapping readers."""

import asyncio
import sqlite3
import threading

import pytest

from tests.support.storage import bound_runtime, insert, numbers, opened, unit
from tinyvex.storage.engine import checkpoints
from tinyvex.storage.engine.checkpoints import WriteAheadLog
from tinyvex.storage.file import pragmas
from tinyvex.storage.file.wal_file import WalFile
from tinyvex.storage.maintenance.retention import Retention
from tinyvex.storage.maintenance.retention_policy import Policy

BOUND = 200_000


@pytest.fixture
def small(monkeypatch):
    """Lower the limits, so that a small log is checkpointed and waited for."""
    monkeypatch.setattr("tinyvex.storage.engine.writer.WAL_BYTES_MAX", BOUND // 4)
    monkeypatch.setattr(checkpoints, "WAL_BYTES_CHECKPOINT", BOUND // 10)
    monkeypatch.setattr(checkpoints, "WAL_BYTES_WAIT", BOUND // 2)
    monkeypatch.setattr(checkpoints, "COUNT_BYTES", BOUND // 10)


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


def test_a_timed_out_wait_is_retried_when_the_log_has_grown(file, tmp_path, monkeypatch):
    """A long read delays the writer rarely and briefly."""
    monkeypatch.setattr(checkpoints, "WAL_BYTES_WAIT", 0)
    monkeypatch.setattr(checkpoints, "WAL_WAIT_MS", 1)
    writer, reader = file(), file()
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    writer.execute("INSERT INTO t VALUES (zeroblob(50000))")
    statements = []
    writer.set_trace_callback(statements.append)
    log = WriteAheadLog(WalFile(tmp_path / "file"))
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


def test_a_log_that_another_process_copies_is_not_taken_for_copied(file, tmp_path, monkeypatch):
    """The result is unknown in this case; the checkpoint is retried after further writes."""
    monkeypatch.setattr(checkpoints, "WAL_BYTES_CHECKPOINT", 100_000)
    writer, log = file(), WriteAheadLog(WalFile(tmp_path / "file"))
    writer.execute("INSERT INTO t VALUES (zeroblob(50000))")
    assert log.is_above(50_000)
    log.checkpoint(Busy(), "PASSIVE")
    assert log.size > 50_000
    assert not log.is_above(0)
    writer.execute("INSERT INTO t VALUES (zeroblob(100000))")
    log.added(1_000)
    assert log.is_above(0)


def test_a_log_that_readers_use_is_not_taken_for_restarted(file, tmp_path, monkeypatch):
    """If all of it was copied, but a reader uses it, the next commit extends it."""
    monkeypatch.setattr(checkpoints, "WAL_BYTES_WAIT", 10_000)
    monkeypatch.setattr(checkpoints, "WAL_WAIT_MS", 1)
    writer, reader, log = file(), file(), WriteAheadLog(WalFile(tmp_path / "file"))
    writer.execute("INSERT INTO t VALUES (zeroblob(50000))")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    log.checkpoint(writer, "PASSIVE")
    assert (log.size, log.total_size > 50_000) == (0, True)
    writer.execute("INSERT INTO t VALUES (zeroblob(50000))")
    log.added(1_000)
    assert log.is_above(50_000)
    assert log.total_size > 100_000
    assert log.is_above(1_000_000)  # a bound of the whole log, not only of what is not copied


def test_rows_that_write_many_pages_each_are_counted(file, tmp_path):
    """The pages in the log count, not the rows that changed."""
    writer, log = file(), WriteAheadLog(WalFile(tmp_path / "file"))
    writer.execute("CREATE TABLE scattered(a, b)")
    writer.execute(
        "WITH numbers(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers WHERE value < 500)"
        " INSERT INTO scattered SELECT value, zeroblob(3000) FROM numbers"
    )
    log.checkpoint(writer, "RESTART")
    before = writer.total_changes
    writer.execute("UPDATE scattered SET a = -a WHERE a % 2 = 0")
    log.added(writer.total_changes - before)
    assert log.is_above(900_000)


async def test_purging_history_during_overlapping_reads_keeps_the_log_bounded(tmp_path, small, monkeypatch):
    """Housekeeping has no record, and a step of it writes more pages than rows."""
    monkeypatch.setattr(checkpoints, "COUNT_BYTES", 10_000)
    relay, sizes, written = Relay(), [], False
    runtime = bound_runtime()
    async with opened(tmp_path, runtime=runtime) as store:
        fields = {"n": 1, "text": "x" * 2000}
        documents = [await store.write(unit(insert(fields))) for _ in range(20)]

        async def read_on():
            while not written:
                await store.read(relay.read)

        async def measure():
            sizes.append(store.statistics().wal_bytes)

        readers = [asyncio.ensure_future(read_on()) for _ in range(3)]
        runtime.clock_us = runtime.now_us()
        retention = Retention(store, Policy(seconds=10.0), runtime.now_us, measure)
        for _ in range(20):
            for document in documents:
                await store.write(
                    unit(lambda tx, key=document.internal: tx.put(tx.catalog.table("items"), key, fields))
                )
            runtime.clock_us += 20_000_000
            await retention.sweep(thorough=True)
        written = True
        relay.end()
        await asyncio.gather(*readers)
    assert max(sizes) < 2 * BOUND


@pytest.mark.parametrize("fault", ["none", "a statement is open", "a reader is active"])
def test_after_a_checkpoint_the_writer_waits_for_locks_again(file, tmp_path, monkeypatch, fault):
    """A checkpoint does not wait, or only briefly; the timeout of the next BEGIN is restored, also if it fails."""
    monkeypatch.setattr(checkpoints, "WAL_BYTES_WAIT", 0)
    monkeypatch.setattr(checkpoints, "WAL_WAIT_MS", 1)
    writer, reader = file(), file()
    writer.execute("INSERT INTO t VALUES (zeroblob(50000)), (1), (2)")
    pragmas.busy_timeout(writer)
    log = WriteAheadLog(WalFile(tmp_path / "file"))
    open_statement = {"a statement is open": writer, "a reader is active": reader}.get(fault)
    cursor = None if open_statement is None else open_statement.execute("SELECT * FROM t")
    if cursor is not None:
        cursor.fetchone()
    failed = 0
    for mode in ("PASSIVE", "RESTART", "TRUNCATE"):
        try:
            log.checkpoint(writer, mode)
        except sqlite3.Error:
            failed += 1
        assert writer.execute("PRAGMA busy_timeout").fetchone() == (pragmas.BUSY_MS,)
    assert failed == (3 if fault == "a statement is open" else 0)
