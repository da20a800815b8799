"""Search: a query in any language, or a picture, to the pictures that fit it best.

A query is encoded once and compared with every item of the index (the similarity of "Two
networks" in method.md). Building an index is the same way for the pictures: encode, write.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cl2cm.errors import ManifestError, MediaError, QueryError, VectorIndexError
from cl2cm.index import Index
from cl2cm.index.exact import DType
from cl2cm.index.head import refuse_other_folder
from cl2cm.types import Example, Floats, Hit, Item, SearchModel

MAX_QUERY = 2000  # characters
MAX_K = 1000
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})

BadHandler = Callable[[Example, MediaError], None]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to a query.

    Attributes:
        query: as it was searched, without the blanks around it.
        hits: best first.
        encode_ms: milliseconds to encode the query.
        search_ms: milliseconds to find the hits.
    """

    query: str
    hits: tuple[Hit, ...]
    encode_ms: float
    search_ms: float

    def to_json(self) -> dict[str, Any]:
        """Give the object that ``cl2cm search --json`` and the service answer with."""
        keys = ("id", "score", "path", "start", "end")
        return {
            "query": self.query,
            "hits": [{key: getattr(hit, key) for key in keys} for hit in self.hits],
            "ms": {"encode": round(self.encode_ms, 3), "search": round(self.search_ms, 3)},
        }


class Searcher:
    """A model and an index of its vectors; safe to share between threads.

    Args:
        model: encodes the queries, one at a time.
        index: made with the same model.

    Raises:
        VectorIndexError: the index is of another model.
    """

    def __init__(self, model: SearchModel, index: Index) -> None:
        if (model.fingerprint, model.dim) != (index.model, index.dim):
            raise VectorIndexError(
                str(index.path),
                expected=f"an index of the model {model.fingerprint} (width {model.dim})",
                found=f"one of {index.model} (width {index.dim})",
                remedy="search with the run that the index was made with, or index again",
            )
        self.model = model
        self.index = index
        self._encoding = threading.Lock()

    def search(self, query: str, k: int = 10) -> list[Hit]:
        """Give the best ``k`` hits for a query in any language, best first.

        Args:
            query: 1 to 2,000 characters.
            k: hits wanted, 1 to 1,000; fewer come from a smaller index.

        Raises:
            QueryError: an empty or too long query, or ``k`` out of range.
        """
        return list(self.search_timed(query, k).hits)

    def search_timed(self, query: str, k: int = 10) -> SearchResult:
        """Search, and say how long each part took; as `search`."""
        query = checked_query(query)
        _check_k(k)
        begin = time.perf_counter()
        with self._encoding:
            vectors = self.model.encode_text([query])
        middle = time.perf_counter()
        (hits,) = self.index.search(vectors, k, model=self.model.fingerprint)
        end = time.perf_counter()
        return SearchResult(query, tuple(hits), (middle - begin) * 1e3, (end - middle) * 1e3)

    def similar(self, to: str | Path, k: int = 10) -> list[Hit]:
        """Give the ``k`` hits most like an item or a picture, best first.

        Args:
            to: the id of an item (a ``str``), which is then left out of the hits, or the path
                of a picture or film (a ``Path``).
            k: hits wanted, 1 to 1,000.

        Raises:
            QueryError: no such item, or ``k`` out of range.
            MediaError: the picture cannot be read.
        """
        _check_k(k)
        if isinstance(to, Path):
            with self._encoding:
                vectors = self.model.encode_visual([to])
            return self.index.search(vectors, k, model=self.model.fingerprint)[0]
        try:
            vectors = self.index.vector(self.index.row_of(to))[None]
        except VectorIndexError as error:
            raise QueryError(
                error.subject, expected=error.expected, found=error.found, remedy=error.remedy
            ) from error
        (hits,) = self.index.search(vectors, k + 1, model=self.model.fingerprint)
        return [hit for hit in hits if hit.id != to][:k]


def checked_query(query: str) -> str:
    """Give a query without the blanks around it.

    Raises:
        QueryError: it is empty, longer than 2,000 characters, or not valid Unicode.
    """
    text = query.strip()
    if not text:
        raise QueryError(
            "query", expected="some words", found="none", remedy="say what to look for"
        )
    if len(text) > MAX_QUERY:
        raise QueryError(
            "query",
            expected=f"at most {MAX_QUERY:,} characters",
            found=f"{len(text):,}",
            remedy="shorten it",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(
            "query",
            expected="valid Unicode",
            found=ascii(text[error.start : error.end]),
            remedy="check the encoding of the terminal",
        ) from error
    return text


def _check_k(k: int) -> None:
    if not 1 <= k <= MAX_K:
        raise QueryError(
            "k",
            expected=f"a number of hits from 1 to {MAX_K:,}",
            found=f"{k}",
            remedy="ask for another number of hits",
        )


def scan_folder(folder: Path) -> list[Example]:
    """Find the pictures in a folder and the folders in it, in the order of their names.

    An id is the path relative to ``folder``, with ``/``. Hidden files and folders are left out,
    and so is a link that leads out of the folder.

    Raises:
        MediaError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise MediaError(
            str(folder),
            expected="a folder of pictures",
            found="a file" if folder.exists() else "no such folder",
            remedy="give the folder that holds the pictures",
        )
    root = folder.absolute()
    real = root.resolve()
    paths = [path for path in _walk(root) if path.resolve().is_relative_to(real)]
    if not paths:
        raise MediaError(
            str(folder),
            expected="at least one picture (" + " ".join(sorted(PICTURES)) + ")",
            found="none",
            remedy="give the folder that holds the pictures",
        )
    found = sorted((path.relative_to(root).as_posix(), path) for path in paths)
    return [Example(id=name, split="all", image=path) for name, path in found]


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in PICTURES and path.is_file():
                yield path


def build_index(
    model: SearchModel,
    examples: Iterable[Example],
    out: Path,
    *,
    run: Path,
    vectors: Floats | None = None,
    batch_size: int = 256,
    dtype: DType = "float16",
    on_bad: BadHandler | None = None,
    progress: Callable[[int], None] | None = None,
) -> Index:
    """Encode pictures and films and write their index.

    Args:
        model: encodes them.
        examples: from `scan_folder` or a manifest.
        out: the index folder; an index that is there is replaced once the new one is whole.
        run: the run or export that ``model`` was loaded from.
        vectors: unit vectors, float32 [N, D], if they are known already; nothing is encoded.
        batch_size: pictures given to the model at once.
        dtype: how the vectors are stored.
        on_bad: called for each picture that cannot be read, which is then left out; without
            it the first one is an error.
        progress: called after each batch with the number of examples done.

    Raises:
        MediaError: a picture that cannot be read, without ``on_bad``.
        ManifestError: an id twice.
        VectorIndexError: nothing to index, or a folder of something else at ``out``.
    """
    examples = list(examples)
    _check_ids(examples)
    refuse_other_folder(out.resolve())  # before the hours of work, not after them
    if vectors is None:
        kept: list[tuple[Example, Floats]] = []
        for start in range(0, len(examples), batch_size):
            batch = examples[start : start + batch_size]
            kept += _encode(model, batch, on_bad)
            if progress:
                progress(start + len(batch))
        examples = [example for example, _ in kept]
        vectors = np.array([vector for _, vector in kept], np.float32).reshape(-1, model.dim)
    items = [_item(example) for example in examples]
    return Index.create(out, vectors, items, model=model.fingerprint, run=run, dtype=dtype)


def _encode(
    model: SearchModel, batch: Sequence[Example], on_bad: BadHandler | None
) -> list[tuple[Example, Floats]]:
    """Encode a batch; if it holds a bad picture and bad ones are left out, one by one."""
    try:
        vectors = model.encode_visual([_media(example) for example in batch])
        return list(zip(batch, vectors, strict=True))
    except MediaError as error:
        if on_bad is None:
            raise
        if len(batch) == 1:
            on_bad(batch[0], error)
            return []
    return [pair for example in batch for pair in _encode(model, [example], on_bad)]


def check_name(example: Example) -> None:
    """Refuse an id or a file name that is no text: it could be neither stored nor shown.

    Raises:
        MediaError: it is one.
    """
    path = example.image or example.video or Path()
    try:
        f"{path}{example.id}".encode()
    except UnicodeEncodeError as error:
        raise MediaError(
            ascii(str(path)),
            expected="a file name in Unicode",
            found=ascii(error.object[error.start : error.end]),
            remedy="rename the file",
        ) from error


def _media(example: Example) -> Path:
    path = example.image or example.video
    if path is None or example.start is not None or example.end is not None:
        raise MediaError(
            f"item {example.id!r}",
            expected="a whole picture or film",
            found="features only" if path is None else "a part of a film",
            remedy="encode it first and give its vectors",
        )
    check_name(example)
    return path


def _item(example: Example) -> Item:
    path = example.image or example.video
    where = str(path.absolute()) if path else ""
    return Item(example.id, where, example.start, example.end, example.captions)


def _check_ids(examples: Sequence[Example]) -> None:
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise ManifestError(
                f"item {example.id!r}",
                expected="an id of its own for each item",
                found="the same id twice",
                remedy="give each item its own id",
            )
        seen.add(example.id)
