"""SQLite files that several processes write to."""

import sqlite3
import time
from pathlib import Path


def open_sqlite(
    path: Path, schema: str, *, begins: bool = True, wait: float = 60.0
) -> sqlite3.Connection:
    """Open an SQLite file that several processes write to, safe against interruption.

    Args:
        path: the file, which is made where it is not there.
        schema: statements that make what is not there.
        begins: whether a statement that writes begins a transaction by itself.
        wait: seconds to wait for another process.

    Raises:
        sqlite3.Error: as it comes; see `sqlite_error`.
    """
    base = sqlite3.connect(path, timeout=wait, isolation_level="DEFERRED" if begins else None)
    try:
        _write_ahead(base, time.monotonic() + wait)
        base.execute("PRAGMA synchronous = NORMAL")  # whole after a kill or a crash
        base.executescript(schema)
    except BaseException:
        base.close()
        raise
    return base


def _write_ahead(base: sqlite3.Connection, until: float) -> None:
    """Turn to a write-ahead log; SQLite does not itself wait for others who do so just now."""
    while True:
        try:
            base.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return
