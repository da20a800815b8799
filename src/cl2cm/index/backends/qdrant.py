"""Candidates from Qdrant, on a server by URL, or in this process without one.

The vectors stay in the folder too: hits are scored from them. In this process the collection is
filled from them when the index is opened and every row is compared, which is for trying out; a
server keeps a collection for each generation of the index and searches a graph.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from cl2cm.errors import CL2CMError, MissingExtraError, VectorIndexError
from cl2cm.index.address import Server, qdrant_address
from cl2cm.index.backends.base import Generation, ServerUse
from cl2cm.index.backends.exact import ExactIndex
from cl2cm.index.backends.location import Location
from cl2cm.index.backends.rescoring import CandidateBackend
from cl2cm.types import Floats, Ints

EF_SEARCH = 128  # rows kept in view; more for more hits
_BLOCK = 1024  # rows sent at once
_SECONDS = 60


def connect(server: Server) -> Any:  # noqa: ANN401 - a client
    """Return a client of a server, or of a collection of its own in this process.

    Raises:
        ConfigError: the key would go to another machine without TLS.
        MissingExtraError: the client is not installed.
    """
    key = os.environ.get("QDRANT_API_KEY") or None
    url = qdrant_address(server, key=key is not None) if server.url else ""
    try:
        from qdrant_client import QdrantClient  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("qdrant_client", "qdrant") from error
    with warnings.catch_warnings():  # a key over http: qdrant_address has decided
        warnings.simplefilter("ignore")
        if not url:
            return QdrantClient(":memory:")
        return QdrantClient(
            url=url,
            api_key=key,
            timeout=_SECONDS,
            check_compatibility=False,
            follow_redirects=False,  # the key would go along
        )


class QdrantBackend(CandidateBackend):
    """Vectors and items in files, and a collection of Qdrant that finds candidates."""

    name: ClassVar[str] = "qdrant"
    server: ClassVar[ServerUse] = "optional"
    parted: ClassVar[bool] = False  # a collection holds all rows

    def check(self, location: Location, server: Server) -> None:
        """Refuse a server that does not respond; see `Backend.check`."""
        client = connect(server)
        with _answers(location):
            client.collection_exists(location.name)
        client.close()

    def write_finder(self, generation: Generation, stored: ExactIndex) -> None:
        """Make the collection on the server."""
        QdrantFinder.write(*generation.remote, stored)

    def open_finder(self, generation: Generation, stored: ExactIndex) -> "QdrantFinder":
        """Connect to the collection."""
        return QdrantFinder(*generation.remote, stored)

    def drop(self, location: Location, server: Server) -> None:
        """Remove the collection, if it is there; see `Backend.drop`."""
        if server.url:
            client = connect(server)
            with _answers(location):
                client.delete_collection(location.name)
            client.close()


class QdrantFinder:
    """A collection that finds candidates; see `CandidateFinder`.

    Args:
        location: the collection.
        server: that holds it.
        stored: the vectors it is of.

    Raises:
        VectorIndexError: no answer, or no such collection, or one of other vectors.
        MissingExtraError: the client is not installed.
    """

    def __init__(self, location: Location, server: Server, stored: ExactIndex) -> None:
        self._location = location
        self._local = not server.url
        self._client = connect(server)
        with _answers(location):
            if self._local:
                _fill(self._client, location.name, stored)
            count = self._client.count(location.name, exact=True).count
        if count != len(stored):
            raise VectorIndexError(
                f"collection {location.name} at {location.url}",
                expected=f"{len(stored)} vectors",
                found=f"{count}",
                remedy="build the index again",
            )

    @staticmethod
    def write(location: Location, server: Server, stored: ExactIndex) -> None:
        """Create the collection on its server; without a server, nothing is stored.

        Args:
            location: the collection.
            server: that should hold it.
            stored: the vectors.

        Raises:
            VectorIndexError: the server does not answer, or refuses.
        """
        client = connect(server)
        if server.url:
            with _answers(location):
                _fill(client, location.name, stored)
        client.close()

    @property
    def exact(self) -> bool:
        """Whether every row is compared."""
        return self._local

    def find(self, queries: Floats, depth: int, among: Ints | None) -> Ints:
        """Return candidates; see `CandidateFinder.find`."""
        from qdrant_client import models  # noqa: PLC0415 - an extra

        only = None
        if among is not None:
            only = models.Filter(must=[models.HasIdCondition(has_id=among.tolist())])
        settings = None
        if not self._local:
            settings = models.SearchParams(hnsw_ef=max(EF_SEARCH, 2 * depth))
        asked = [
            models.QueryRequest(query=query.tolist(), filter=only, params=settings, limit=depth)
            for query in queries
        ]
        with _answers(self._location):
            answers = self._client.query_batch_points(self._location.name, asked)
        rows = np.full((len(queries), depth), -1, np.int64)
        for row, answer in zip(rows, answers, strict=True):
            row[: len(answer.points)] = [point.id for point in answer.points]
        return rows

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _fill(client: Any, name: str, stored: ExactIndex) -> None:  # noqa: ANN401 - a client
    from qdrant_client import models  # noqa: PLC0415 - an extra

    shape = models.VectorParams(size=stored.dim, distance=models.Distance.DOT)
    client.create_collection(name, vectors_config=shape)
    for first in range(0, len(stored), _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, len(stored)))
        with warnings.catch_warnings():  # many vectors in this process: they were asked for
            warnings.simplefilter("ignore")
            batch = models.Batch(ids=[*rows.tolist()], vectors=stored.vectors(rows).tolist())
            client.upsert(name, batch, wait=True)


@contextmanager
def _answers(location: Location) -> Iterator[None]:
    """Turn what goes wrong between here and a server into one line."""
    from qdrant_client.http.exceptions import ApiException  # noqa: PLC0415 - an extra

    try:
        yield
    except CL2CMError:
        raise
    except (ApiException, ValueError, OSError) as error:
        raise VectorIndexError(
            f"collection {location.name} at {location.url or 'this process'}",
            expected="a Qdrant server that holds it",
            found=str(error).strip()[:200] or type(error).__name__,
            remedy="start the server, set QDRANT_API_KEY, or build the index again",
        ) from error
