"""The backends of an index, by name: what each writes, and how it is opened.

exact       vectors, items                  every row compared; no further package
faiss       vectors, items, graph           flat, HNSW or IVF-PQ by size
qdrant      vectors, items, a collection    on a server by URL, or in this process
pgvector    a table                         PostgreSQL by URL
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from cl2cm.errors import CL2CMError, ConfigError
from cl2cm.index.address import Server, public_url
from cl2cm.index.allowed import Allowed
from cl2cm.index.backends.exact import ExactIndex
from cl2cm.index.backends.location import Location, remote_name
from cl2cm.index.backends.quantization import DTYPES, DType
from cl2cm.index.backends.rescoring import RescoredIndex
from cl2cm.index.items import ItemStore
from cl2cm.index.metadata import is_ours
from cl2cm.index.protocol import Items, VectorIndex
from cl2cm.progress import say
from cl2cm.types import Floats, Item

BackendName = Literal["exact", "faiss", "qdrant", "pgvector"]
BACKENDS: tuple[str, ...] = get_args(BackendName)

SMALL = 2**24  # values, 64 MiB in float32: too few for rounding to save anything
_ORPHAN_SECONDS = 24 * 3600  # after this nobody is still filling a location that nothing names


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """What an index is searched with; kept in its metadata.

    Attributes:
        name: one of four.
        dtype: how vectors are stored.
        url: of a server, for ``qdrant`` and ``pgvector``; with its password, which is not kept.
        cleartext: whether credentials may go to a server on another machine without TLS.
    """

    name: BackendName = "exact"
    dtype: DType = "float16"
    url: str = ""
    cleartext: bool = False

    def __post_init__(self) -> None:
        dtypes = DTYPES if self.name != "pgvector" else ("float16", "float32")
        if self.name not in BACKENDS:
            raise _bad("--backend", " | ".join(BACKENDS), self.name)
        if self.dtype not in dtypes:
            raise _bad(f"dtype of {self.name}", " or ".join(dtypes), self.dtype)
        if self.url and self.name not in ("qdrant", "pgvector"):
            raise _bad("--url", f"none for {self.name}", "an address")
        if self.name == "pgvector" and not self.url:
            raise _bad("--url", "postgresql://USER@HOST/DATABASE", "none")

    @property
    def public(self) -> str:
        """The address without its password."""
        return public_url(self.name, self.url) if self.url else ""

    @property
    def server(self) -> Server:
        """The server, which the user named."""
        return Server(self.url, self.cleartext)


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What the user asks for; None keeps what the index has, or takes the default."""

    backend: str | None = None
    dtype: str | None = None
    url: str | None = None
    cleartext: bool = False

    def resolve(self, metadata: Mapping[str, Any], values: int = 0) -> BackendConfig:
        """Give the backend.

        Args:
            metadata: of the index that is there, or empty.
            values: N times D; few are stored as they are, in float32, many in float16.

        Raises:
            ConfigError: a choice that cannot be.
            VectorIndexError: the address of a server that only the index names.
        """
        name = self.backend or metadata.get("backend", "exact")
        before = metadata if name == metadata.get("backend") else {}
        default = "float32" if values <= SMALL else "float16"
        dtype = self.dtype or before.get("dtype", default)
        allowed = Allowed.of(cleartext=bool(self.cleartext))
        server = Server(before.get("url", "") if self.url is None else self.url, allowed.cleartext)
        if server.url and self.url is None:
            kept = before.get("cleartext", False)
            location = Location(name, server.url, remote_name("0"), "", kept, is_ours(metadata))
            server = location.server(allowed)
        kind, form = cast("BackendName", name), cast("DType", dtype)  # it checks them
        return BackendConfig(kind, form, *server)


def check_backend(backend: BackendConfig) -> None:
    """Refuse now what could not be written after hours of encoding.

    Raises:
        ConfigError: an address that cannot be.
        MissingExtraError: the backend's package is not installed.
        VectorIndexError: a server that does not answer.
    """
    if backend.name == "faiss":
        from cl2cm.index.backends.faiss import load_faiss  # noqa: PLC0415 - an extra

        load_faiss()
    elif backend.name != "exact":
        if backend.name == "pgvector":
            from cl2cm.index.backends.pgvector import check_server  # noqa: PLC0415 - an extra
        else:
            from cl2cm.index.backends.qdrant import check_server  # noqa: PLC0415 - an extra
        check_server(Location(backend.name, backend.public, remote_name("check")), backend.server)


def write(
    backend: BackendConfig,
    files: Mapping[str, Path],
    vectors: Floats,
    items: Sequence[Item],
    folder: str,
) -> None:
    """Write vectors and items to the files of a generation, and to a server if there is one.

    Args:
        backend: what searches them.
        files: of the generation, by kind.
        vectors: unit vectors float32 [N, D].
        items: item i for vector i.
        folder: that will hold the files.

    Raises:
        VectorIndexError: no vectors, or not of unit length; an id twice; a server that refuses.
        MissingExtraError: the backend's package is not installed.
    """
    location = None
    if "place" in files:
        token = files["place"].stem.partition("-")[2]
        name = remote_name(token)
        location = Location(
            backend.name, backend.public, name, folder, backend.cleartext, ours=True
        )
        location.write(files["place"])
    try:
        if backend.name == "pgvector":
            from cl2cm.index.backends.pgvector import PostgresIndex  # noqa: PLC0415 - an extra

            assert location is not None  # noqa: S101 - its files say so
            PostgresIndex.write(location, backend.server, vectors, items, backend.dtype)
            return
        ExactIndex.write(files["vectors"], vectors, backend.dtype)
        ItemStore.write(files["items"], items)
        count, dim = vectors.shape
        stored = ExactIndex.open(files["vectors"], count, dim, backend.dtype)
        if backend.name == "faiss":
            from cl2cm.index.backends.faiss import FaissFinder  # noqa: PLC0415 - an extra

            FaissFinder.write(files["graph"], stored)
        elif location is not None:
            from cl2cm.index.backends.qdrant import QdrantFinder  # noqa: PLC0415 - an extra

            QdrantFinder.write(location, backend.server, stored)
    except BaseException:
        if location is not None:
            with contextlib.suppress(CL2CMError):
                drop(location, backend.server)
        raise


def open_backend(
    files: Mapping[str, Path], metadata: Mapping[str, Any], allowed: Allowed
) -> tuple[VectorIndex, Items]:
    """Open the vectors and items of a generation.

    A graph that another user made is not read, since faiss does not check what it reads: such an
    index is searched row by row.

    Raises:
        VectorIndexError: a file is damaged, or a server does not answer.
        MissingExtraError: the backend's package is not installed.
    """
    shape = (int(metadata["count"]), int(metadata["dim"]))
    if metadata["backend"] == "pgvector":
        from cl2cm.index.backends.pgvector import PostgresIndex  # noqa: PLC0415 - an extra

        location = Location.read(files["place"])
        table = PostgresIndex(location, location.server(allowed), shape[1], metadata["dtype"])
        return table, table
    backend = metadata["backend"]
    if backend == "faiss" and not is_ours(metadata):
        say(
            f"{files['graph']}: not read, since you did not make it, or with an earlier version; "
            "every row is compared"
        )
        backend = "exact"
    room = None if backend == "exact" else 0  # the others seldom search them all
    stored = ExactIndex.open(files["vectors"], *shape, metadata["dtype"], resident_bytes=room)
    vectors: VectorIndex = stored
    if backend == "faiss":
        from cl2cm.index.backends.faiss import FaissFinder  # noqa: PLC0415 - an extra

        finder = FaissFinder.open(files["graph"], metadata["files"]["graph"]["sha256"], *shape)
        vectors = RescoredIndex(stored, finder)
    elif backend == "qdrant":
        from cl2cm.index.backends.qdrant import QdrantFinder  # noqa: PLC0415 - an extra

        location = Location.read(files["place"])
        vectors = RescoredIndex(stored, QdrantFinder(location, location.server(allowed), stored))
    try:
        return vectors, ItemStore(files["items"])
    except BaseException:
        vectors.close()
        raise


def drop(location: Location, server: Server) -> None:
    """Remove what is at a location of a server, if it is there.

    Raises:
        VectorIndexError: the server does not answer, or refuses.
    """
    if location.backend == "pgvector":
        from cl2cm.index.backends.pgvector import PostgresIndex  # noqa: PLC0415 - an extra

        PostgresIndex.drop(location, server)
    else:
        from cl2cm.index.backends.qdrant import QdrantFinder  # noqa: PLC0415 - an extra

        QdrantFinder.drop(location, server)


def sweep_locations(folder: Path, keep: frozenset[str], gone: frozenset[str]) -> None:
    """Remove the locations ``gone``, and what killed runs left a day ago; a later run tries again.

    Only what this user made for this folder is removed, at the server that this user named then.

    Args:
        folder: of the index.
        keep: names of the files of locations that are in use.
        gone: names of those that are not any more.
    """
    old = time.time() - _ORPHAN_SECONDS
    for path in folder.glob("place-*.json"):
        if path.name in keep or not (path.name in gone or path.stat().st_mtime < old):
            continue
        with contextlib.suppress(CL2CMError, OSError):
            location = Location.read(path)
            if location.ours and location.folder == str(folder):
                drop(location, location.server(Allowed()))
                path.unlink()
            elif path.name in gone:
                say(
                    f"{path}: {location.name} at {location.url} was made elsewhere or by an "
                    "earlier version, and stays; drop it there, then remove this file"
                )


def _bad(subject: str, expected: str, found: str) -> ConfigError:
    return ConfigError(subject, expected=expected, found=found, remedy="choose another")
