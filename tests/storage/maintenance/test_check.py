"""The check finds every kind of damage, and none in a healthy file."""

import sqlite3
from contextlib import closing

import pytest

from tests.support.storage import MemoryStore, bound_runtime, insert, opened, seal, unit
from tinyvex import errors
from tinyvex.storage.engine.store import Store
from tinyvex.storage.file.database_file import set_global
from tinyvex.storage.maintenance.backup import back_up
from tinyvex.storage.maintenance.check import PROBLEMS_MAX, check, check_folder


@pytest.fixture
def log():
    """Open a log with inserted, changed and deleted documents, and an index created later."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    stored = [store.run(unit(insert({"n": n, "text": f"text {n}"}), request=("session", n))) for n in range(4)]

    def work(transaction):
        table = transaction.catalog.table("items")
        transaction.put(table, stored[0].internal, {"n": 10, "text": "moved"})
        transaction.put(table, stored[1].internal, {"n": 1, "text": "kept"})
        transaction.put(table, stored[2].internal, None)

    store.run(unit(work))
    store.declare({"items": {"by_n": ("n",), "by_text": ("text",)}})
    return store


def test_a_healthy_database_has_no_problems(log):
    """A healthy database passes, whatever happened to its documents and indexes."""
    assert check(log.connection) == []


def test_results_may_be_longer_than_values(log):
    """A mutation may return more rows than an array in a document can have."""
    log.connection.execute("UPDATE requests SET result = CAST(? AS BLOB)", (str([0] * 10_000),))
    seal(log.connection)
    assert check(log.connection) == []


NEWEST_OF_USER = "(SELECT MAX(log_row) FROM documents WHERE table_id > 100 AND deleted = 0)"
USER_INDEX = "(SELECT MAX(index_id) FROM current)"
DAMAGES = {
    "a document is gone": f"DELETE FROM documents WHERE log_row = {NEWEST_OF_USER}",
    "a chain is broken": "UPDATE documents SET prev_ts = prev_ts - 1 WHERE prev_ts IS NOT NULL AND table_id > 100",
    "a first revision has a predecessor": f"UPDATE documents SET prev_ts = 1 WHERE log_row = {NEWEST_OF_USER}",
    "a deletion of nothing": f"UPDATE documents SET deleted = 1, json_value = NULL WHERE log_row = {NEWEST_OF_USER}",
    "half a deletion": f"UPDATE documents SET deleted = 1 WHERE log_row = {NEWEST_OF_USER}",
    "damaged JSON": f"UPDATE documents SET json_value = CAST('{{' AS BLOB) WHERE log_row = {NEWEST_OF_USER}",
    "JSON that is not canonical": (
        f"UPDATE documents SET json_value = CAST(json_value || ' ' AS BLOB) WHERE log_row = {NEWEST_OF_USER}"
    ),
    "another document's id": (
        "UPDATE documents SET json_value = (SELECT json_value FROM documents WHERE table_id > 100 LIMIT 1)"
        f" WHERE log_row = {NEWEST_OF_USER}"
    ),
    "another value than its index key": (
        "UPDATE documents SET json_value = CAST(replace(CAST(json_value AS TEXT), '\"n\":1,', '\"n\":4,') AS BLOB)"
        f" WHERE log_row = {NEWEST_OF_USER}"
    ),
    "a damaged system table": "UPDATE documents SET json_value = CAST('{' AS BLOB) WHERE table_id = 2",
    "a system table of another shape": "UPDATE documents SET json_value = CAST('{}' AS BLOB) WHERE table_id = 2",
    "an unknown tablet": f"UPDATE documents SET table_id = 99 WHERE log_row = {NEWEST_OF_USER}",
    "a timestamp after the last": f"UPDATE documents SET ts = ts + 1000 WHERE log_row = {NEWEST_OF_USER}",
    "timestamps out of order": "UPDATE documents SET log_row = 100000 WHERE log_row = 1",
    "last_ts behind": "UPDATE globals SET json_value = 5 WHERE key = 'last_ts'",
    "a floor in the future": "UPDATE globals SET json_value = json_value + 1000000 WHERE key = 'floor_ts'",
    "a table number to be given again": "UPDATE globals SET json_value = 10001 WHERE key = 'next_table_number'",
    "a tablet to be given again": "UPDATE globals SET json_value = 101 WHERE key = 'next_tablet'",
    "an index id to be given again": "UPDATE globals SET json_value = 101 WHERE key = 'next_index_id'",
    "a current entry is gone": f"DELETE FROM current WHERE index_id = {USER_INDEX} AND log_row = {NEWEST_OF_USER}",
    "a current entry points elsewhere": f"UPDATE current SET log_row = {NEWEST_OF_USER} WHERE index_id = {USER_INDEX}",
    "a current entry points at an older revision": (
        "UPDATE current SET log_row = (SELECT MIN(d.log_row) FROM documents AS d JOIN documents AS n USING (table_id, id)"
        " WHERE n.log_row = current.log_row) WHERE log_row IN (SELECT log_row FROM documents WHERE prev_ts IS NOT NULL)"
    ),
    "a current entry without its index entry": (
        "INSERT INTO current SELECT index_id, CAST(x'07' || key AS BLOB), log_row, 0 FROM current"
        f" WHERE index_id = {USER_INDEX} LIMIT 1"
    ),
    "a current entry points nowhere": f"UPDATE current SET log_row = 100000 WHERE index_id = {USER_INDEX}",
    "a current entry too many": f"INSERT INTO current SELECT {USER_INDEX}, x'07', {NEWEST_OF_USER}, 0",
    "a current entry with another key": (
        f"UPDATE current SET key = CAST(key || x'00' AS BLOB) WHERE index_id = {USER_INDEX} AND log_row = {NEWEST_OF_USER}"
    ),
    "an index entry is gone": f"DELETE FROM indexes WHERE index_id = {USER_INDEX}",
    "an index entry without its revision": (
        "INSERT INTO indexes SELECT index_id, key, ts - 1, 1, table_id, document_id, checksum FROM indexes"
        f" WHERE index_id = {USER_INDEX} LIMIT 1"
    ),
    "an index entry of another tablet": f"UPDATE indexes SET table_id = 1 WHERE index_id = {USER_INDEX}",
    "an index entry that ends but did not": f"UPDATE indexes SET deleted = 1 WHERE index_id = {USER_INDEX}",
    "an index entry that begins twice": "UPDATE indexes SET deleted = 0 WHERE deleted = 1",
    "log lines that are none": "UPDATE requests SET log_lines = '{'",
    "a result that is none": "UPDATE requests SET result = CAST('{' AS BLOB)",
    "an id of another length": f"UPDATE documents SET id = x'0102' WHERE log_row = {NEWEST_OF_USER}",
    "an id that is text": f"UPDATE documents SET id = '0123456789abcdef' WHERE log_row = {NEWEST_OF_USER}",
    "JSON that is text": f"UPDATE documents SET json_value = CAST(json_value AS TEXT) WHERE log_row = {NEWEST_OF_USER}",
    "a first revision of nothing": "UPDATE documents SET prev_ts = 0 WHERE prev_ts IS NULL",
    "a deletion that is neither": "UPDATE documents SET deleted = 2 WHERE deleted = 1",
    "a key that is text": (
        "UPDATE indexes SET key = 'abc' WHERE (index_id, key, ts) = (SELECT index_id, key, ts FROM indexes LIMIT 1)"
    ),
    "a current key that is text": f"UPDATE current SET key = 'abc' WHERE index_id = {USER_INDEX} AND log_row = {NEWEST_OF_USER}",
    "an index entry of another document": f"UPDATE indexes SET document_id = zeroblob(16) WHERE index_id = {USER_INDEX}",
    "a current entry of no index": f"INSERT INTO current SELECT 999, key, log_row, checksum FROM current WHERE index_id = {USER_INDEX}",
    "no epoch": "DELETE FROM globals WHERE key = 'epoch'",
    "a floor that is no number": "UPDATE globals SET json_value = 1.5 WHERE key = 'floor_ts'",
    "a last timestamp after all time": "UPDATE globals SET json_value = 1 << 60 WHERE key = 'last_ts'",
    "tables that readers do not see": "UPDATE globals SET json_value = 5 WHERE key = 'catalog_ts'",
    "a walk through the index entries that is none": "INSERT INTO globals VALUES ('index_walk', '\"1 2 3\"', 0)",
    "a walk through the requests that is none": "INSERT INTO globals VALUES ('expiry_position', '[[1]]', 0)",
    "revisions that are never forgotten": "INSERT INTO globals VALUES ('swept_row', 3, 0)",
    "a request after the last timestamp": "UPDATE requests SET ts = ts + 1000000",
    "requests of no session": "DELETE FROM sessions",
    "a session without requests": "INSERT INTO sessions VALUES (7, 'a-session', 0)",
    "a request that was acknowledged": (
        "UPDATE requests SET acknowledged = 1 WHERE request_id = (SELECT MAX(request_id) FROM requests)"
    ),
    "a floor that was lost": "UPDATE requests SET acknowledged = 1 WHERE request_id = 1",
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damage_is_found(log, damage):
    """The violation of each single invariant is reported, also if the checksums are right."""
    cursor = log.connection.execute(DAMAGES[damage])
    assert cursor.rowcount > 0
    seal(log.connection)
    assert check(log.connection) != []


@pytest.mark.parametrize("table", ["documents", "indexes", "current", "globals", "sessions", "requests"])
def test_a_wrong_checksum_is_found(log, table):
    """Report the row, in each table."""
    log.connection.execute(
        f"UPDATE {table} SET checksum = checksum - 1 WHERE checksum = (SELECT MAX(checksum) FROM {table})"
    )
    assert [problem for problem in check(log.connection) if "checksum" in problem]


BELOW_THE_FLOOR = {
    "an index entry of another document": "UPDATE indexes SET document_id = zeroblob(16)",
    "an entry of a dropped index in another tablet": (
        "UPDATE indexes SET table_id = 1 WHERE index_id NOT IN (SELECT index_id FROM current)"
    ),
    "an entry before all time": "UPDATE indexes SET ts = -ts",
}


@pytest.mark.parametrize("damage", sorted(BELOW_THE_FLOOR))
def test_damage_at_the_floor_is_found(log, damage):
    """Entries must still belong to their documents, even if revisions may expire."""
    log.declare({"items": {"by_text": ("text",)}})
    set_global(log.connection, "floor_ts", log.last_ts - 2)
    assert check(log.connection) == []
    assert log.connection.execute(BELOW_THE_FLOOR[damage]).rowcount > 0
    seal(log.connection)
    assert check(log.connection) != []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON documents BEGIN DELETE FROM requests; END",
        "CREATE INDEX i ON documents(ts)",
        "ALTER TABLE requests ADD COLUMN more",
        "DROP TABLE requests",
    ],
)
def test_another_schema_is_found(log, statement):
    """Foreign objects may change data, and missing ones fail later."""
    log.connection.execute(statement)
    assert check(log.connection) != []


def test_a_long_list_of_problems_is_cut(log):
    """A hundred problems are as helpful as a thousand."""
    log.run(unit(lambda transaction: [insert({"n": n})(transaction) for n in range(200)]))
    log.connection.execute("DELETE FROM current")
    assert len(check(log.connection)) == PROBLEMS_MAX


async def test_a_folder_is_checked_while_it_is_served(store):
    """Reading needs no lock."""
    await store.write(unit(insert({"n": 1})))
    assert check_folder(store.folder.path) == []


def test_a_folder_without_a_database_is_an_error(tmp_path):
    """A missing database is not a healthy one."""
    with pytest.raises(errors.DataFolderUnusable):
        check_folder(tmp_path)


async def test_damaged_pages_are_found(tmp_path):
    """SQLite's own findings are among the problems."""
    async with opened(tmp_path) as store:
        await store.write(
            unit(lambda transaction: [insert({"n": n, "text": "x" * 300})(transaction) for n in range(200)])
        )
    path = tmp_path / "data.sqlite3"
    data = path.read_bytes()
    path.write_bytes(data[:40_000] + b"\x5a" * 8_000 + data[48_000:])
    assert check_folder(tmp_path) != []
    path.write_bytes(data)


@pytest.mark.parametrize("name", [b"last_ts", b"epoch", b"next_tablet"])
async def test_damaged_global_values_are_listed(tmp_path, name):
    """Every other command refuses the file and refers to the check, which must not do the same."""
    async with opened(tmp_path / "data") as store:
        await store.write(unit(insert({"n": 1})))
    path = tmp_path / "data" / "data.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE globals SET key = 'x' || key WHERE key = ?", (name.decode(),))
        connection.commit()
    with pytest.raises(errors.FileDamaged, match="tinyvex check"):
        Store.open(tmp_path / "data", bound_runtime())
    assert any(name.decode() in problem for problem in check_folder(tmp_path / "data"))
    path.unlink()


async def test_a_damaged_page_of_global_values_is_a_problem(tmp_path):
    """SQLite cannot read one of them."""
    async with opened(tmp_path / "data") as store:
        await store.write(unit(insert({"n": 1})))
    path = tmp_path / "data" / "data.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'globals'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = b"\x5a" * size
    path.write_bytes(data)
    assert check_folder(tmp_path / "data") != []
    path.unlink()


async def test_a_backup_of_a_file_without_its_last_ts_is_refused(tmp_path):
    """With an error that states the damage."""
    async with opened(tmp_path / "data") as store:
        await store.write(unit(insert({"n": 1})))
    path = tmp_path / "data" / "data.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM globals WHERE key = 'last_ts'")
        connection.commit()
    with pytest.raises(errors.FileDamaged, match="last_ts"):
        back_up(tmp_path / "data", tmp_path / "copy")
    path.unlink()
