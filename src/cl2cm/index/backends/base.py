"""The base class of backends: properties, writing, opening and deleting.

A backend is one class in one file, and one line of registry.py. In another package it is an entry
point (docs/extending.md).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from cl2cm.index.address import Server, public_http
from cl2cm.index.backends.quantization import DTYPES, DType
from cl2cm.index.protocol import Items, VectorIndex
from cl2cm.types import Floats, Item

if TYPE_CHECKING:
    from cl2cm.index.backends.location import Location

ServerUse = Literal["none", "optional", "required"]


@dataclass(frozen=True, slots=True)
class Generation:
    """One state of an index, as a backend writes and opens it.

    Attributes:
        files: path of each file of the backend, by its kind.
        dtype: how the vectors are stored.
        count: N, the number of vectors.
        dim: D, the width of a vector.
        hashes: SHA-256 of each file, by its kind; empty while the generation is written.
        ours: whether this user made the index; files of others must be read with suspicion.
        location: name of the vectors on a server, for a backend with a server.
        server: the server, which the user allowed.
        states: of the files of the items while the generation is written; see `ItemStore.write`.
    """

    files: Mapping[str, Path]
    dtype: DType
    count: int
    dim: int
    hashes: Mapping[str, str] = field(default_factory=dict[str, str])
    ours: bool = True
    location: "Location | None" = None
    server: Server | None = None
    states: Sequence[int | None] = ()

    @property
    def remote(self) -> "tuple[Location, Server]":
        """The location and its server, for a backend that has one."""
        assert self.location is not None, "the backend states that it has no server"  # noqa: S101
        assert self.server is not None  # noqa: S101
        return self.location, self.server


class Backend(ABC):
    """A way to store and search the vectors and items of an index.

    Attributes:
        name: as in ``--backend NAME``: lower-case letters, digits, ``.``, ``_`` and ``-``.
        dtypes: of ``float16``, ``float32`` and ``int8`` those that it can store.
        files: kinds of its files, each a word of lower-case letters; ``vectors`` and ``items`` are
            the kinds of `ExactBackend`.
        server: whether it needs a server: ``none``, ``optional`` or ``required``.
        address: form of the server's address, for error messages.
        parted: whether an index may have several generations of it, each with a part of the rows,
            so that an update writes only what is new; `open` then returns an `ItemStore`.
    """

    name: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]] = DTYPES
    files: ClassVar[tuple[str, ...]] = ("vectors", "items")
    server: ClassVar[ServerUse] = "none"
    address: ClassVar[str] = "http://HOST:PORT"
    parted: ClassVar[bool] = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the files of a generation, including the one that names a server."""
        return self.files if self.server == "none" else (*self.files, "place")

    def public_url(self, url: str) -> str:
        """Return a server's address without a password, for storing and showing.

        Raises:
            ConfigError: it is not an address.
        """
        return public_http(url)

    def check(self, location: "Location", server: Server) -> None:  # noqa: B027 - nothing to check
        """Detect early, before encoding, that the index could not be written.

        Args:
            location: what an error calls the server.
            server: the server, if there is one.

        Raises:
            MissingExtraError: a package is not installed.
            VectorIndexError: a server does not answer.
        """

    @abstractmethod
    def write(self, generation: Generation, vectors: Floats, items: Sequence[Item]) -> None:
        """Write vectors and items; each file is written atomically.

        Args:
            generation: where to.
            vectors: unit vectors float32 [N, D].
            items: item i for vector i.

        Raises:
            VectorIndexError: no vectors, or not of unit length; an id twice; a server that refuses.
            MissingExtraError: a package is not installed.
        """

    @abstractmethod
    def open(self, generation: Generation) -> tuple[VectorIndex, Items]:
        """Open a written generation for reading.

        Raises:
            VectorIndexError: a file is damaged, or a server does not answer.
            MissingExtraError: a package is not installed.
        """

    def drop(self, location: "Location", server: Server) -> None:  # noqa: B027 - without a server
        """Delete the data at a location of a server, if there are any.

        Raises:
            VectorIndexError: the server does not answer, or refuses.
        """
