"""Untrusted SQLite files: nothing in them is executed, and every query is limited in time.

A file of SQLite brings its own program: views that never end, triggers, generated columns. So its
schema must be, word for word, the one that we write; each question has a limit of time; and a field
has a limit of size.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cl2cm.storage import open_confined

FIELD_LIMIT = 2**24  # bytes; a line of a manifest is shorter
SECONDS = 60.0  # of one question
_STEPS = 10_000  # of SQLite's machine between two looks at the clock


def check_file(path: Path) -> None:
    """Refuse a link, a pipe or a device in the place of a file of SQLite.

    Raises:
        FileNotFoundError: there is one, or nothing.
    """
    open_confined(path, [path.parent]).close()


def confine(base: sqlite3.Connection) -> None:
    """Distrust the schema, and limit the size of values."""
    base.execute("PRAGMA trusted_schema = OFF")
    base.execute("PRAGMA cell_size_check = ON")
    base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, FIELD_LIMIT)
    base.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)


def check_schema(base: sqlite3.Connection, schema: str) -> None:
    """Refuse a file whose tables and indexes differ from the expected ones.

    Raises:
        sqlite3.DatabaseError: it has a view, a trigger, another column, or another table.
    """
    with closing(sqlite3.connect(":memory:")) as like:
        like.executescript(schema)
        expected = _schema_of(like)
    with limited(base):
        found = _schema_of(base)
    if found != expected:
        names = sorted(str(name) for _, name, *_ in found ^ expected)
        raise sqlite3.DatabaseError(f"another schema, see {names[0][:80]!r}")


@contextmanager
def limited(base: sqlite3.Connection, seconds: float | None = None) -> Iterator[None]:
    """Interrupt questions that last longer.

    Raises:
        sqlite3.OperationalError: one did.
    """
    end = time.monotonic() + (SECONDS if seconds is None else seconds)
    base.set_progress_handler(lambda: int(time.monotonic() > end), _STEPS)
    try:
        yield
    finally:
        base.set_progress_handler(None, 0)


def _schema_of(base: sqlite3.Connection) -> set[tuple[object, ...]]:
    return set(base.execute("SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 100"))
