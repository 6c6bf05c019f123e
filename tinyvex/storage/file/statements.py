"""Name every SQL statement that is neither DDL nor a pragma."""

from __future__ import annotations

# Globals.

GLOBALS = "SELECT key, json_value, checksum FROM globals"
LAST_TS = "SELECT json_value FROM globals WHERE key = 'last_ts'"
SET_GLOBAL = "INSERT OR REPLACE INTO globals(key, json_value, checksum) VALUES (?, ?, ?)"
SET_LAST_TS = "UPDATE globals SET json_value = ?, checksum = ? WHERE key = 'last_ts'"
SNAPSHOT = (
    "SELECT key, json_value, checksum FROM globals WHERE key IN ('catalog_ts', 'floor_ts', 'last_ts') ORDER BY key"
)

# Reading documents. Rows of `documents` are always the columns of REVISION, which `checked_revision` verifies.

REVISION = "log_row, ts, table_id, id, json_value, prev_ts, checksum"
REVISION_OF_D = ", ".join([f"d.{column}" for column in REVISION.split(", ")])
GET = f"SELECT {REVISION} FROM documents WHERE table_id = ? AND id = ? AND ts <= ? ORDER BY ts DESC LIMIT 1"
GET_NEWEST = f"SELECT {REVISION} FROM documents WHERE table_id = ? AND id = ? ORDER BY ts DESC LIMIT 1"
REVISION_BEFORE = (
    f"SELECT {REVISION} FROM documents WHERE (table_id, id, ts) <= (?, ?, ?)"
    " ORDER BY table_id DESC, id DESC, ts DESC LIMIT 1"
)
REVISION_AFTER = (
    f"SELECT {REVISION} FROM documents WHERE (table_id, id, ts) > (?, ?, ?) ORDER BY table_id, id, ts LIMIT 1"
)
EXISTED = "SELECT 1 FROM documents WHERE table_id = ? AND id = ? LIMIT 1"
HISTORY = f"SELECT {REVISION} FROM documents WHERE table_id = ? AND id = ? AND ts <= ? ORDER BY ts DESC LIMIT ?"
REVISIONS_AFTER = (
    f"SELECT {REVISION} FROM documents WHERE table_id = ? AND id = ? AND ts > ? AND ts <= ? ORDER BY ts LIMIT ?"
)
TABLET_AT = (
    f"SELECT {REVISION} FROM documents AS d WHERE d.table_id = ?1 AND d.ts ="
    " (SELECT MAX(ts) FROM documents WHERE table_id = ?1 AND id = d.id AND ts <= ?2)"
)
# Includes purged rows: the last rows may have been deletions, which are purged entirely.
NEWEST_ROW = (
    "SELECT MAX(COALESCE((SELECT MAX(log_row) FROM documents), 0),"
    " COALESCE((SELECT json_value FROM globals WHERE key = 'swept_row'), 0))"
)
COUNT_TABLES = (
    "SELECT COUNT(*) FROM current AS c JOIN documents AS d USING (log_row) WHERE d.table_id = ?1 AND c.index_id = ?1"
)
FIRST_ROW = "SELECT log_row, ts FROM documents WHERE log_row >= ? ORDER BY log_row LIMIT 1"
LAST_ROW = "SELECT MAX(log_row) FROM documents"
REVISIONS_SINCE = f"SELECT {REVISION} FROM documents WHERE log_row > ? ORDER BY log_row LIMIT ?"
ROWS_SINCE = "SELECT log_row, table_id, id FROM documents WHERE log_row > ? ORDER BY log_row LIMIT ?"

# Scanning an index: the newest state, and the state at an earlier ts.

PAGE = (
    "SELECT c.key, c.checksum, d.ts, d.json_value"
    " FROM current AS c LEFT JOIN documents AS d ON d.log_row = c.log_row"
    " WHERE c.index_id = ? AND c.key >= ? AND c.key < ? ORDER BY c.key ASC LIMIT ?"
)
PAGE_REVERSE = PAGE.replace("ASC", "DESC")
ENTRY = "index_id, key, ts, deleted, table_id, checksum, document_id"
ENTRY_OF_I = ", ".join([f"i.{column}" for column in ENTRY.split(", ")])
ENTRIES = f"SELECT {ENTRY} FROM indexes WHERE index_id = ? AND key >= ? AND key < ? ORDER BY key ASC, ts ASC"
ENTRIES_REVERSE = ENTRIES.replace("ASC", "DESC")
ENTRY_BEFORE = (
    f"SELECT {ENTRY} FROM indexes WHERE (index_id, key) < (?, ?) ORDER BY index_id DESC, key DESC, ts DESC LIMIT 1"
)
ENTRY_FROM = f"SELECT {ENTRY} FROM indexes WHERE (index_id, key) >= (?, ?) ORDER BY index_id, key, ts LIMIT 1"
CURRENT_BEFORE = (
    "SELECT c.index_id, c.key, c.checksum, d.ts, d.json_value FROM current AS c LEFT JOIN documents AS d USING (log_row)"
    " WHERE (c.index_id, c.key) < (?, ?) ORDER BY c.index_id DESC, c.key DESC LIMIT 1"
)
CURRENT_FROM = (
    "SELECT c.index_id, c.key, c.checksum, d.ts, d.json_value FROM current AS c LEFT JOIN documents AS d USING (log_row)"
    " WHERE (c.index_id, c.key) >= (?, ?) ORDER BY c.index_id, c.key LIMIT 1"
)
COUNT_PAGE = (
    "SELECT COUNT(*), MAX(key) FROM"
    " (SELECT key FROM current WHERE index_id = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?)"
)

# Writing a commit.

INSERT_DOCUMENT = (
    "INSERT INTO documents(log_row, ts, table_id, id, json_value, deleted, prev_ts, checksum)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
INSERT_INDEX = (
    "INSERT INTO indexes(index_id, key, ts, deleted, table_id, document_id, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
INSERT_CURRENT = "INSERT INTO current(index_id, key, log_row, checksum) VALUES (?, ?, ?, ?)"
UPDATE_CURRENT = "UPDATE current SET log_row = ?, checksum = ? WHERE index_id = ? AND key = ?"
DELETE_CURRENT = "DELETE FROM current WHERE index_id = ? AND key = ?"

# Requests.

_REQUEST_ROW = "r.session, r.request_id, r.ts, r.digest, r.result, r.log_lines, r.acknowledged, r.checksum"
NEWEST_REQUEST = (
    f"SELECT {_REQUEST_ROW} FROM sessions AS s CROSS JOIN requests AS r ON r.session = s.number"
    " WHERE s.session_id = ? ORDER BY r.request_id DESC LIMIT 1"
)
REQUEST = f"SELECT {_REQUEST_ROW} FROM requests AS r WHERE r.session = ? AND r.request_id = ?"
ADD_SESSION = "INSERT INTO sessions(session_id, checksum) VALUES (?, ?)"
INSERT_REQUEST = (
    "INSERT INTO requests(session, request_id, ts, digest, result, log_lines, acknowledged, checksum)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
DELETE_REQUESTS_BELOW = "DELETE FROM requests WHERE session = ? AND request_id < ?"
REQUESTS_ABOVE = (
    "SELECT session, request_id, ts, digest, result, log_lines, acknowledged, checksum FROM requests"
    " WHERE session = ? AND request_id > ?"
)
RAISE_ACKNOWLEDGED = "UPDATE requests SET acknowledged = ?, checksum = ? WHERE session = ? AND request_id = ?"
REQUEST_KEY_AFTER = (
    "SELECT session, request_id FROM requests WHERE (session, request_id) > (?, ?)"
    " ORDER BY session, request_id LIMIT 1 OFFSET ?"
)
LAST_REQUEST_KEY = "SELECT session, request_id FROM requests ORDER BY session DESC, request_id DESC LIMIT 1"
_RESULT_BYTES = "COALESCE(LENGTH(result), 0) + COALESCE(LENGTH(log_lines), 0)"
# Without an upper bound: to compare a key with one, SQLite reads the whole row, whose result may be large.
REQUESTS_AFTER = (
    f"SELECT session, request_id, ts, {_RESULT_BYTES} FROM requests WHERE (session, request_id) > (?, ?)"
    " ORDER BY session, request_id LIMIT ?"
)
EXPIRE_REQUESTS = (
    "DELETE FROM requests WHERE (session, request_id) > (?, ?) AND (session, request_id) <= (?, ?) AND ts < ?"
)
END_SESSIONS = (
    "DELETE FROM sessions WHERE number BETWEEN ? AND ?"
    " AND NOT EXISTS (SELECT 1 FROM requests WHERE session = sessions.number)"
)

# Building and dropping an index.

BACKFILL_PAGE = (
    f"SELECT {REVISION_OF_D} FROM current AS c LEFT JOIN documents AS d ON d.log_row = c.log_row"
    " WHERE c.index_id = ? AND c.key >= ? AND c.key < ? ORDER BY c.key"
)
BACKFILL_INDEX = (
    "INSERT INTO indexes(index_id, key, ts, deleted, table_id, document_id, checksum)"
    " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS (SELECT 1 FROM current WHERE index_id = ?1 AND key = ?2)"
)
BACKFILL_CURRENT = "INSERT OR IGNORE INTO current(index_id, key, log_row, checksum) VALUES (?, ?, ?, ?)"
FIRST_CURRENT = "SELECT MAX(key) FROM (SELECT key FROM current WHERE index_id = ? ORDER BY key LIMIT ?)"
FIRST_ENTRIES = "SELECT MAX(key) FROM (SELECT key FROM indexes WHERE index_id = ? ORDER BY key, ts LIMIT ?)"
COUNT_CURRENT_TO = "SELECT COUNT(*) FROM current WHERE index_id = ? AND key <= ?"
DROP_CURRENT_BELOW = "DELETE FROM current WHERE index_id = ? AND key < ?"
DROP_ENTRIES_BELOW = "DELETE FROM indexes WHERE index_id = ? AND key < ?"

# Upgrading documents: the staged contents (s) of documents that have not changed since (t).

_STAGED = (
    " FROM documents AS s CROSS JOIN documents AS t ON t.table_id = :target AND t.id = s.id AND t.ts ="
    " (SELECT MAX(ts) FROM documents WHERE table_id = :target AND id = s.id AND ts < :ts)"
    " WHERE s.table_id = :source AND t.ts < s.ts AND s.ts ="
    " (SELECT MAX(ts) FROM documents WHERE table_id = :source AND id = s.id)"
)
_REVISIONS_OF_BOTH = f"{REVISION_OF_D.replace('d.', 's.')}, {REVISION_OF_D.replace('d.', 't.')}"
STAGED_PAGE = f"SELECT {_REVISIONS_OF_BOTH} {_STAGED} AND s.id > :after ORDER BY s.id LIMIT :limit"
COUNT_STAGED = f"SELECT COUNT(*) {_STAGED}"

# Clearing tablets; housekeeping.

CLEAR_CURRENT_STEP = (
    "DELETE FROM current WHERE index_id = ?1 AND key IN (SELECT key FROM current WHERE index_id = ?1 LIMIT ?2)"
)
CLEAR_ENTRIES_STEP = (
    "DELETE FROM indexes WHERE index_id = ?1 AND key IN (SELECT key FROM indexes WHERE index_id = ?1 LIMIT ?2)"
)
CLEAR_TABLET_STEP = (
    "DELETE FROM documents WHERE log_row IN (SELECT log_row FROM documents WHERE table_id = ?1 LIMIT ?2)"
)

# Replacing a table's contents, and appending to them.

COMMON_DOCUMENT = (
    "SELECT s.id FROM documents AS s WHERE s.table_id = ?1"
    " AND EXISTS (SELECT 1 FROM documents AS t WHERE t.table_id = ?2 AND t.id = s.id) LIMIT 1"
)
MOVE_DOCUMENTS_PAGE = f"SELECT {REVISION} FROM documents WHERE table_id = ? AND id > ? ORDER BY id LIMIT ?"
MOVE_ENTRIES_PAGE = (
    f"SELECT {ENTRY_OF_I}, d.log_row, d.json_value FROM indexes AS i CROSS JOIN documents AS d"
    " ON d.table_id = :tablet AND d.id = i.document_id AND d.ts = :ts"
    " WHERE i.index_id = :source AND i.key > :after ORDER BY i.key LIMIT :limit"
)

# Purging history.

USED_BYTES = (
    "SELECT (page_count - freelist_count) * page_size"
    " FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
)
LOG_AFTER = "SELECT log_row, ts FROM documents WHERE log_row > ? ORDER BY log_row LIMIT ?"
# The plus keeps SQLite from reading the whole table by its id instead of a few log rows.
DELETED_BETWEEN = (
    "SELECT 1 FROM documents WHERE log_row > ? AND log_row <= ? AND json_value IS NULL AND +table_id = ? LIMIT 1"
)
REVISIONS_OF = f"SELECT {REVISION} FROM documents WHERE table_id = ? AND json_value IS NOT NULL ORDER BY id, ts"
DELETE_REPLACED = (
    "DELETE FROM documents WHERE log_row IN (SELECT p.log_row FROM documents AS d CROSS JOIN documents AS p"
    " ON p.table_id = d.table_id AND p.id = d.id AND p.ts = d.prev_ts WHERE d.log_row > ? AND d.log_row <= ?)"
)
DELETE_DELETIONS = "DELETE FROM documents WHERE log_row > ? AND log_row <= ? AND json_value IS NULL"
COUNT_PURGEABLE = (
    "SELECT (SELECT COUNT(*) FROM documents AS d CROSS JOIN documents AS p"
    " ON p.table_id = d.table_id AND p.id = d.id AND p.ts = d.prev_ts"
    " WHERE d.log_row > ?1 AND d.ts <= ?2 AND d.table_id NOT IN (SELECT value FROM json_each(?3)))"
    " + (SELECT COUNT(*) FROM documents WHERE log_row > ?1 AND ts <= ?2 AND json_value IS NULL"
    " AND table_id NOT IN (SELECT value FROM json_each(?3)))"
    " + (SELECT COUNT(*) FROM documents WHERE table_id IN (SELECT value FROM json_each(?3)))"
)
ENTRIES_AFTER = "SELECT index_id, key FROM indexes WHERE (index_id, key) > (?, ?) ORDER BY index_id, key, ts LIMIT ?"
DELETE_ENTRIES = (
    "DELETE FROM indexes WHERE (index_id, key) > (?1, ?2) AND (index_id, key) <= (?3, ?4) AND ts <= ?5 AND (deleted"
    " OR EXISTS (SELECT 1 FROM indexes AS n"
    " WHERE n.index_id = indexes.index_id AND n.key = indexes.key AND n.ts > indexes.ts AND n.ts <= ?5)"
    " OR (index_id >= ?6 AND index_id < ?7 AND index_id NOT IN (SELECT value FROM json_each(?8))))"
)

# Counting.

COUNT_REVISIONS = "SELECT table_id, COUNT(*), COALESCE(SUM(LENGTH(json_value)), 0) FROM documents GROUP BY table_id"
COUNT_CURRENT = "SELECT COUNT(*) FROM current WHERE index_id = ?"
_PAGE_SIZE = "(SELECT page_size FROM pragma_page_size())"


def _stored_size(length: str, overhead: int) -> str:
    """
    Return the expression for what a row without rowid takes in the file, without its overhead.

    SQLite stores at most about a quarter of a page in the tree. Of a longer row it moves all but an eighth of a page into
    pages that hold nothing else (https://www.sqlite.org/fileformat2.html#b_tree_pages).
    """
    longest = f"(({_PAGE_SIZE} - 12) * 64 / 255 - 23 - {overhead})"
    pages = f"(({length} - {longest} + {_PAGE_SIZE} - 5) / ({_PAGE_SIZE} - 4))"
    return f"CASE WHEN {length} > {longest} THEN {_PAGE_SIZE} / 8 + {pages} * {_PAGE_SIZE} ELSE {length} END"


_KEY_SIZE = _stored_size("LENGTH(key)", 25)
LIVE_ENTRIES_PAGE = (
    f"SELECT COUNT(*), MAX(key), COALESCE(SUM({_KEY_SIZE}), 0), 0"
    " FROM (SELECT key FROM current WHERE index_id = ? AND key > ? ORDER BY key LIMIT ?)"
)
LIVE_DOCUMENTS_PAGE = (
    "SELECT COUNT(*), MAX(c.key), COALESCE(SUM(LENGTH(c.key)), 0), COALESCE(SUM(LENGTH(d.json_value)), 0)"
    " FROM (SELECT key, log_row FROM current WHERE index_id = ? AND key > ? ORDER BY key LIMIT ?) AS c"
    " CROSS JOIN documents AS d ON d.log_row = c.log_row"
)
REQUESTS_SIZE = (
    "SELECT COUNT(*), COUNT(DISTINCT NULLIF(session, ?1)),"
    f" COALESCE(SUM({_stored_size(f'({_RESULT_BYTES})', 35)}), 0)"
    " FROM requests WHERE (session, request_id) > (?1, ?2) AND (session, request_id) <= (?3, ?4)"
)
HAS_REVISIONS = "SELECT 1 FROM documents WHERE table_id = ? LIMIT 1"
COUNT_REVISIONS_OF = "SELECT COUNT(*) FROM documents WHERE table_id = ?"
SIZE_FIRST = (
    "SELECT COALESCE(SUM(LENGTH(json_value)), 0) FROM documents WHERE log_row IN"
    " (SELECT log_row FROM current WHERE index_id = ? ORDER BY key ASC LIMIT ?)"
)
SIZE_LAST = SIZE_FIRST.replace("ASC", "DESC")
FREE_BYTES = "SELECT freelist_count * page_size FROM pragma_freelist_count(), pragma_page_size()"

FOREIGN_OBJECT = "SELECT type, name FROM sqlite_schema WHERE type NOT IN ('table', 'index') LIMIT 1"

# Checking.

CHECK_OBJECTS = r"SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\'"
CHECK_COLUMNS = 'SELECT name, type, "notnull", pk FROM pragma_table_info(?) ORDER BY cid'
CHECK_SHAPE = "SELECT {name} FROM {table} WHERE ({shape}) IS NOT TRUE LIMIT ?"
CHECKSUMS_DOCUMENTS = "SELECT log_row, ts, table_id, id, json_value, prev_ts, checksum FROM documents ORDER BY log_row"
CHECKSUMS_SESSIONS = "SELECT session_id, checksum FROM sessions ORDER BY number"
CHECKSUMS_REQUESTS = (
    "SELECT session, request_id, ts, digest, result, log_lines, acknowledged, checksum FROM requests"
    " ORDER BY session, request_id"
)
CHECK_CATALOG_TS = "SELECT COALESCE(MAX(ts), 0) FROM documents WHERE table_id IN (?, ?)"
CHECK_LOG_ORDER = "SELECT log_row, ts FROM documents ORDER BY log_row"
CHECK_DOCUMENTS = (
    "SELECT table_id, id, ts, log_row, json_value, deleted, prev_ts FROM documents ORDER BY table_id, id, ts"
)
# `d` is the revision that `current` points at. It is nearly always the entry's own; `r` is searched for only if it is not.
CHECK_ENTRIES = (
    "SELECT i.index_id, i.key, i.ts, i.deleted, i.table_id, i.document_id, i.checksum, c.log_row, c.checksum,"
    " d.table_id, d.id, d.ts, d.json_value,"
    " EXISTS (SELECT 1 FROM documents WHERE table_id = d.table_id AND id = d.id AND ts > d.ts),"
    " r.log_row, r.json_value"
    " FROM indexes AS i LEFT JOIN current AS c ON c.index_id = i.index_id AND c.key = i.key"
    " LEFT JOIN documents AS d ON d.log_row = c.log_row"
    " LEFT JOIN documents AS r ON r.id = i.document_id AND r.ts = i.ts AND r.table_id ="
    " CASE WHEN d.ts = i.ts AND d.id = i.document_id AND d.table_id = i.table_id THEN NULL ELSE i.table_id END"
    " ORDER BY i.index_id, i.key, i.ts"
)
CHECK_CURRENT_WITHOUT_ENTRY = (
    "SELECT c.index_id, c.key, c.checksum, d.ts, d.json_value FROM current AS c"
    " LEFT JOIN documents AS d ON d.log_row = c.log_row"
    " WHERE NOT EXISTS (SELECT 1 FROM indexes WHERE index_id = c.index_id AND key = c.key)"
)
CHECK_REVISIONS_OF = "SELECT id, ts, json_value FROM documents WHERE table_id = ? ORDER BY id, ts"
CHECK_PAST_ENTRY = "SELECT deleted FROM indexes WHERE index_id = ? AND key = ? AND ts <= ? ORDER BY ts DESC LIMIT 1"
CHECK_REQUESTS = "SELECT ts, log_lines, result FROM requests"
CHECK_REQUESTS_WITHOUT_SESSION = (
    "SELECT DISTINCT session FROM requests WHERE session NOT IN (SELECT number FROM sessions)"
)
CHECK_SESSIONS = (
    "SELECT s.number, MIN(r.request_id), MAX(r.acknowledged),"
    " (SELECT acknowledged FROM requests WHERE session = s.number ORDER BY request_id DESC LIMIT 1)"
    " FROM sessions AS s LEFT JOIN requests AS r ON r.session = s.number GROUP BY s.number"
)
