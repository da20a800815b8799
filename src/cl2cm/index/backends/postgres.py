"""Connections to PostgreSQL, its errors in one line, and vectors as pgvector takes them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from cl2cm.errors import MissingExtraError, VectorIndexError
from cl2cm.index.address import Server, postgres_address
from cl2cm.index.backends.location import Location
from cl2cm.types import Floats

Result = TypeVar("Result")


def again(ask: Callable[[], Result]) -> Result:
    """Ask, and once more if the connection was lost."""
    try:
        return ask()
    except load_psycopg().OperationalError:
        return ask()


def load_psycopg() -> Any:  # noqa: ANN401 - a module
    """Return the driver.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pgvector.psycopg  # noqa: PLC0415, F401 - an extra
        import psycopg  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("psycopg and pgvector", "pgvector") from error
    return psycopg


def connect(server: Server, kind: str = "", *, extension: bool = False) -> Any:  # noqa: ANN401
    """Return a connection; with ``kind``, one that is set up for vector search."""
    from pgvector.psycopg import register_vector  # noqa: PLC0415 - an extra

    connection = load_psycopg().connect(postgres_address(server), connect_timeout=10)
    if extension:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.commit()
    if kind:
        register_vector(connection)
        connection.execute("SET hnsw.iterative_scan = strict_order")
        connection.commit()
    return connection


def to_wire(vector: Floats, kind: str) -> Any:  # noqa: ANN401 - of pgvector
    """Return a vector float32 [D] as ``halfvec`` or ``vector``."""
    from pgvector import HalfVector, Vector  # noqa: PLC0415 - an extra

    return HalfVector(vector) if kind == "halfvec" else Vector(vector)


def from_wire(vector: Any) -> Floats:  # noqa: ANN401 - of pgvector
    """Return a stored vector as float32 [D]."""
    array = vector if isinstance(vector, np.ndarray) else vector.to_numpy()
    values: Floats = array.astype(np.float32)
    return values


@contextmanager
def answers(location: Location) -> Iterator[None]:
    """Turn errors of the connection or the server into one line."""
    psycopg = load_psycopg()
    try:
        yield
    except (psycopg.Error, OSError, ValueError) as error:
        raise VectorIndexError(
            f"table {location.name} at {location.url}",
            expected="a PostgreSQL server with pgvector 0.8 or later that holds it",
            found=(str(error).strip() or type(error).__name__).splitlines()[0],
            remedy="start the server, set PGPASSWORD, or build the index again",
        ) from error
