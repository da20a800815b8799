"""The cache of translations and text similarities, in one SQLite file.

A translation is known by engine, version, direction and source text, and is never asked for
again. Each call of ``add`` is one transaction, so a process killed at any moment loses at most the
batches that were under way. Each row has a checksum; one that was changed since is not used.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from cl2cm.errors import StoreError
from cl2cm.progress import say
from cl2cm.storage import cache_folder, locked, open_sqlite, row_sum, storage_errors

T = TypeVar("T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS directions (
    id INTEGER PRIMARY KEY, engine TEXT, version TEXT, source TEXT, target TEXT,
    UNIQUE (engine, version, source, target));
CREATE TABLE IF NOT EXISTS translations (
    direction INTEGER, text TEXT, translation TEXT, checksum INTEGER,
    PRIMARY KEY (direction, text)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cosines (
    pair BLOB PRIMARY KEY, cosine REAL, checksum INTEGER) WITHOUT ROWID;
"""
_CHANGED = {
    "translations": "checksum <> (SELECT row_sum(engine, version, source, target, text, "
    "translation) FROM (SELECT 1) LEFT JOIN directions ON id = direction)",
    "cosines": "checksum <> row_sum(pair, cosine)",
}
_CHECKED = ("translations", "cosines")  # earlier versions wrote no checksums; theirs are NULL
_AT_ONCE = 500  # values of one question


class Origin(NamedTuple):
    """Whose translations they are."""

    engine: str
    version: str
    source: str
    target: str


class TranslationCache:
    """The file; use it in a ``with`` block, in one thread.

    Args:
        path: of the file; by default ``translations.sqlite`` in the user's cache folder.

    Raises:
        StoreError: it is no such file, or damaged.
        StorageError: the disk is full, read-only or closed to us.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_folder() / "translations.sqlite"
        self._told = False
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.path.open("ab").close()
            except FileNotFoundError:
                raise StoreError(
                    f"translation cache {self.path}",
                    expected="a place for a file",
                    found="a broken link",
                    remedy="remove the link, or choose another with --cache",
                ) from None
        with self._errors():
            self._base = open_sqlite(self.path, _SCHEMA, begins=False)
            self._base.create_function("row_sum", -1, row_sum, deterministic=True)
            self._add_columns()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def find(self, direction: Origin, texts: Sequence[str]) -> dict[str, str]:
        """Return text → translation, of those texts that have been translated."""
        number = self._number(direction)
        found: dict[str, str] = {}
        with self._errors():
            for part in _parts(texts):
                question = (
                    "SELECT text, translation, checksum FROM translations "  # noqa: S608
                    f"WHERE direction = ? AND text IN ({', '.join('?' * len(part))})"
                )
                found |= {
                    text: made
                    for text, made, checksum in self._base.execute(question, [number, *part])
                    if self._is_whole(checksum, [*direction, text, made])
                }
        return found

    def add(self, direction: Origin, made: Mapping[str, str]) -> None:
        """Keep translations, all or none of them; they are on the disk when this returns."""
        number = self._number(direction)
        rows = [
            (number, text, translation, row_sum(*direction, text, translation))
            for text, translation in made.items()
        ]
        with self._transaction():
            self._base.executemany("INSERT OR REPLACE INTO translations VALUES (?, ?, ?, ?)", rows)

    def find_cosines(
        self, model: str, pairs: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], float]:
        """Return the pair of texts → cosine, of those pairs that a model was asked for."""
        found: dict[tuple[str, str], float] = {}
        with self._errors():
            for part in _parts(pairs):
                keys = {_key(model, pair): pair for pair in part}
                question = (
                    "SELECT pair, cosine, checksum FROM cosines "  # noqa: S608
                    f"WHERE pair IN ({', '.join('?' * len(keys))})"
                )
                rows = self._base.execute(question, list(keys))
                for key, cosine, checksum in rows:
                    if self._is_whole(checksum, [key, cosine]):
                        found[keys[key]] = cosine
        return found

    def add_cosines(self, model: str, made: Mapping[tuple[str, str], float]) -> None:
        """Keep cosines, all or none of them."""
        keys = {_key(model, pair): float(cosine) for pair, cosine in made.items()}
        rows = [(key, cosine, row_sum(key, cosine)) for key, cosine in keys.items()]
        with self._transaction():
            self._base.executemany("INSERT OR REPLACE INTO cosines VALUES (?, ?, ?)", rows)

    @contextmanager
    def only(self, direction: Origin, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold a direction among processes, so that no two translate the same texts."""
        name = f"{self.path.name}.{self._number(direction)}.lock"
        with locked(self.path.with_name(name), on_wait):
            yield

    def damaged(self) -> int:
        """Return the number of rows changed since they were written; checks the structure, too.

        Raises:
            StoreError: the file itself is damaged.
        """
        with self._errors():
            [told] = self._base.execute("PRAGMA integrity_check(1)").fetchone()
            if told != "ok":
                raise sqlite3.DatabaseError(str(told))
            return sum(
                self._base.execute(f"SELECT count(*) FROM {table} WHERE {bad}").fetchone()[0]  # noqa: S608
                for table, bad in _CHANGED.items()
            )

    def drop_damaged(self) -> None:
        """Delete the rows that were changed."""
        with self._transaction():
            for table, bad in _CHANGED.items():
                self._base.execute(f"DELETE FROM {table} WHERE {bad}")  # noqa: S608 - of constants

    def _is_whole(self, checksum: object, values: Sequence[object]) -> bool:
        """Return whether a row is unchanged; a changed one is recreated and reported once."""
        if checksum is None or checksum == row_sum(*values):
            return True
        if not self._told:
            say(f"{self.path}: changed entries are left out and made again")
            self._told = True
        return False

    def _add_columns(self) -> None:
        """Add what an earlier version did not have."""
        for table in _CHECKED:
            columns = {row[1] for row in self._base.execute(f"PRAGMA table_info({table})")}
            if "checksum" not in columns:
                with contextlib.suppress(sqlite3.OperationalError):  # another process just did
                    self._base.execute(f"ALTER TABLE {table} ADD COLUMN checksum INTEGER")

    def _number(self, direction: Origin) -> int:
        with self._transaction():
            self._base.execute(
                "INSERT OR IGNORE INTO directions (engine, version, source, target) "
                "VALUES (?, ?, ?, ?)",
                direction,
            )
            [number] = self._base.execute(
                "SELECT id FROM directions "
                "WHERE engine = ? AND version = ? AND source = ? AND target = ?",
                direction,
            ).fetchone()
        return int(number)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                f"translation cache {self.path}",
                expected="an SQLite file that can be written",
                found=str(error),
                remedy="free some space, remove the file, or choose another with --cache",
            ) from error


def _parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]


def _key(model: str, pair: tuple[str, str]) -> bytes:
    return hashlib.blake2b("\0".join([model, *pair]).encode(), digest_size=16).digest()
