"""Counting the frames of a write-ahead log in its file agrees with SQLite."""

import random
import sqlite3
from contextlib import closing

import pytest

from tinyvex.storage.file.wal_file import WalFile


def connected(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return closing(connection)


@pytest.mark.parametrize("seed", range(20))
def test_the_count_is_sqlites(tmp_path, seed):
    """After any sequence of commits and checkpoints, also if some counts are skipped."""
    source = random.Random(seed)
    path = tmp_path / "file"
    log, is_restarted = WalFile(path), False
    with connected(path) as connection:
        connection.execute("CREATE TABLE t(a)")
        for _ in range(60):
            step = source.random()
            if step < 0.7:
                connection.execute("INSERT INTO t VALUES (zeroblob(?))", (source.choice((10, 5_000, 200_000)),))
                is_restarted = False
            elif step < 0.85:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            else:
                connection.execute(f"PRAGMA wal_checkpoint({source.choice(('RESTART', 'TRUNCATE'))})")
                log.restarted()
                is_restarted = True
            if source.random() < 0.5:
                log.count()
                _, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                assert (log.frames, copied) == (0 if is_restarted else frames, frames)


def test_a_file_behind_a_link_has_its_log_next_to_it(tmp_path):
    """SQLite follows links."""
    real, link = tmp_path / "elsewhere", tmp_path / "file"
    link.symlink_to(real)
    log = WalFile(link)
    with connected(link) as connection:
        connection.execute("CREATE TABLE t(a)")
        log.count()
        assert log.frames > 0


def test_a_database_without_a_log_has_no_frames(tmp_path):
    """The file is created by the first commit; a database in memory has none."""
    for log in (WalFile(tmp_path / "missing"), WalFile(None)):
        log.count()
        assert log.frames == 0
