"""What each vector stands for: id, path, times and captions, in one SQLite file.

A look-up by row or by id is a walk down a B-tree, so it stays flat as the index grows. The file
is written once and opened read-only as immutable: no locks, no journal beside it.

``state`` says of which file, of which size and time, an item was made (update/state.py), so that an
update knows what is unchanged. Files of version 2 do not have it.
"""

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from cl2cm.errors import StorageError, VectorIndexError
from cl2cm.index.database import check_file, check_schema, confine, limited
from cl2cm.index.filter import Filter, Order, order_by
from cl2cm.index.records import check_items, item_fields, no_such_id, no_such_row, parse_item
from cl2cm.storage import atomic_path, sqlite_error
from cl2cm.text import spellings
from cl2cm.types import Ints, Item

_SCHEMA_2 = """
CREATE TABLE items (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    start REAL,
    "end" REAL,
    captions TEXT NOT NULL,
    media TEXT NOT NULL,
    bytes INTEGER,
    modified REAL,
    folder TEXT NOT NULL
)
"""
_SCHEMA = _SCHEMA_2.replace("NOT NULL\n)", "NOT NULL,\n    state INTEGER\n)")
_INDEXES = ("folder", "media, modified", "modified", "bytes")
_COLUMNS = 'SELECT row, id, path, start, "end", captions, media, bytes, modified FROM items'
_VERSION = 3
_SCHEMAS = {2: _SCHEMA_2, _VERSION: _SCHEMA}
_LIMIT = 2**28  # bytes of the items of one question
_PARAMETERS = 500  # SQLite's smallest limit of question marks is 999


class ItemStore:
    """The items of an index, read-only; safe to share between threads.

    Args:
        path: a file that `write` made.

    Raises:
        VectorIndexError: the file is absent, damaged or of another format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with self._damage():
            check_file(path)
            self._db = sqlite3.connect(
                f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
            try:
                confine(self._db)
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                last = None
                if version in _SCHEMAS:
                    check_schema(self._db, _whole_schema(_SCHEMAS[version]))
                    with limited(self._db):
                        first, last = self._db.execute(
                            "SELECT (SELECT min(row) FROM items), (SELECT max(row) FROM items)"
                        ).fetchone()
                    if first not in (None, 0):
                        raise sqlite3.DatabaseError(f"rows from {first}")
            except BaseException:
                self._db.close()
                raise
        if version not in _SCHEMAS:
            self._db.close()
            raise VectorIndexError(
                str(path),
                expected=f"items of format {' or '.join(map(str, _SCHEMAS))}",
                found=f"format {version}",
                remedy="build the index again",
            )
        self._count = 0 if last is None else int(last) + 1
        self._has_states = version == _VERSION

    @staticmethod
    def write(path: Path, items: Sequence[Item], states: Sequence[int | None] = ()) -> None:
        """Write items, item i for vector i; the file appears whole or not at all.

        Args:
            path: the file.
            items: all of them.
            states: of the file of each item, where that is known.

        Raises:
            VectorIndexError: two items with one id, or text that is not valid Unicode.
            StorageError: the disk is full, read-only or closed to us.
        """
        check_items(items)
        known = states or [None] * len(items)  # of an index that no update made
        records = (
            (row, *item_fields(item), state)
            for row, (item, state) in enumerate(zip(items, known, strict=True))
        )
        with (
            atomic_path(path) as partial,
            _full_disk(path),
            closing(sqlite3.connect(partial)) as db,
            db,
        ):
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("PRAGMA synchronous = OFF")  # atomic_path flushes the whole file
            db.execute(_SCHEMA)
            db.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", records)
            for statement in _index_statements():
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")

    def __len__(self) -> int:
        """Return the number of items."""
        return self._count

    def at(self, rows: Sequence[int]) -> list[Item]:
        """Return the items of some rows, in that order.

        Raises:
            VectorIndexError: a row that is not there, or a damaged file.
        """
        for row in rows:
            if not 0 <= row < len(self):
                raise no_such_row(str(self._path), row, len(self))
        found: dict[int, Item] = {}
        for start in range(0, len(rows), _PARAMETERS):
            part = [int(row) for row in rows[start : start + _PARAMETERS]]
            marks = ", ".join("?" * len(part))
            found.update(self._select(f"{_COLUMNS} WHERE row IN ({marks})", part))
        with self._damage():
            return [found[int(row)] for row in rows]

    def row_of(self, item_id: str) -> int:
        """Return the row of an id.

        Raises:
            VectorIndexError: no item has this id, or the file is damaged.
        """
        for name in spellings(item_id) if is_text(item_id) else ():
            if (row := self.find(name)) is not None:
                return row
        raise no_such_id(item_id)

    def find(self, name: str) -> int | None:
        """Return the row of an id in this spelling; None if there is none."""
        found = self._select(f"{_COLUMNS} WHERE id = ?", [name])
        return found[0][0] if found else None

    def matching(self, filter_: Filter, order: Order | None = None) -> Ints:
        """Return rows int64 of the items that a filter lets through, rising or in another order."""
        where, values = filter_.where()
        with self._damage(), self._lock, limited(self._db):
            query = f"SELECT row FROM items WHERE {where} ORDER BY {order_by(order)}"  # noqa: S608 - of constants
            found = self._db.execute(query, values)
            rows: Ints = np.fromiter((row for (row,) in found), np.int64)
            rising = np.sort(rows) if order else rows
            if len(rows) and not (rising[0] >= 0 and rising[-1] < len(self)):
                raise sqlite3.DatabaseError("an index of other rows")
            if bool((np.diff(rising) <= 0).any()):
                raise sqlite3.DatabaseError("an index of repeated rows")
            return rows

    def states(self) -> tuple[list[str], list[int | None]]:
        """Return the id of each row, and the state of its file where that is known.

        Raises:
            VectorIndexError: a damaged file.
        """
        column = "state" if self._has_states else "NULL"
        with self._damage(), self._lock, limited(self._db):
            query = f"SELECT id, {column} FROM items ORDER BY row"  # noqa: S608 - of constants
            names, states = list[str](), list[int | None]()
            for name, state in self._db.execute(query):
                names.append(str(name))
                states.append(state)
            if len(names) != len(self):
                raise sqlite3.DatabaseError(f"{len(names)} rows of {len(self)}")
        return names, states

    def modified(self, rows: Ints) -> npt.NDArray[np.float64]:
        """Return the dates float64 of some rows, in seconds of the epoch; NaN where unknown."""
        found = dict(self._column("modified", rows))
        dates = [found[row] for row in rows.tolist()]
        return np.array([np.nan if date is None else date for date in dates], np.float64)

    def folder_counts(self, without: Ints) -> Counter[str]:
        """Return how many items each folder has, apart from some rows."""
        with self._damage(), self._lock, limited(self._db):
            counts = Counter[str](
                dict(self._db.execute("SELECT folder, count(*) FROM items GROUP BY folder"))
            )
        counts.subtract(str(folder) for _, folder in self._column("folder", without))
        return counts

    def folders(self) -> list[str]:
        """Return every folder that items are in, by their ids, in the order of names."""
        with self._damage(), self._lock, limited(self._db):
            found = self._db.execute("SELECT DISTINCT folder FROM items ORDER BY folder")
            folders, size = [], 0
            for (folder,) in found:
                folders.append(str(folder or ""))
                size += len(folders[-1])
                if size > _LIMIT:
                    raise sqlite3.DatabaseError(f"folders of more than {_LIMIT >> 20} MB")
            return [folder for folder in folders if folder]

    def close(self) -> None:
        """Close the file; no look-up is possible afterwards."""
        self._db.close()

    def _column(self, name: str, rows: Ints) -> Iterator[tuple[int, Any]]:
        """Yield some rows with one of their columns."""
        with self._damage(), self._lock, limited(self._db):
            for start in range(0, len(rows), _PARAMETERS):
                part = rows[start : start + _PARAMETERS].tolist()
                marks = ", ".join("?" * len(part))
                yield from self._db.execute(
                    f"SELECT row, {name} FROM items WHERE row IN ({marks})",  # noqa: S608
                    part,
                )

    def _select(self, query: str, values: Sequence[int | str]) -> list[tuple[int, Item]]:
        with self._damage():
            records, size = [], 0
            with self._lock, limited(self._db):
                for record in self._db.execute(query, values):
                    size += sum(len(field) for field in record if isinstance(field, str | bytes))
                    if size > _LIMIT:
                        raise sqlite3.DatabaseError(f"items of more than {_LIMIT >> 20} MB")
                    records.append(record)
            return [(row, parse_item(about)) for row, *about in records]

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, LookupError, TypeError) as error:
            closed = None
            if isinstance(error, sqlite3.Error) and self._path.exists():
                closed = sqlite_error(self._path, error)
            raise closed or VectorIndexError(
                str(self._path),
                expected="the items of an index, in SQLite",
                found=f"a damaged file ({error})",
                remedy="build the index again",
            ) from error


def is_text(text: str) -> bool:
    """Return whether SQLite can hold it: half a surrogate pair is not text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _index_statements() -> list[str]:
    return [
        f"CREATE INDEX filter_{number} ON items ({columns})"
        for number, columns in enumerate(_INDEXES)
    ]


def _whole_schema(table: str) -> str:
    return ";".join([table, *_index_statements()])


@contextmanager
def _full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StorageError(
            str(path),
            expected="a disk with free space",
            found=str(error),
            remedy="free some space, or choose another place",
        ) from error
