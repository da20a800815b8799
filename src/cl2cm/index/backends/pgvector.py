"""Vectors and items in PostgreSQL with pgvector: one table for each generation of an index.

Vectors are ``halfvec`` or ``vector`` under an HNSW index of inner products; hits are scored from
the stored values, in the order of the exact search. Filters are part of the statement. The password
comes from ``PGPASSWORD`` or ``~/.pgpass``.
"""

import contextlib
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from cl2cm.index.address import Server, public_postgres
from cl2cm.index.backends.base import Backend, Generation, ServerUse
from cl2cm.index.backends.exact import ExactIndex
from cl2cm.index.backends.location import Location
from cl2cm.index.backends.postgres import again, answers, connect, from_wire, to_wire
from cl2cm.index.backends.quantization import DType, check_unit, check_vectors
from cl2cm.index.backends.rescoring import FEW
from cl2cm.index.backends.topk import exact_scores
from cl2cm.index.filter import Filter, Order, order_by
from cl2cm.index.protocol import Items, VectorIndex
from cl2cm.index.records import check_items, item_fields, no_such_id, no_such_row, parse_item
from cl2cm.text import spellings
from cl2cm.types import Floats, Ints, Item

LINKS = 16
EF_CONSTRUCTION = 100
EF_SEARCH = 128  # rows kept in view; more for more hits, at most 1,000
_MOST = 1000
_MOST_MEMORY = 1024  # megabytes, for the construction of a graph
_TYPES = {"float16": "halfvec", "float32": "vector"}
_COLUMNS = 'row, id, path, start, "end", captions, media, bytes, modified'
_SCHEMA = """
CREATE TABLE {table} (
    row bigint PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    path text NOT NULL,
    start double precision,
    "end" double precision,
    captions text NOT NULL,
    media text NOT NULL,
    bytes bigint,
    modified double precision,
    folder text COLLATE "C" NOT NULL,
    vector {type}({dim}) NOT NULL
)
"""
_WIRE = ("int8", "text", "text", "float8", "float8", "text", "text", "int8", "float8", "text")


class PostgresBackend(Backend):
    """Vectors and items in a table of PostgreSQL with pgvector."""

    name: ClassVar[str] = "pgvector"
    dtypes: ClassVar[tuple[str, ...]] = tuple(_TYPES)
    files: ClassVar[tuple[str, ...]] = ()
    server: ClassVar[ServerUse] = "required"
    address: ClassVar[str] = "postgresql://USER@HOST/DATABASE"

    def public_url(self, url: str) -> str:
        """Return an address without its password; see `Backend.public_url`."""
        return public_postgres(url)

    def check(self, location: Location, server: Server) -> None:
        """Refuse a server that does not respond or lacks pgvector; see `Backend.check`."""
        with answers(location), connect(server, _TYPES["float16"], extension=True):
            pass

    def write(self, generation: Generation, vectors: Floats, items: Sequence[Item]) -> None:
        """Create the table; see `Backend.write`."""
        PostgresIndex.write(*generation.remote, vectors, items, generation.dtype)

    def open(self, generation: Generation) -> tuple[VectorIndex, Items]:
        """Connect to the table; see `Backend.open`."""
        table = PostgresIndex(*generation.remote, generation.dim, generation.dtype)
        return table, table

    def drop(self, location: Location, server: Server) -> None:
        """Remove the table, if it is there; see `Backend.drop`."""
        with answers(location), connect(server) as connection:
            connection.execute(f"DROP TABLE IF EXISTS {location.name}")


class PostgresIndex:
    """A table of vectors and items: a `VectorIndex` and an `Items`; safe between threads.

    Args:
        location: the table.
        server: that holds it.
        dim: width D of its vectors.
        dtype: how they are stored.

    Raises:
        VectorIndexError: no answer, or no such table.
        MissingExtraError: the driver is not installed.
    """

    def __init__(self, location: Location, server: Server, dim: int, dtype: str) -> None:
        self._location, self._server, self._dim, self._type = location, server, dim, _TYPES[dtype]
        self._like = ExactIndex(np.zeros((1, dim), np.float32), resident_bytes=0)
        self._lock = threading.Lock()
        self._connection: Any = None
        last = self._ask(f"SELECT max(row) FROM {location.name}")[0][0]  # noqa: S608
        self._count = 0 if last is None else int(last) + 1

    @staticmethod
    def write(
        location: Location, server: Server, vectors: Floats, items: Sequence[Item], dtype: DType
    ) -> None:
        """Create the table in one transaction.

        Args:
            location: the table.
            server: that should hold it.
            vectors: unit vectors float32 [N, D].
            items: item i for vector i.
            dtype: ``float16`` or ``float32``.

        Raises:
            VectorIndexError: two items with one id; the server does not answer, or refuses.
        """
        check_vectors(vectors, location.name)
        check_unit(vectors)
        check_items(items)
        kind = _TYPES[dtype]
        with answers(location), connect(server, kind, extension=True) as connection:
            cursor = connection.cursor()
            cursor.execute(_SCHEMA.format(table=location.name, type=kind, dim=vectors.shape[1]))
            with cursor.copy(f"COPY {location.name} FROM STDIN WITH (FORMAT BINARY)") as copy:
                copy.set_types([*_WIRE, kind])
                for row, (item, vector) in enumerate(zip(items, vectors, strict=True)):
                    copy.write_row(_record(row, item, vector, kind))
            for column in ("folder", "modified", "bytes"):
                cursor.execute(f"CREATE INDEX ON {location.name} ({column})")
            cursor.execute(f"SET LOCAL maintenance_work_mem = '{_memory(vectors.shape)}MB'")
            cursor.execute(
                f"CREATE INDEX ON {location.name} USING hnsw (vector {kind}_ip_ops) "
                f"WITH (m = {LINKS}, ef_construction = {EF_CONSTRUCTION})"
            )
            connection.commit()
            connection.autocommit = True
            cursor.execute(f"ANALYZE {location.name}")

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return self._dim

    def __len__(self) -> int:
        """Return the number N of vectors."""
        return self._count

    def vectors(self, rows: Ints) -> Floats:
        """Return the stored vectors of some rows, float32 [K, D]."""
        query = f"SELECT row, vector FROM {self._location.name} WHERE row = ANY(%s)"  # noqa: S608
        found = {row: from_wire(vector) for row, vector in self._ask(query, [rows.tolist()])}
        return np.stack([found[int(row)] for row in rows])

    def search(self, queries: Floats, k: int, *, among: Ints | None = None) -> tuple[Floats, Ints]:
        """Return the best ``k`` rows for each query; see `VectorIndex.search`."""
        queries = self._like.checked(queries, k)
        count = len(self) if among is None else len(among)
        k = min(k, count)
        scores = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int64)
        for at, query in enumerate(queries if k else []):
            found, values = self._nearest(query, k, among, count)
            near = exact_scores(values, np.arange(len(found)), query.astype(np.float64))
            order = np.lexsort((found, -near))[:k]
            scores[at], rows[at] = near[order], found[order]
        return scores, rows

    def at(self, rows: Sequence[int]) -> list[Item]:
        """Return the items of some rows; see `ItemStore.at`."""
        for row in rows:
            if not 0 <= row < len(self):
                raise no_such_row(self._location.name, row, len(self))
        query = f"SELECT {_COLUMNS} FROM {self._location.name} WHERE row = ANY(%s)"  # noqa: S608
        about = self._ask(query, [[int(r) for r in rows]])
        with answers(self._location):
            found = {row: parse_item(fields) for row, *fields in about}
        return [found[int(row)] for row in rows]

    def row_of(self, item_id: str) -> int:
        """Return the row of an id; see `ItemStore.row_of`."""
        query = f"SELECT row FROM {self._location.name} WHERE id = %s"  # noqa: S608
        with contextlib.suppress(UnicodeEncodeError):
            item_id.encode()
            for name in () if "\x00" in item_id else spellings(item_id):
                if found := self._ask(query, [name]):
                    return int(found[0][0])
        raise no_such_id(item_id)

    def matching(self, filter_: Filter, order: Order | None = None) -> Ints:
        """Return rows int64 of the items that a filter lets through, rising or in another order."""
        where, values = filter_.where()
        table, by = self._location.name, order_by(order)
        query = f"SELECT row FROM {table} WHERE {where} ORDER BY {by}"  # noqa: S608
        found = self._ask(query.replace("?", "%s"), values)
        return np.fromiter((row for (row,) in found), np.int64)

    def folders(self) -> list[str]:
        """Return every folder that items are in, by their ids, in the order of names."""
        query = f"SELECT DISTINCT folder FROM {self._location.name} ORDER BY folder"  # noqa: S608
        return [folder for (folder,) in self._ask(query) if folder]

    def close(self) -> None:
        """Close the connection; a later query opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _nearest(
        self, query: Floats, k: int, among: Ints | None, count: int
    ) -> tuple[Ints, Floats]:
        """Return candidates, at least ``k`` of them, and their stored values."""
        depth = min(k + 8, count)
        source, values = self._location.name, []
        exact = depth > _MOST or (among is not None and count <= FEW)
        if among is not None:
            source, values = f"{source} WHERE row = ANY(%s)", [among.tolist()]
        order = f"ORDER BY vector <#> %s::{self._type}"
        if exact:  # a computed column is of no index
            text = f"SELECT row, vector FROM (SELECT row, vector FROM {source} OFFSET 0) AS t "  # noqa: S608
            order += ", row"
        else:
            text = f"SELECT row, vector FROM {source} "  # noqa: S608
        asked = [*values, to_wire(query, self._type), depth]
        ef = min(max(EF_SEARCH, 2 * depth), _MOST)
        found = self._ask(f"{text}{order} LIMIT %s", asked, ef=ef)
        if len(found) < depth and not exact:  # the graph's walk ended early
            text = f"SELECT row, vector FROM (SELECT row, vector FROM {source} OFFSET 0) AS t "  # noqa: S608
            found = self._ask(f"{text}{order}, row LIMIT %s", asked)
        rows = np.array([row for row, _ in found], np.int64)
        return rows, np.stack([from_wire(vector) for _, vector in found])

    def _ask(self, query: str, values: Sequence[Any] = (), *, ef: int | None = None) -> list[Any]:
        """Answer of a statement; a connection that was lost is made once more."""

        def ask() -> list[Any]:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._server, self._type)
                self._connection.autocommit = True
            if ef is not None:
                self._connection.execute(f"SET hnsw.ef_search = {ef}")
            cursor = self._connection.cursor(binary=True)
            answer: list[Any] = cursor.execute(query, values).fetchall()
            return answer

        with self._lock, answers(self._location):
            return again(ask)


def _memory(shape: tuple[int, ...]) -> int:
    """Return the megabytes that a graph of so many vectors is built in, many times as fast."""
    needed = shape[0] * (4 * shape[1] + 32 * LINKS) >> 20
    return min(max(needed, 64), _MOST_MEMORY)


def _record(row: int, item: Item, vector: Floats, kind: str) -> tuple[Any, ...]:
    return (row, *item_fields(item), to_wire(vector, kind))
