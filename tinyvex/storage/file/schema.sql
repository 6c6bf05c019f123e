-- Format 2 of the database file.
-- `documents` and `indexes` are the log: rows are appended and never changed.
-- Every row has a checksum of its other columns (checksums.py).

-- Every revision of every document.
-- `log_row` grows with every revision; `current` points at it.
CREATE TABLE documents (
    log_row    INTEGER PRIMARY KEY,
    ts         INTEGER NOT NULL,
    table_id   INTEGER NOT NULL,   -- the tablet; its number is never reused
    id         BLOB    NOT NULL,   -- the document key: 16 bytes of its id
    json_value BLOB,               -- canonical JSON with `_id` and `_creationTime`; NULL if deleted
    deleted    INTEGER NOT NULL,
    prev_ts    INTEGER,            -- the previous revision; NULL for the first
    checksum   INTEGER NOT NULL,
    UNIQUE (table_id, id, ts)
);

-- An entry for each revision at which a key begins or ends; a revision that does not change a key adds none.
CREATE TABLE indexes (
    index_id    INTEGER NOT NULL,
    key         BLOB    NOT NULL,  -- fields, creation time, and the document's 16 bytes
    ts          INTEGER NOT NULL,
    deleted     INTEGER NOT NULL,
    table_id    INTEGER NOT NULL,
    document_id BLOB    NOT NULL,
    checksum    INTEGER NOT NULL,
    PRIMARY KEY (index_id, key, ts)
) WITHOUT ROWID;

CREATE TABLE globals (
    key        TEXT PRIMARY KEY,
    json_value NOT NULL,           -- a number as an INTEGER, anything else as JSON text
    checksum   INTEGER NOT NULL
) WITHOUT ROWID;

-- Derived from the log in the same transaction: the newest entries of every index, pointing at the newest revisions.
-- With it, the cost of reading the newest state does not depend on the number of revisions.
CREATE TABLE current (
    index_id INTEGER NOT NULL,
    key      BLOB    NOT NULL,
    log_row  INTEGER NOT NULL,
    checksum INTEGER NOT NULL,     -- includes the revision's checksum
    PRIMARY KEY (index_id, key)
) WITHOUT ROWID;

-- The sessions that have rows in `requests`.
CREATE TABLE sessions (
    number     INTEGER PRIMARY KEY,
    session_id TEXT    NOT NULL UNIQUE,
    checksum   INTEGER NOT NULL
);

-- The results of mutations that a client may resend; see request_records.py.
CREATE TABLE requests (
    session      INTEGER NOT NULL,
    request_id   INTEGER NOT NULL,
    ts           INTEGER NOT NULL,
    digest       BLOB    NOT NULL,  -- of function, arguments and identity
    result       BLOB,              -- JSON; NULL for null
    log_lines    TEXT,              -- a JSON array of strings; NULL if it is empty
    acknowledged INTEGER NOT NULL,  -- the client never again asks for a lower request id
    checksum     INTEGER NOT NULL,
    PRIMARY KEY (session, request_id)
) WITHOUT ROWID;
