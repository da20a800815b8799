"""Tables of the update journal, and the migration of tables of earlier versions."""

import sqlite3

from cl2cm.index.database import check_schema

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, bytes INTEGER NOT NULL, modified INTEGER NOT NULL, content TEXT NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS vectors (
    content TEXT NOT NULL, start REAL NOT NULL, "end" REAL NOT NULL, model TEXT NOT NULL,
    vector BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS dates (
    content TEXT PRIMARY KEY, taken TEXT NOT NULL, checksum INTEGER NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS vector_of ON vectors (content, start, "end", model);
"""
CHANGED = {
    "dates": "checksum <> row_sum(content, taken)",
    "files": "checksum <> row_sum(path, bytes, modified, content)",
    "vectors": 'checksum <> row_sum(content, start, "end", model, vector)',
}
_BEFORE = """
CREATE TABLE files (
    path TEXT PRIMARY KEY, bytes INTEGER NOT NULL, modified INTEGER NOT NULL, content TEXT NOT NULL
);
CREATE TABLE vectors (
    content TEXT NOT NULL, start REAL NOT NULL, "end" REAL NOT NULL, model TEXT NOT NULL,
    vector BLOB NOT NULL, PRIMARY KEY (content, start, "end", model)
) WITHOUT ROWID;
"""  # without checksums, and in a kind of table that takes three times the room of a vector
_DATES = "CREATE TABLE dates (content TEXT PRIMARY KEY, taken TEXT NOT NULL)"
_RENEW = (
    "DROP TABLE IF EXISTS dates",
    "ALTER TABLE files RENAME TO old_files",
    "ALTER TABLE vectors RENAME TO old_vectors",
    *(statement for statement in SCHEMA.split(";") if statement.strip()),
    "INSERT INTO files SELECT path, bytes, modified, content, "
    "row_sum(path, bytes, modified, content) FROM old_files",
    'INSERT INTO vectors SELECT content, start, "end", model, vector, '
    'row_sum(content, start, "end", model, vector) FROM old_vectors',
    "DROP TABLE old_files",
    "DROP TABLE old_vectors",
)


def renew(db: sqlite3.Connection) -> None:
    """Copy the rows of a journal of an earlier version into tables with checksums."""
    if not _is_of_before(db):
        return
    with db:
        db.execute("BEGIN IMMEDIATE")
        if _is_of_before(db):  # another process could have done it
            for statement in _RENEW:
                db.execute(statement)


def _is_of_before(db: sqlite3.Connection) -> bool:
    for schema in (_BEFORE, _BEFORE + _DATES):
        try:
            check_schema(db, schema)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) is not None:  # SQLite's own: it is damaged
                raise
        else:
            return True
    return False
