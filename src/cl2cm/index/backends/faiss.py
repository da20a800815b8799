"""Candidates from faiss: flat, HNSW or IVF-PQ, by the number of vectors.

    up to 20,000      flat: every row, float32; exact
    up to 3,000,000   HNSW over float16: 2 D bytes of the vector and 128 of links a row
    beyond            IVF-PQ: D / 8 bytes per row, ten times as many candidates as hits

How far a search goes is measured when the index is written: the least effort that finds 97 % of the
ten nearest of a sample. Its file is read only if its hash is as recorded, because faiss does not
check its input.
"""

from math import sqrt
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from cl2cm.errors import MissingExtraError, VectorIndexError
from cl2cm.index.address import Server
from cl2cm.index.backends.base import Generation
from cl2cm.index.backends.exact import ExactBackend, ExactIndex
from cl2cm.index.backends.location import Location
from cl2cm.index.backends.rescoring import CandidateBackend
from cl2cm.index.protocol import VectorIndex
from cl2cm.progress import say
from cl2cm.storage import atomic_path, sha256_file
from cl2cm.types import Floats, Ints

Kind = Literal["flat", "hnsw", "ivfpq"]

FLAT_UP_TO = 20_000
HNSW_UP_TO = 3_000_000
LINKS = 16  # of a row, on each layer but the lowest, which has twice as many
CODE_BITS = 8  # of each part of a vector
EF_CONSTRUCTION = 100  # rows kept in view while a row is linked
EFFORTS = (32, 48, 64, 96, 128, 192, 256, 512, 1024)  # rows in view, or lists that are read
TARGET = 0.97  # recall at 10 on the sample
_SAMPLE = 256  # queries
_BLOCK = 16_384  # rows added at once
_OVERSAMPLE = 10  # candidates of IVF-PQ for each hit
_TRAINING = 64  # rows for each list


def load_faiss() -> Any:  # noqa: ANN401 - it has no types
    """Return the package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import faiss  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("faiss", "faiss") from error
    return faiss


def kind_for(count: int) -> Kind:
    """Return which index so many vectors get."""
    if count <= FLAT_UP_TO:
        return "flat"
    return "hnsw" if count <= HNSW_UP_TO else "ivfpq"


class FaissBackend(CandidateBackend):
    """Vectors and items in files, and an index of faiss that finds candidates."""

    name: ClassVar[str] = "faiss"
    files: ClassVar[tuple[str, ...]] = ("vectors", "items", "graph")

    def check(self, location: Location, server: Server) -> None:  # noqa: ARG002 - no server
        """Refuse to continue without faiss; see `Backend.check`."""
        load_faiss()

    def open_vectors(self, generation: Generation) -> VectorIndex:
        """Open the vectors and the graph.

        A graph that another user made is not read, because faiss does not check its input; such an
        index is searched exactly.
        """
        if generation.ours:
            return super().open_vectors(generation)
        say(
            f"{generation.files['graph']}: not read, since you did not make it, or with an earlier "
            "version; every row is compared"
        )
        return ExactBackend().open_vectors(generation)

    def write_finder(self, generation: Generation, stored: ExactIndex) -> None:
        """Write an index of the stored vectors."""
        FaissFinder.write(generation.files["graph"], stored)

    def open_finder(self, generation: Generation, stored: ExactIndex) -> "FaissFinder":
        """Read the index that `write_finder` wrote."""
        path, sha256 = generation.files["graph"], generation.hashes["graph"]
        return FaissFinder.open(path, sha256, len(stored), stored.dim)


class FaissFinder:
    """A faiss index that finds candidates; see `CandidateFinder`.

    Args:
        index: of faiss.
    """

    def __init__(self, index: Any) -> None:  # noqa: ANN401 - of faiss
        self._faiss = load_faiss()
        self._index = index
        self.kind: Kind = "flat"
        if isinstance(index, self._faiss.IndexHNSW):
            self.kind, self.effort = "hnsw", index.hnsw.efSearch
        elif isinstance(index, self._faiss.IndexIVF):
            self.kind, self.effort = "ivfpq", index.nprobe

    @classmethod
    def open(cls, path: Path, sha256: str, count: int, dim: int) -> "FaissFinder":
        """Read what `write` wrote.

        Args:
            path: the file.
            sha256: its hash.
            count: N, the number of its vectors.
            dim: D, their width.

        Raises:
            VectorIndexError: it is another file, or of other vectors.
            MissingExtraError: faiss is not installed.
        """
        faiss = load_faiss()
        found = sha256_file(path)
        if found == sha256:
            index = faiss.read_index(str(path))
            if (index.ntotal, index.d) == (count, dim):
                return cls(index)
            found = f"{index.ntotal} vectors of width {index.d}"
        raise VectorIndexError(
            str(path),
            expected=f"the hash {sha256[:16]}…, and {count} vectors of width {dim}",
            found=found,
            remedy="build the index again",
        )

    @classmethod
    def write(cls, path: Path, stored: ExactIndex, kind: Kind | None = None) -> "FaissFinder":
        """Build an index of stored vectors; the file is written atomically.

        Args:
            path: where to.
            stored: the vectors.
            kind: None: by their number.
        """
        faiss = load_faiss()
        index = _new(faiss, stored, kind or kind_for(len(stored)))
        for first in range(0, len(stored), _BLOCK):
            rows = np.arange(first, min(first + _BLOCK, len(stored)))
            index.add(stored.vectors(rows))
        made = cls(index)
        made._tune(stored)
        with atomic_path(path) as partial:
            faiss.write_index(index, str(partial))
        return made

    @property
    def exact(self) -> bool:
        """Whether every row is compared."""
        return self.kind == "flat"

    def find(self, queries: Floats, depth: int, among: Ints | None) -> Ints:
        """Return candidates; see `CandidateFinder.find`."""
        if self.kind == "ivfpq":
            depth = min(max(depth * _OVERSAMPLE, 100), self._index.ntotal)
        bits = None
        if among is not None:
            chosen = np.zeros(self._index.ntotal, bool)
            chosen[among] = True
            bits = np.packbits(chosen, bitorder="little")  # kept alive while faiss reads it
        rows: Ints
        _, rows = self._index.search(queries, depth, params=self._settings(depth, bits))
        return rows

    def close(self) -> None:
        """Do nothing: the memory is freed with the index."""

    def _settings(self, depth: int, bits: Any) -> Any:  # noqa: ANN401 - of faiss
        selector = None if bits is None else self._faiss.IDSelectorBitmap(bits)
        if self.kind == "hnsw":
            effort = max(self.effort, depth)
            return self._faiss.SearchParametersHNSW(efSearch=effort, sel=selector)
        if self.kind == "ivfpq":
            return self._faiss.SearchParametersIVF(nprobe=self.effort, sel=selector)
        return self._faiss.SearchParameters(sel=selector)

    def _tune(self, stored: ExactIndex) -> None:
        """Find the least effort with which a sample of queries finds what it should."""
        if self.kind == "flat":
            return
        rows = np.linspace(0, len(stored) - 1, 2 * _SAMPLE).astype(np.int64)
        pairs = stored.vectors(rows)
        queries = pairs[:_SAMPLE] + np.float32(0.5) * pairs[_SAMPLE:]  # none is a stored vector
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        _, true = stored.search(queries, 10)
        for self.effort in EFFORTS:
            found = self.find(queries, 18, None)
            hits = [np.isin(*pair).mean() for pair in zip(true, found, strict=True)]
            if np.mean(hits) >= TARGET:
                break
        if self.kind == "hnsw":
            self._index.hnsw.efSearch = self.effort
        else:
            self._index.nprobe = self.effort


def _new(faiss: Any, stored: ExactIndex, kind: Kind) -> Any:  # noqa: ANN401 - of faiss
    dim = stored.dim
    if kind == "flat":
        return faiss.IndexFlatIP(dim)
    if kind == "hnsw":
        half = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexHNSWSQ(dim, half, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = EF_CONSTRUCTION
        index.is_trained = True  # float16 has nothing to learn
        return index
    lists = max(1, min(2 ** round(np.log2(4 * sqrt(len(stored)))), len(stored) // 40))
    parts = max(part for part in range(1, max(dim // 8, 1) + 1) if dim % part == 0)
    index = faiss.index_factory(
        dim, f"IVF{lists},PQ{parts}x{CODE_BITS}", faiss.METRIC_INNER_PRODUCT
    )
    sample = np.linspace(0, len(stored) - 1, min(len(stored), max(_TRAINING * lists, 16_384)))
    index.train(stored.vectors(sample.astype(np.int64)))
    return index
