"""The searcher: from a query in any language, an image or both, to the best hits.

A query is encoded once and compared with every item of the index (the similarity of "Two
networks" in method.md). A query of several parts is still one vector: each part is divided by the
deviation of its own scores and weighted, so that hits are ranked by the weighted sum of how far
each part's score stands out, and every backend can answer it. Unwanted terms count against a hit.
"""

import math
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cl2cm.errors import QueryError, VectorIndexError
from cl2cm.index import Index
from cl2cm.index.shortened import fitting
from cl2cm.search.folding import fold, unfolded
from cl2cm.search.gathering import MOST, HitPage, gathered, listed, total
from cl2cm.search.hits import Hits, with_matches
from cl2cm.search.match import Background
from cl2cm.search.query import (
    MAX_DEPTH,
    WITHOUT_WEIGHT,
    Query,
    checked,
)
from cl2cm.search.result import SearchResult
from cl2cm.types import Floats, Hit, SearchModel, StrPath


class QueryVectors(NamedTuple):
    """A query, encoded.

    texts: float32 [T, D], a unit vector for each of ``Query.texts``; image: float32 [D], the
    unit vector of the file that ``Query.like`` names, if it names one.
    """

    texts: Floats
    picture: Floats | None = None


class Searcher:
    """A model and an index of its vectors; safe to share between threads.

    Args:
        model: encodes the queries, one at a time.
        index: made with the same model, or with prefixes of its vectors (``cl2cm index --dim``).

    Raises:
        VectorIndexError: the index is of another model.

    Example:
        >>> import cl2cm
        >>> model = cl2cm.load("run")
        >>> with cl2cm.Searcher(model, cl2cm.Index.open("index")) as searcher:
        ...     [hit.id for hit in searcher.search("red square", k=2)]
        ['red-square.png', ...]
    """

    def __init__(self, model: SearchModel, index: Index) -> None:
        model = fitting(model, index.model, index.dim)
        if (model.fingerprint, model.dim) != (index.model, index.dim):
            raise VectorIndexError(
                str(index.path),
                expected=f"an index of the model {model.fingerprint} (width {model.dim})",
                found=f"one of {index.model} (width {index.dim})",
                remedy="search with the run that the index was made with, or index again",
            )
        self.model = model
        self.index = index
        self._background = Background.of(index, model)
        self._encoding = threading.Lock()

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the index; no search is possible afterwards."""
        self.index.close()

    def search(self, query: str | Query, k: int = 10) -> Hits:
        """Return the best hits for a query in any language, best first.

        Args:
            query: a text of 1 to 2,000 characters, searched as it stands, or a `Query`.
            k: hits wanted for a text, 1 to 1,000; fewer come from a smaller index.

        Raises:
            QueryError: an empty or too long query, or a number out of its range.
            MediaError: the query's image cannot be read.

        Example:
            >>> import cl2cm
            >>> searcher = cl2cm.open("index")
            >>> hits = searcher.search("red square", k=3)
            >>> len(hits), hits[0].id
            (3, 'red-square.png')
            >>> query = cl2cm.Query("circle", without=("red",), k=3)
            >>> "red-square.png" in [hit.id for hit in searcher.search(query)]
            False
        """
        return Hits(self.search_timed(query, k).hits)

    def search_timed(self, query: str | Query, k: int = 10) -> SearchResult:
        """Search, and say how well the hits match and how long each part took; as `search`."""
        request = checked(Query(query, k=k) if isinstance(query, str) else query)
        begin = time.perf_counter()
        vectors = self.encode(request)
        return self.find(request, vectors, encode_ms=(time.perf_counter() - begin) * 1e3)

    def similar(self, to: StrPath, k: int = 10) -> Hits:
        """Return the ``k`` hits most like an item, or an image or video, best first.

        Args:
            to: the id of an item, which is then left out of the hits, or a file's path. A ``str``
                is an id where the index has it, else the path of a file that exists.
            k: hits wanted, 1 to 1,000.

        Raises:
            QueryError: no such item, or ``k`` out of range.
            MediaError: the file cannot be read.

        Example:
            >>> import cl2cm
            >>> searcher = cl2cm.open("index")
            >>> searcher.similar("red-square.png", k=1)[0].id == "red-square.png"
            False
            >>> searcher.similar("images/red-square.png", k=1)[0].id
            'red-square.png'
        """
        if isinstance(to, str) and (self._has(to) or not Path(to).is_file()):
            return self.search(Query(like=to, k=k))
        return self.search(Query(like=Path(to), k=k))

    def _has(self, item_id: str) -> bool:
        try:
            self.index.row_of(item_id)
        except VectorIndexError:
            return False
        return True

    def encode(self, query: Query) -> QueryVectors:
        """Encode what has to be encoded of a query.

        Raises:
            MediaError: its image cannot be read.
        """
        picture = None
        with self._encoding:
            if isinstance(query.like, Path):
                picture = self.model.encode_visual([query.like])[0]
            texts = self.model.encode_text(query.texts) if query.texts else self._no_texts()
        return QueryVectors(texts, picture)

    def search_texts(
        self, texts: Sequence[str], query: Query
    ) -> list[tuple[list[Hit], list[float]]]:
        """Return hits and matches for many texts, each searched as it stands.

        Args:
            texts: as `cl2cm.search.query.checked` gave them.
            query: its ``k``, ``offset``, ``filter`` and ``min_match`` hold for all; the rest is
                not looked at.
        """
        with self._encoding:
            vectors = self.model.encode_text(texts)
        found = self._search(vectors, query.offset + query.k, query)
        pages = [hits[query.offset :] for hits in found]
        answers: list[tuple[list[Hit], list[float]]] = []
        for text, page, vector in zip(texts, pages, vectors, strict=True):
            matches = self._background.matches(vector, [hit.score for hit in page], text)
            good = [match for match in matches if match >= (query.min_match or 0.0)]
            answers.append((with_matches(page[: len(good)], good), good))
        return answers

    def _no_texts(self) -> Floats:
        return np.empty((0, self.index.dim), np.float32)

    def find(self, query: Query, vectors: QueryVectors, *, encode_ms: float = 0.0) -> SearchResult:
        """Search for a query that is encoded already.

        Args:
            query: as `cl2cm.search.query.checked` gave it.
            vectors: its vectors.
            encode_ms: how long that took, for the result.

        Raises:
            QueryError: no such item as ``query.like`` names, or nothing is left of the query.
        """
        begin = time.perf_counter()
        if query.is_listing:
            groups, more, count = listed(self.index, query)
            matches = [math.nan] * len(groups)
        else:
            vector = self._combine(query, vectors)
            groups, more, count = self._ranked(query, vector)
            matches = self._matches(query, vector, [group[0] for group in groups])
        hits = with_matches([group[0] for group in groups], matches)
        return SearchResult(
            query,
            tuple(hits),
            tuple(matches),
            tuple(tuple(group[1:]) for group in groups),
            more,
            encode_ms,
            (time.perf_counter() - begin) * 1e3,
            count,
        )

    def match_of(self, query: Query, vectors: QueryVectors, item_id: str) -> float:
        """Return the match of one item with a query, whatever its place among the hits.

        Args:
            query: as `cl2cm.search.query.checked` gave it.
            vectors: its vectors.
            item_id: of the item.

        Raises:
            VectorIndexError: no such item.
        """
        vector = self._combine(query, vectors)
        item = self.index.item_by_id(item_id)
        score = float(self.index.vector(self.index.row_of(item_id)) @ vector)
        return self._matches(query, vector, [self.index.hit(item, score)])[0]

    def _matches(self, query: Query, vector: Floats, hits: Sequence[Hit]) -> list[float]:
        text = query.text if query.like is None and not query.without else None
        return self._background.matches(vector, [hit.score for hit in hits], text)

    def _combine(self, query: Query, vectors: QueryVectors) -> Floats:
        """Return the unit vector float32 [D] of all parts of a query."""
        wanted = vectors.texts[: len(query.texts) - len(query.without)]
        alone = query.like is None or not query.text
        parts: list[tuple[Floats, float]]
        parts = [(vector, 1.0 if alone else 1 - query.weight) for vector in wanted]
        if query.like is not None:
            parts.append((self._likeness(query.like, vectors), 1.0 if alone else query.weight))
        parts += [(vector, -WITHOUT_WEIGHT) for vector in vectors.texts[len(wanted) :]]
        if len(parts) == 1:
            return parts[0][0]
        total = np.zeros(self.index.dim, np.float32)
        for part, weight in parts:
            total += np.float32(weight / self._background.deviation(part)) * part
        length = np.float32(np.linalg.norm(total))
        if length < 1e-6:
            raise QueryError(
                "query",
                expected="something to look for",
                found="query parts that cancel out",
                remedy="exclude fewer terms",
            )
        unit: Floats = total / length
        return unit

    def _likeness(self, like: str | Path | Floats, vectors: QueryVectors) -> Floats:
        if isinstance(like, np.ndarray):
            return like
        if isinstance(like, Path):
            assert vectors.picture is not None, "a query with a file is encoded with it"  # noqa: S101
            return vectors.picture
        try:
            vector: Floats = self.index.vector(self.index.row_of(like))
        except VectorIndexError as error:
            raise QueryError(
                error.subject, expected=error.expected, found=error.found, remedy=error.remedy
            ) from error
        return vector

    def _ranked(self, query: Query, vector: Floats) -> HitPage:
        """Return the hits of a page, each with those folded into it."""
        if query.min_match or query.sort:
            (hits,) = self._search(vector[None], MOST + 1, query)
            return gathered(self.index, query, hits, partial(self._matches, query, vector))
        last = query.offset + query.k
        itself = query.like if isinstance(query.like, str) else None
        depth = last + 1 + (itself is not None)
        while True:
            (hits,) = self._search(vector[None], depth, query)
            kept = [hit for hit in hits if hit.id != itself]
            groups = fold(kept, self._vectors(kept)) if query.fold else unfolded(kept)
            if len(groups) > last or len(hits) < depth or depth >= 2 * MAX_DEPTH:
                more, page = len(groups) > last, groups[query.offset : last]
                return HitPage(page, more, total(self.index, query))
            depth *= 2

    def _search(self, vectors: Floats, k: int, query: Query) -> list[list[Hit]]:
        return self.index.search(vectors, k, model=self.model.fingerprint, filter=query.filter)

    def _vectors(self, hits: Sequence[Hit]) -> Floats:
        if not hits:
            return self._no_texts()
        return self.index.vectors([self.index.row_of(hit.id) for hit in hits])
