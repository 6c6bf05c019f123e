"""One place writes what readers see: `apply`. Another deletes what they do not see: housekeeping."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import tinyvex
from tests.support.records import OPERATIONS
from tests.support.storage import MemoryStore, insert, unit
from tinyvex.storage.file import statements
from tinyvex.storage.log import apply as apply_module
from tinyvex.storage.log.apply import apply, replay
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.operations import SetNumbers

PACKAGE = Path(tinyvex.__file__).parent
WRITES = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|REPLACE)\b")

WRITERS = {
    "storage/log/apply.py": "operations",
    "storage/log/request_records.py": "the operations on stored requests",
    "storage/log/housekeeping.py": "what no readable timestamp sees",
    "storage/file/database_file.py": "the first globals of a new file, and the one function that writes a global",
    "storage/engine/group_commit.py": "last_ts, once for each group",
}
"""Files that may execute a statement that writes, and what they write with it."""


def writing_statements() -> set[str]:
    """The names of all statements that write."""
    texts = {name: text for name, text in vars(statements).items() if isinstance(text, str) and name.isupper()}
    return {name for name, text in texts.items() if WRITES.match(text)}


def test_only_a_few_files_execute_statements_that_write() -> None:
    """A change that readers see and that is in no record would be missing in every replica."""
    names = writing_statements()
    assert len(names) > 15
    using = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if names & set(re.findall(r"\bstatements\.([A-Z_]+)", path.read_text("utf-8")))
    }
    assert using == set(WRITERS)


def test_no_statement_that_writes_is_written_out_elsewhere() -> None:
    """
    Every one has a name in `statements.py`, so that the test above sees it. An upgrade writes another file, with statements
    that never change.
    """
    literal = re.compile(r"""["'](?:INSERT (?:OR|INTO)|UPDATE \w+ SET|DELETE FROM|REPLACE INTO)\b""")
    offenders = {path.name for path in PACKAGE.rglob("*.py") if literal.search(path.read_text("utf-8"))}
    assert offenders == {"statements.py", "format_changes.py", "upgrade.py"}


def test_only_some_files_set_globals() -> None:
    """A backup's copy gets an epoch of its own; everything else goes through operations or housekeeping."""
    using = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "set_global(" in path.read_text("utf-8")
    }
    assert using == {
        "storage/file/database_file.py",
        "storage/log/apply.py",
        "storage/log/housekeeping.py",
        "storage/maintenance/backup.py",
    }


def test_every_operation_is_executed() -> None:
    """The closed set of operations and the table that executes them agree."""
    assert set(apply_module._EXECUTE) == set(OPERATIONS)


@pytest.fixture
def log() -> Any:
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    return store


def test_the_same_revision_twice_is_an_error(log: MemoryStore) -> None:
    """A live commit overwrites nothing."""
    log.run(unit(insert({"n": 1})))
    with pytest.raises(sqlite3.IntegrityError):
        apply(log.connection, log.commits[-1])


def test_the_catalogs_timestamp_follows_the_records_that_change_it(log: MemoryStore) -> None:
    """And no others, so readers reload the catalog only then."""
    changed = max(record.ts for record in log.commits if record.changes_catalog)
    log.run(unit(insert({"n": 1})))
    assert log.look(lambda snapshot: snapshot.globals()["catalog_ts"]) == changed < log.last_ts


def test_replay_applies_each_record_once(log: MemoryStore) -> None:
    """It stores `last_ts` with the record."""
    record = CommitRecord(log.last_ts + 5, (SetNumbers(20_000, 500, 600),))
    assert replay(log.connection, record)
    assert not replay(log.connection, record)
    values = log.look(lambda snapshot: snapshot.globals())
    assert (values["last_ts"], values["next_tablet"]) == (record.ts, 500)
