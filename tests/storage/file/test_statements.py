"""The plan of every SQL statement: a wrong index costs nothing in a small file, and minutes in a large one."""

import ast
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import tinyvex
from tests.support.storage import MemoryStore, insert, unit
from tinyvex.storage.file import statements
from tinyvex.storage.file.format_changes import FORMAT_CHANGES

FIXTURES = Path(__file__).parents[2] / "fixtures"

STATEMENT = re.compile(r"(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|VACUUM) ")

PLANS = {
    "GLOBALS": ["SCAN globals"],
    "LAST_TS": ["SEARCH globals BY KEY (key=?)"],
    "SET_GLOBAL": [],
    "SET_LAST_TS": ["SEARCH globals BY KEY (key=?)"],
    "SNAPSHOT": ["SEARCH globals BY KEY (key=?)"],
    "GET": ["SEARCH documents BY id (table_id=? AND id=? AND ts<?)"],
    "GET_NEWEST": ["SEARCH documents BY id (table_id=? AND id=?)"],
    "REVISION_BEFORE": ["SEARCH documents BY id ((table_id,id,ts)<(?,?,?))"],
    "REVISION_AFTER": ["SEARCH documents BY id ((table_id,id,ts)>(?,?,?))"],
    "EXISTED": ["SEARCH documents BY id ALONE (table_id=? AND id=?)"],
    "HISTORY": ["SEARCH documents BY id (table_id=? AND id=? AND ts<?)"],
    "REVISIONS_AFTER": ["SEARCH documents BY id (table_id=? AND id=? AND ts>? AND ts<?)"],
    "TABLET_AT": ["SEARCH d BY id (table_id=?)", "SEARCH documents BY id ALONE (table_id=? AND id=? AND ts<?)"],
    "NEWEST_ROW": ["SEARCH documents", "SEARCH globals BY KEY (key=?)"],
    "COUNT_TABLES": ["SEARCH c BY KEY (index_id=?)", "SEARCH d BY ROW (rowid=?)"],
    "FIRST_ROW": ["SEARCH documents BY ROW (rowid>?)"],
    "LAST_ROW": ["SEARCH documents"],
    "REVISIONS_SINCE": ["SEARCH documents BY ROW (rowid>?)"],
    "ROWS_SINCE": ["SEARCH documents BY ROW (rowid>?)"],
    "PAGE": ["SEARCH c BY KEY (index_id=? AND key>? AND key<?)", "SEARCH d BY ROW (rowid=?)"],
    "PAGE_REVERSE": ["SEARCH c BY KEY (index_id=? AND key>? AND key<?)", "SEARCH d BY ROW (rowid=?)"],
    "ENTRIES": ["SEARCH indexes BY KEY (index_id=? AND key>? AND key<?)"],
    "ENTRIES_REVERSE": ["SEARCH indexes BY KEY (index_id=? AND key>? AND key<?)"],
    "ENTRY_BEFORE": ["SEARCH indexes BY KEY ((index_id,key)<(?,?))"],
    "ENTRY_FROM": ["SEARCH indexes BY KEY ((index_id,key)>(?,?))"],
    "CURRENT_BEFORE": ["SEARCH c BY KEY ((index_id,key)<(?,?))", "SEARCH d BY ROW (rowid=?)"],
    "CURRENT_FROM": ["SEARCH c BY KEY ((index_id,key)>(?,?))", "SEARCH d BY ROW (rowid=?)"],
    "COUNT_PAGE": ["SEARCH current BY KEY (index_id=? AND key>? AND key<?)", "SCAN subquery"],
    "INSERT_DOCUMENT": [],
    "INSERT_INDEX": [],
    "INSERT_CURRENT": [],
    "UPDATE_CURRENT": ["SEARCH current BY KEY (index_id=? AND key=?)"],
    "DELETE_CURRENT": ["SEARCH current BY KEY (index_id=? AND key=?)"],
    "NEWEST_REQUEST": ["SEARCH s BY session_id (session_id=?)", "SEARCH r BY KEY (session=?)"],
    "REQUEST": ["SEARCH r BY KEY (session=? AND request_id=?)"],
    "ADD_SESSION": [],
    "INSERT_REQUEST": [],
    "DELETE_REQUESTS_BELOW": ["SEARCH requests BY KEY (session=? AND request_id<?)"],
    "REQUESTS_ABOVE": ["SEARCH requests BY KEY (session=? AND request_id>?)"],
    "RAISE_ACKNOWLEDGED": ["SEARCH requests BY KEY (session=? AND request_id=?)"],
    "REQUEST_KEY_AFTER": ["SEARCH requests BY KEY ((session,request_id)>(?,?))"],
    "LAST_REQUEST_KEY": ["SCAN requests"],
    "REQUESTS_AFTER": ["SEARCH requests BY KEY ((session,request_id)>(?,?))"],
    "EXPIRE_REQUESTS": ["SEARCH requests BY KEY ((session,request_id)>(?,?) AND (session,request_id)<(?,?))"],
    "END_SESSIONS": ["SEARCH sessions BY ROW (rowid>? AND rowid<?)", "SEARCH requests BY KEY (session=?)"],
    "BACKFILL_PAGE": ["SEARCH c BY KEY (index_id=? AND key>? AND key<?)", "SEARCH d BY ROW (rowid=?)"],
    "BACKFILL_INDEX": ["SEARCH current BY KEY (index_id=? AND key=?)"],
    "BACKFILL_CURRENT": [],
    "FIRST_CURRENT": ["SEARCH current BY KEY (index_id=?)", "SEARCH subquery"],
    "FIRST_ENTRIES": ["SEARCH indexes BY KEY (index_id=?)", "SEARCH subquery"],
    "COUNT_CURRENT_TO": ["SEARCH current BY KEY (index_id=? AND key<?)"],
    "DROP_CURRENT_BELOW": ["SEARCH current BY KEY (index_id=? AND key<?)"],
    "DROP_ENTRIES_BELOW": ["SEARCH indexes BY KEY (index_id=? AND key<?)"],
    "STAGED_PAGE": [
        "SEARCH s BY id (table_id=? AND id>?)",
        "SEARCH documents BY id ALONE (table_id=? AND id=?)",
        "SEARCH t BY id (table_id=? AND id=? AND ts=?)",
        "SEARCH documents BY id ALONE (table_id=? AND id=? AND ts<?)",
    ],
    "COUNT_STAGED": [
        "SEARCH s BY id ALONE (table_id=?)",
        "SEARCH documents BY id ALONE (table_id=? AND id=?)",
        "SEARCH t BY id ALONE (table_id=? AND id=? AND ts=?)",
        "SEARCH documents BY id ALONE (table_id=? AND id=? AND ts<?)",
    ],
    "CLEAR_CURRENT_STEP": ["SEARCH current BY KEY (index_id=? AND key=?)", "SEARCH current BY KEY (index_id=?)"],
    "CLEAR_ENTRIES_STEP": ["SEARCH indexes BY KEY (index_id=? AND key=?)", "SEARCH indexes BY KEY (index_id=?)"],
    "CLEAR_TABLET_STEP": ["SEARCH documents BY ROW (rowid=?)", "SEARCH documents BY id ALONE (table_id=?)"],
    "COMMON_DOCUMENT": ["SEARCH s BY id ALONE (table_id=?)", "SEARCH t BY id ALONE (table_id=? AND id=?)"],
    "MOVE_DOCUMENTS_PAGE": ["SEARCH documents BY id (table_id=? AND id>?)"],
    "MOVE_ENTRIES_PAGE": ["SEARCH i BY KEY (index_id=? AND key>?)", "SEARCH d BY id (table_id=? AND id=? AND ts=?)"],
    "USED_BYTES": [],
    "LOG_AFTER": ["SEARCH documents BY ROW (rowid>?)"],
    "DELETED_BETWEEN": ["SEARCH documents BY ROW (rowid>? AND rowid<?)"],
    "REVISIONS_OF": ["SEARCH documents BY id (table_id=?)"],
    "DELETE_REPLACED": [
        "SEARCH documents BY ROW (rowid=?)",
        "SEARCH d BY ROW (rowid>? AND rowid<?)",
        "SEARCH p BY id ALONE (table_id=? AND id=? AND ts=?)",
    ],
    "DELETE_DELETIONS": ["SEARCH documents BY ROW (rowid>? AND rowid<?)"],
    "COUNT_PURGEABLE": [
        "SEARCH d BY ROW (rowid>?)",
        "SCAN json_each VIRTUAL TABLE INDEX 1:",
        "SEARCH p BY id ALONE (table_id=? AND id=? AND ts=?)",
        "SEARCH documents BY ROW (rowid>?)",
        "SCAN json_each VIRTUAL TABLE INDEX 1:",
        "SEARCH documents BY id ALONE (table_id=?)",
        "SCAN json_each VIRTUAL TABLE INDEX 1:",
    ],
    "ENTRIES_AFTER": ["SEARCH indexes BY KEY ((index_id,key)>(?,?))"],
    "DELETE_ENTRIES": [
        "SEARCH indexes BY KEY ((index_id,key)>(?,?) AND (index_id,key)<(?,?))",
        "SEARCH n BY KEY (index_id=? AND key=? AND ts>? AND ts<?)",
        "SCAN json_each VIRTUAL TABLE INDEX 1:",
    ],
    "COUNT_REVISIONS": ["SCAN documents BY id"],
    "COUNT_CURRENT": ["SEARCH current BY KEY (index_id=?)"],
    "LIVE_ENTRIES_PAGE": ["SEARCH current BY KEY (index_id=? AND key>?)", "SCAN subquery"],
    "LIVE_DOCUMENTS_PAGE": ["SEARCH current BY KEY (index_id=? AND key>?)", "SCAN c", "SEARCH d BY ROW (rowid=?)"],
    "REQUESTS_SIZE": [
        "USE TEMP B-TREE FOR count(DISTINCT)",
        "SEARCH requests BY KEY ((session,request_id)>(?,?) AND (session,request_id)<(?,?))",
    ],
    "HAS_REVISIONS": ["SEARCH documents BY id ALONE (table_id=?)"],
    "COUNT_REVISIONS_OF": ["SEARCH documents BY id ALONE (table_id=?)"],
    "SIZE_FIRST": ["SEARCH documents BY ROW (rowid=?)", "SEARCH current BY KEY (index_id=?)"],
    "SIZE_LAST": ["SEARCH documents BY ROW (rowid=?)", "SEARCH current BY KEY (index_id=?)"],
    "FREE_BYTES": [],
    "FOREIGN_OBJECT": ["SCAN sqlite_schema"],
    "CHECK_OBJECTS": ["SCAN sqlite_schema"],
    "CHECK_COLUMNS": ["USE TEMP B-TREE FOR ORDER BY"],
    "CHECK_SHAPE": ["SCAN documents BY id ALONE"],
    "CHECKSUMS_DOCUMENTS": ["SCAN documents"],
    "CHECKSUMS_SESSIONS": ["SCAN sessions"],
    "CHECKSUMS_REQUESTS": ["SCAN requests"],
    "CHECK_CATALOG_TS": ["SEARCH documents BY id ALONE (table_id=?)"],
    "CHECK_LOG_ORDER": ["SCAN documents"],
    "CHECK_DOCUMENTS": ["SCAN documents BY id"],
    "CHECK_ENTRIES": [
        "SCAN i",
        "SEARCH c BY KEY (index_id=? AND key=?)",
        "SEARCH d BY ROW (rowid=?)",
        "SEARCH r BY id (table_id=? AND id=? AND ts=?)",
        "SEARCH documents BY id ALONE (table_id=? AND id=? AND ts>?)",
    ],
    "CHECK_CURRENT_WITHOUT_ENTRY": [
        "SCAN c",
        "SEARCH indexes BY KEY (index_id=? AND key=?)",
        "SEARCH d BY ROW (rowid=?)",
    ],
    "CHECK_REVISIONS_OF": ["SEARCH documents BY id (table_id=?)"],
    "CHECK_PAST_ENTRY": ["SEARCH indexes BY KEY (index_id=? AND key=? AND ts<?)"],
    "CHECK_REQUESTS": ["SCAN requests"],
    "CHECK_REQUESTS_WITHOUT_SESSION": ["SCAN requests"],
    "CHECK_SESSIONS": ["SCAN s", "SEARCH r BY KEY (session=?)", "SEARCH requests BY KEY (session=?)"],
}
"""
The accesses of each statement's plan in order, of tables and subqueries; a statement without any only inserts.

`BY id` is the index of `documents` over tablet, document and `ts`, `BY session_id` that of `sessions`, `BY KEY` a primary key.
"""

COPIES = {
    (2, 0, "documents"): ["SEARCH old.documents BY ROW (rowid>?)"],
    (2, 1, "indexes"): ["SEARCH old.indexes BY KEY ((index_id,key,ts)>(?,?,?))"],
    (2, 2, "current"): ["SEARCH old.current BY KEY ((index_id,key)>(?,?))", "SEARCH d BY ROW (rowid=?)"],
    (2, 3, "requests"): ["SEARCH old.requests BY ROW (rowid>?)"],
    (2, 4, "requests"): ["SEARCH old.requests BY ROW (rowid>?)", "SEARCH s BY session_id (session_id=?)"],
    (2, 5, "globals"): ["SEARCH old.globals BY KEY (key>?)"],
}
"""The same for each table that an upgrade of the file copies."""

ELSEWHERE = {
    ("storage/engine/store.py", "SELECT sqlite_version()"),
    ("storage/file/database_file.py", "SELECT 1 FROM sqlite_schema LIMIT 1"),
    ("storage/file/upgrade.py", "INSERT INTO upgrade VALUES (?, ?, 0, 0, NULL, NULL, NULL)"),
    ("storage/file/upgrade.py", "SELECT 1 FROM sqlite_schema LIMIT 1"),
    ("storage/file/upgrade.py", "SELECT COUNT(*) FROM old."),
    ("storage/file/upgrade.py", "SELECT source, format FROM upgrade"),
    ("storage/file/upgrade.py", "SELECT table_number, done, a, b, c FROM upgrade"),
    ("storage/file/upgrade.py", "UPDATE upgrade SET table_number = ?, done = ?, a = ?, b = ?, c = ?"),
    ("storage/maintenance/check.py", "SELECT COALESCE(MAX(ts), 0) FROM "),
    ("storage/maintenance/check.py", "SELECT COUNT(*) FROM "),
    ("storage/maintenance/compaction.py", "VACUUM INTO ?"),
    ("storage/maintenance/table_statistics.py", "SELECT sqlite_version()"),
}
"""The statements outside `statements.py` and `format_changes.py`: of one row, or of a whole table once."""


def named_statements():
    return {
        name: text
        for name, text in vars(statements).items()
        if name.isupper() and isinstance(text, str) and STATEMENT.match(text)
    }


def plan(connection, text):
    """Return the accesses of a statement's plan, without what differs between versions of SQLite."""
    names = re.findall(r":([a-z]+)", text)
    count = max(map(int, re.findall(r"\?(\d+)", text)), default=text.count("?"))
    rows = connection.execute(f"EXPLAIN QUERY PLAN {text}", dict.fromkeys(names, 0) if names else (0,) * count)
    lines = [
        row[3].replace("USING INDEX sqlite_autoindex_documents_1", "BY id")
        .replace("USING COVERING INDEX sqlite_autoindex_documents_1", "BY id ALONE")
        .replace("USING COVERING INDEX sqlite_autoindex_sessions_1", "BY session_id")
        .replace("USING INTEGER PRIMARY KEY", "BY ROW")
        .replace("USING PRIMARY KEY", "BY KEY")
        .removesuffix(" LEFT-JOIN")
        for row in rows
    ]  # fmt: skip
    return [
        re.sub(r"\(subquery-\d+\)", "subquery", line)
        for line in lines
        if re.match("SEARCH|SCAN|USE TEMP", line) and "CONSTANT ROW" not in line and "pragma_" not in line
    ]


@pytest.fixture(scope="module")
def filled():
    """Open a log with documents, revisions, deletions and the record of a request."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    stored = store.run(unit(lambda t: [insert({"n": n})(t).internal for n in range(500)], request=("session", 1)))
    store.run(unit(lambda t: [t.put(t.catalog.table("items"), key, None) for key in stored[:250]]))
    return store


def test_every_statement_has_an_entry():
    """A new statement fails this test until its plan is stated."""
    assert PLANS.keys() == named_statements().keys()


@pytest.mark.parametrize("name", PLANS)
def test_a_statement_has_the_plan_that_is_stated(filled, name):
    """A search by the key that it names, or a scan if everything is wanted."""
    text = named_statements()[name]
    if name == "CHECK_SHAPE":
        text = text.format(name="log_row", table="documents", shape="ts IS NOT NULL")
    assert plan(filled.connection, text) == PLANS[name]


def test_an_upgrade_copies_each_table_in_the_order_of_its_key():
    """A page of a copy neither sorts nor scans the table from its beginning."""
    plans = {}
    for change in FORMAT_CHANGES.values():
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(change.schema)
            connection.execute("ATTACH ? AS old", (f"{FIXTURES}/format-{change.format - 1}.sqlite3",))
            for number, copy in enumerate(change.copies):
                assert plan(connection, copy.insert) == []
                plans[change.format, number, copy.table] = plan(connection, copy.page)
    assert plans == COPIES


def test_all_other_statements_are_listed():
    """So that every statement with a plan worth a test is in `statements.py`."""
    written = set()
    package = Path(tinyvex.__file__).parent
    for path in package.rglob("*.py"):
        if path.name in ("statements.py", "format_changes.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                node = node.values[0]  # noqa: PLW2901 - the constant that it begins with
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.match(node.value):
                written.add((path.relative_to(package).as_posix(), node.value))
    assert written == ELSEWHERE
