"""Journal of encoded files, by content hash, so that an update encodes only new files.

One SQLite file beside an index's vectors. A file's content is known by its SHA-256; the vector of a
content, or of a part of it, is kept for the model that made it. Every batch is one transaction: an
interrupted process loses only the current batch.
"""

import contextlib
import datetime
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cl2cm.errors import VectorIndexError
from cl2cm.index.backends.quantization import is_unit
from cl2cm.index.database import check_file, check_schema, confine
from cl2cm.index.metadata import JOURNAL
from cl2cm.index.update.journal_schema import CHANGED, SCHEMA, renew
from cl2cm.media.dates import date_taken
from cl2cm.storage import open_confined, open_sqlite, row_sum, sqlite_error, storage_errors
from cl2cm.types import Example, Floats

__all__ = ["JOURNAL", "Content", "DamagedJournalError", "Journal", "discard", "is_useless"]

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEPT = "content IN (SELECT content FROM files)"
_SPARE = 20_000  # vectors, 40 MB
_PARAMETERS = 500  # SQLite's smallest limit of question marks is 999
_COLUMNS = {"files": 5, "vectors": 6, "dates": 3}
_WHOLE = -1.0  # start and end of a whole file


@dataclass(frozen=True, slots=True, order=True)
class Content:
    """What a vector was made of: a file's bytes, or a part of a video."""

    sha256: str
    start: float = _WHOLE
    end: float = _WHOLE


class DamagedJournalError(VectorIndexError):
    """A journal that cannot be read; what it kept has to be encoded again."""


class Journal:
    """The vectors that are known, in a file that is made when it is not there.

    Each row has a checksum; a row that was changed since is not used, and made again.

    Raises:
        DamagedJournalError: the file is damaged.
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._damage(), storage_errors(path):
            self._db = _opened(path)

    def content(
        self, example: Example, roots: Sequence[Path] | None = None, *, verify: bool = False
    ) -> Content:
        """Return what an example is made of; a file of known size and time is not read again.

        Args:
            example: with a file.
            roots: folders that the file may be in; None: its own folder.
            verify: read it all the same.

        Raises:
            OSError: the file has gone, or a link leads to it.
        """
        path = example.path
        assert path is not None  # noqa: S101 - who asks has looked
        file = path.lstat()
        start = _WHOLE if example.start is None else example.start
        end = _WHOLE if example.end is None else example.end
        known = (str(path), file.st_size, file.st_mtime_ns)
        query = "SELECT content, checksum FROM files WHERE path = ? AND bytes = ? AND modified = ?"
        with self._damage():
            found = None if verify else self._db.execute(query, known).fetchone()
            if found is None or found[1] != row_sum(*known, found[0]):
                with open_confined(path, [path.parent] if roots is None else roots) as opened:
                    found = (hashlib.file_digest(opened, "sha256").hexdigest(),)
                self._db.execute(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                    (*known, found[0], row_sum(*known, found[0])),
                )
        return Content(str(found[0]), start, end)

    def taken(self, content: Content, path: Path) -> datetime.datetime | None:
        """Return when the image of a content was taken, as its camera says; read once.

        Args:
            content: what the image's file holds.
            path: a file that holds it.
        """
        query = "SELECT taken, checksum FROM dates WHERE content = ?"
        with self._damage():
            known = self._db.execute(query, (content.sha256,)).fetchone()
            if known is None or known[1] != row_sum(content.sha256, known[0]):
                date = date_taken(path)
                known = ("" if date is None else date.isoformat(),)
                row = content.sha256, known[0]
                self._db.execute(
                    "INSERT OR REPLACE INTO dates VALUES (?, ?, ?)", (*row, row_sum(*row))
                )
        try:
            return datetime.datetime.fromisoformat(known[0]) if known[0] else None
        except (TypeError, ValueError):  # not written by us
            return None

    def commit(self) -> None:
        """Keep what was said so far, whatever happens next."""
        with self._damage():
            self._db.commit()

    def vectors(
        self, contents: Iterable[Content], *, model: str, dim: int
    ) -> dict[Content, Floats]:
        """Return the vectors float32 [D] of those contents that a model has encoded."""
        wanted = set(contents)
        names, found = sorted({content.sha256 for content in wanted}), {}
        with self._damage():
            for sha256, start, end, blob, checksum in self._rows(names, model):
                content = Content(sha256, start, end)
                if content not in wanted or checksum != row_sum(sha256, start, end, model, blob):
                    continue
                if isinstance(blob, bytes) and len(blob) == 4 * dim:
                    vector = np.frombuffer(blob, "<f4").astype(np.float32)
                    if is_unit(vector):  # another was not written by us
                        found[content] = vector
        return found

    def _rows(self, names: Sequence[str], model: str) -> "Iterator[tuple[Any, ...]]":
        """Yield the rows of vectors of some contents."""
        for start in range(0, len(names), _PARAMETERS):
            part = names[start : start + _PARAMETERS]
            marks = ", ".join("?" * len(part))
            yield from self._db.execute(
                'SELECT content, start, "end", vector, checksum FROM vectors '  # noqa: S608
                f"WHERE content IN ({marks}) AND model = ?",
                (*part, model),
            )

    def add(self, contents: Sequence[Content], vectors: Floats, *, model: str) -> None:
        """Keep the vectors [N, D] of N contents: all of them or, if we are killed, none."""
        rows = [
            (one.sha256, float(one.start), float(one.end), model, vector.astype("<f4").tobytes())
            for one, vector in zip(contents, vectors, strict=True)
        ]
        with self._damage():
            self._db.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?, ?)",
                ((*row, row_sum(*row)) for row in rows),
            )
            self._db.commit()

    def take(self, other: "Journal") -> None:
        """Add all that another journal keeps, with its checksums."""
        for table, count in _COLUMNS.items():
            with other._damage():
                rows = other._db.execute(f"SELECT * FROM {table}")  # noqa: S608 - of constants
                insert = f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * count)})"  # noqa: S608
                with self._damage(), self._db:
                    self._db.executemany(insert, rows)

    def outdate(self, count: int, needed: int) -> bool:
        """Note that vectors are no longer needed; whether there are so many that some have to go.

        Args:
            count: how many more of them.
            needed: how many are.
        """
        with self._damage(), self._db:
            [spare] = self._db.execute("PRAGMA user_version").fetchone()
            spare = min(spare + count, 2**31 - 1)
            self._db.execute(f"PRAGMA user_version = {spare:d}")
        return bool(spare > max(_SPARE, needed))

    def forget(self, paths: Iterable[str], *, model: str) -> None:
        """Drop all but these files, and vectors of other models.

        Vectors of contents that are gone stay for as long as they are no more than those that are
        needed, or ``_SPARE``: a folder may be away for one run, or a file moved back.
        """
        with self._damage(), self._db:
            self._db.execute("CREATE TEMP TABLE keep_files (path TEXT PRIMARY KEY)")
            self._db.executemany(
                "INSERT OR IGNORE INTO keep_files VALUES (?)", ((p,) for p in paths)
            )
            self._db.execute("DELETE FROM files WHERE path NOT IN (SELECT path FROM keep_files)")
            self._db.execute("DELETE FROM vectors WHERE model <> ?", (model,))
            count = "SELECT count(*) FROM "
            needed = self._db.execute(f"{count}vectors WHERE {_KEPT}").fetchone()[0]
            spare = self._db.execute(f"{count}vectors").fetchone()[0] - needed
            if spare > max(_SPARE, needed):
                self._db.execute(f"DELETE FROM vectors WHERE NOT {_KEPT}")  # noqa: S608 - constant
                spare = 0
            self._db.execute(f"PRAGMA user_version = {min(spare, 2**31 - 1):d}")
            self._db.execute("DELETE FROM dates WHERE content NOT IN (SELECT content FROM vectors)")
            self._db.execute("DROP TABLE keep_files")

    def damaged(self) -> int:
        """Return the number of rows that were changed since they were written; they are not used.

        Raises:
            DamagedJournalError: the file itself is damaged.
        """
        with self._damage():
            [told] = self._db.execute("PRAGMA integrity_check(1)").fetchone()
            if told != "ok":
                raise sqlite3.DatabaseError(str(told))
            return sum(
                self._db.execute(f"SELECT count(*) FROM {table} WHERE {bad}").fetchone()[0]  # noqa: S608
                for table, bad in CHANGED.items()
            )

    def drop_damaged(self) -> None:
        """Delete the rows that were changed."""
        with self._damage(), self._db:
            for table, bad in CHANGED.items():
                self._db.execute(f"DELETE FROM {table} WHERE {bad}")  # noqa: S608 - of constants

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _damage(self) -> "Iterator[None]":
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise sqlite_error(self._path, error) or DamagedJournalError(
                str(self._path),
                expected="what was encoded so far, in SQLite",
                found=f"a damaged file ({error})",
                remedy="remove it: everything will be encoded again",
            ) from error


def discard(path: Path) -> None:
    """Remove a journal and its logs."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def is_useless(path: Path) -> bool:
    """Return whether a journal is empty or missing; False for a damaged one."""
    if not path.exists():
        return True
    try:
        with contextlib.closing(_opened(path)) as db:
            return db.execute("SELECT 1 FROM vectors LIMIT 1").fetchone() is None
    except sqlite3.DatabaseError:
        return False


def _opened(path: Path) -> sqlite3.Connection:
    """Open a journal, which may have come with a stranger's folder.

    Raises:
        sqlite3.DatabaseError: it holds more than our tables; it, or its log, is a link or no file.
    """
    for suffix in ("", "-wal", "-shm", "-journal"):
        member = path.with_name(path.name + suffix)
        try:
            if os.path.lexists(member):
                check_file(member)
        except FileNotFoundError:
            raise sqlite3.DatabaseError(f"{member.name} is a link, or no file") from None
    rollback = path.with_name(f"{path.name}-journal")
    if os.path.lexists(rollback):
        # Of ours there is one only until the file has a write-ahead log, when nothing is in it
        # yet; SQLite would do what it says, and that may be to delete another file.
        path.unlink(missing_ok=True)
        rollback.unlink()
    db = open_sqlite(path, "")
    try:
        confine(db)
        db.create_function("row_sum", -1, row_sum, deterministic=True)
        renew(db)
        db.executescript(SCHEMA)
        check_schema(db, SCHEMA)
    except BaseException:
        db.close()
        raise
    return db
