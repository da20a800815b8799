"""The index as a folder: vectors, items, and the model whose space they lie in.

    index.json             what is here: format, sizes, hashes, the model's fingerprint, the run
    vectors-TOKEN.npy      float16, float32 or int8 [N, D]
    items-TOKEN.sqlite     ids, paths, times, captions
    graph-TOKEN.faiss      with the backend faiss
    place-TOKEN.json       with a server: where, and under which name; no password
    removed-TOKEN.rows     rows of the other files that no longer count

``index.json`` is written last and replaced in one step; it names the files of its own generation. A
reader finds either the old index or the new one, and can continue to read the old one if it is
open. An update adds a part: files with the rows that are new (parts.py). On a server, the last
generation but one is dropped when the next is made.
"""

from collections.abc import Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from cl2cm.errors import VectorIndexError
from cl2cm.index.allowed import Allowed
from cl2cm.index.backend_choice import BackendOptions
from cl2cm.index.filter import Filter
from cl2cm.index.generation import open_generation
from cl2cm.index.media import media_path, open_media, roots_of, run_of
from cl2cm.index.metadata import (
    check_files,
    check_hashes,
    entries_of,
    is_ours,
    read_metadata,
)
from cl2cm.index.selection import Selections
from cl2cm.index.write import write_index
from cl2cm.storage import sha256_text
from cl2cm.types import Floats, Hit, Ints, Item, StrPath


class Index:
    """An index open for search, by `Index.open` or `Index.create`; safe to share between threads.

    Attributes:
        path: the folder.

    Example:
        >>> import cl2cm
        >>> index = cl2cm.Index.open("index")
        >>> len(index), index.dim, index.backend
        (24, 32, 'exact')
        >>> index.item(0).id
        'black-bar.png'
    """

    def __init__(self, path: Path, metadata: Mapping[str, Any], allowed: Allowed) -> None:
        self.path = path
        self.allowed = allowed
        self.roots = roots_of(path, metadata, allowed)
        self._metadata = metadata
        self._vectors, self._items = open_generation(path, metadata, allowed)
        self.matching = Selections(self._items).matching  # rows of a filter

    @classmethod
    def create(
        cls,
        path: StrPath,
        vectors: Floats,
        items: Sequence[Item],
        *,
        model: str,
        run: StrPath,
        dtype: str | None = None,
        backend: str | None = None,
        url: str | None = None,
        cleartext: bool = False,
        roots: Sequence[Path] | None = None,
    ) -> "Index":
        """Write an index, whole or not at all, in place of the one that may be there.

        Args:
            path: the folder; absent, empty, or an index already.
            vectors: unit vectors, float32 [N, D], N at least 1.
            items: item i for vector i; relative paths are relative to ``path``.
            model: fingerprint of the model that made the vectors.
            run: the run or export that a search loads to encode its queries, or ``hf:MODEL``.
            dtype: how the vectors are stored: ``float16``, ``float32`` or ``int8``.
            backend: ``exact``, ``faiss``, ``qdrant``, ``pgvector``, or one of another package. What
                is None is as in the index that is there, or ``exact``, and ``float32`` up to
                64 MiB, else ``float16``.
            url: of the server, for a backend with a server; a password in it is not kept.
            cleartext: whether credentials may go to a server on another machine without TLS.
            roots: folders that the items' files are in; nothing outside of them is ever read.
                None: the folder of each file.

        Raises:
            ConfigError: a backend, dtype or address that cannot be.
            VectorIndexError: a folder of something else; no vectors, or not finite, or not of
                unit length; another number of items; an id twice; a server that refuses.
            MissingExtraError: the backend's package is not installed.
            StorageError: the disk is full, read-only or closed to us.
        """
        options = BackendOptions(backend, dtype, url, cleartext)
        config = write_index(
            Path(path), vectors, items, model=model, run=run, options=options, roots=roots
        )
        allowed = Allowed.of(url, cleartext=cleartext, backends=(config.name,))
        return cls.open(path, allowed)

    @classmethod
    def open(cls, path: StrPath, allowed: Allowed | None = None) -> "Index":
        """Open an index for search; nothing in it is changed.

        Sizes and hashes are compared with ``index.json``, once for each state of a file; `verify`
        reads every byte again.

        Args:
            path: the folder. It may be a stranger's: no server is asked, and no file outside of it
                is read, unless this user made the index or allows it.
            allowed: what the index may reach outside its folder; None: what the environment says.

        Raises:
            VectorIndexError: no index, or a damaged one, whose file the text names; a server that
                the user did not allow.
        """
        path = Path(path).resolve()
        allowed = Allowed.of() if allowed is None else allowed
        metadata = read_metadata(path)
        while True:
            try:
                check_files(path, metadata)
                check_hashes(path, metadata)
                return cls(path, metadata, allowed)
            except (VectorIndexError, FileNotFoundError):
                newer = read_metadata(path)  # was it replaced between the two readings?
                if newer == metadata:
                    raise
                metadata = newer

    @property
    def model(self) -> str:
        """Fingerprint of the model that made the vectors."""
        return str(self._metadata["model"])

    @property
    def run(self) -> StrPath:
        """The run, or ``hf:MODEL``, that made the vectors; a run that moved along with the index.

        Raises:
            VectorIndexError: somebody else's index, whose run is not beside it or is ``hf:MODEL``.
        """
        return run_of(self.path, self._metadata)

    @property
    def ours(self) -> bool:
        """Whether this user made it, or somebody else."""
        return is_ours(self._metadata)

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return self._vectors.dim

    @property
    def generation(self) -> str:
        """Names this state of the folder; another once vectors or items are others."""
        hashes = sorted(f"{kind} {file['sha256']}" for kind, file in entries_of(self._metadata))
        return sha256_text("\n".join(hashes))[:16]

    def __len__(self) -> int:
        """Return the number N of vectors."""
        return len(self._vectors)

    def nearest(
        self,
        vectors: Floats,
        k: int,
        *,
        model: str,
        filter: Filter | None = None,  # noqa: A002
    ) -> tuple[Floats, Ints]:
        """Return scores float32 and rows int64, both [Q, K], of the best rows for each vector.

        Args:
            vectors: unit vectors, float32 [Q, D].
            k: hits wanted, at least 1; beyond N there are N.
            model: fingerprint of the model that made ``vectors``.
            filter: which items may be hits; None: all.

        Raises:
            VectorIndexError: vectors of another model or width, or not finite; k below 1.
        """
        if model != self.model:
            raise VectorIndexError(
                str(self.path),
                expected=f"vectors of the index's model {self.model}",
                found=f"vectors of {model}",
                remedy="search with the run that the index was made with, or index again",
            )
        among = self.matching(filter) if filter else None
        return self._vectors.search(vectors, k, among=among)

    def search(
        self,
        vectors: Floats,
        k: int,
        *,
        model: str,
        filter: Filter | None = None,  # noqa: A002
    ) -> list[list[Hit]]:
        """Return the best ``k`` hits for each of Q vectors, best first; as `nearest`."""
        scores, rows = self.nearest(vectors, k, model=model, filter=filter)
        items = {row: self.item(row) for row in {int(row) for row in rows.flat}}
        return [
            [self.hit(items[int(row)], float(score)) for score, row in zip(*pair, strict=True)]
            for pair in zip(scores, rows, strict=True)
        ]

    def hit(self, item: Item, score: float) -> Hit:
        """Return an item with its score; the hit's path is absolute, or empty without a file."""
        path = str(self.media_path(item)) if item.path else ""
        about = (item.start, item.end, item.captions)
        return Hit(item.id, score, path, *about, kind=item.kind, roots=self.roots)

    def vector(self, row: int) -> Floats:
        """Return a stored vector, float32 [D]."""
        self.item(row)
        vector: Floats = self._vectors.vectors(np.array([row]))[0]
        return vector

    def vectors(self, rows: Sequence[int]) -> Floats:
        """Return the stored vectors of some rows, float32 [K, D]; as `item`."""
        self._items.at(rows)
        return self._vectors.vectors(np.asarray(rows, np.int64))

    @property
    def backend(self) -> str:
        """Name of the backend that searches it."""
        return str(self._metadata["backend"])

    def item(self, row: int) -> Item:
        """Return the item of a row.

        Raises:
            VectorIndexError: no such row, or a damaged file.
        """
        return self._items.at([row])[0]

    def folders(self) -> list[str]:
        """Return every folder that items are in, by their ids."""
        return self._items.folders()

    def items(self, rows: Sequence[int]) -> list[Item]:
        """Return the items of some rows, in that order; as `item`."""
        return self._items.at(rows)

    def row_of(self, item_id: str) -> int:
        """Return the row of an id.

        Raises:
            VectorIndexError: no such id, or a damaged file.
        """
        return self._items.row_of(item_id)

    def item_by_id(self, item_id: str) -> Item:
        """Return the item of an id; as `row_of`."""
        return self.item(self.row_of(item_id))

    def media_path(self, item: Item) -> Path:
        """Return the absolute path of an item's image or video, which may have gone since.

        Raises:
            VectorIndexError: the item was indexed from features, without a file.
        """
        return media_path(self.path, self._metadata, item, self.roots)

    def open_media(self, item: Item) -> BufferedReader:
        """Open an item's image or video for reading: a regular file below one of `roots`.

        Raises:
            VectorIndexError: as `media_path`.
            MediaError: there is no such file there, or a link leads to it.
        """
        return open_media(item, self.media_path(item), self.roots)

    def verify(self) -> None:
        """Read every byte and compare the hashes.

        Raises:
            VectorIndexError: a file is not the one that was written.
        """
        check_hashes(self.path, self._metadata, again=True)

    def close(self) -> None:
        """Close the files; no search is possible afterwards."""
        self._vectors.close()
        self._items.close()
