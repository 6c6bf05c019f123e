"""The recorded disk of the tests matches the real one, and fails as a real one does."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from tests.support.disk import FULL, OK, recording


def connect(folder: Path, synchronous: str = "FULL") -> sqlite3.Connection:
    """Open a database in WAL mode with one table."""
    connection = sqlite3.connect(folder / "data.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE IF NOT EXISTS t(a)")
    return connection


def rows(folder: Path, files: dict[str, bytes]) -> int:
    """Count the rows of a restored disk."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    connection = sqlite3.connect(folder / "data.sqlite3")
    (count,) = connection.execute("SELECT count(*) FROM t").fetchone()
    connection.close()
    return int(count)


def test_what_is_noted_makes_the_files_that_are_there(tmp_path: Path) -> None:
    """The restored files are equal byte for byte when everything was synced."""
    with recording(tmp_path) as disk:
        connection = connect(tmp_path)
        for number in range(20):
            connection.execute("INSERT INTO t VALUES (?)", (str(number) * 1000,))
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        real = {
            path.name: path.read_bytes() for path in tmp_path.glob("data.sqlite3*") if path.suffix != ".sqlite3-shm"
        }
        assert disk.files(len(disk.steps)) == real
        connection.close()


@pytest.mark.parametrize(("synchronous", "left"), [("FULL", 5), ("NORMAL", 0)])
def test_what_was_not_synced_is_lost(tmp_path: Path, synchronous: str, left: int) -> None:
    """Before a checkpoint, only FULL has synced the log."""
    connect(tmp_path).close()
    with recording(tmp_path) as disk:
        connection = connect(tmp_path, synchronous)
        for number in range(5):
            connection.execute("INSERT INTO t VALUES (?)", (number,))
        files = disk.files(len(disk.steps))
        connection.close()
    assert rows(tmp_path / "after", files) == left


def test_a_torn_write_is_torn_at_sectors(tmp_path: Path) -> None:
    """Some writes survive in full."""
    connect(tmp_path).close()
    with recording(tmp_path) as disk:
        connection = connect(tmp_path, "NORMAL")
        connection.execute("INSERT INTO t VALUES (?)", ("x" * 20_000,))
        at = len(disk.steps)
        connection.close()
    sizes = {len(disk.files(at, random.Random(seed))["data.sqlite3-wal"]) for seed in range(200)}
    assert len(sizes) > 5


def test_a_step_that_fails_is_not_made(tmp_path: Path) -> None:
    """SQLite reports the error, and continues when the disk works again."""
    with recording(tmp_path) as disk:
        connection = connect(tmp_path)
        before = len(disk.steps)
        disk.fails = lambda step: FULL if step.kind == "write" else OK
        with pytest.raises(sqlite3.OperationalError, match="full"):
            connection.execute("INSERT INTO t VALUES (1)")
        assert [step for step in disk.steps[before:] if step.kind == "write"] == []
        disk.fails = lambda step: OK
        connection.execute("INSERT INTO t VALUES (2)")
        assert connection.execute("SELECT a FROM t").fetchall() == [(2,)]
        connection.close()


def test_nothing_is_noted_afterwards(tmp_path: Path) -> None:
    """After the recording the real disk is used."""
    with recording(tmp_path) as disk:
        pass
    connect(tmp_path).close()
    assert disk.steps == []
