"""The service behind the routes: search, uploads, items and alignments, with limits."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePath
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

from cl2cm.errors import QueryError, VectorIndexError
from cl2cm.progress import say
from cl2cm.search.language import identify
from cl2cm.search.query import Query, checked, parse_query
from cl2cm.search.result import SearchResult
from cl2cm.search.searcher import QueryVectors, Searcher
from cl2cm.serve.batching import QueryBatcher
from cl2cm.serve.collection import Collection, LoadModel
from cl2cm.serve.files import MediaFile, open_media, small_copy
from cl2cm.serve.limits import Limits
from cl2cm.serve.media import Thumbnails, decoders
from cl2cm.serve.monitoring import Metrics
from cl2cm.serve.suggestions import suggest
from cl2cm.serve.uploads import Upload, Uploads, drawn_anew, thumbnail
from cl2cm.types import Floats, Hit, Item

Align = Callable[[str, str], Mapping[str, Any]]  # two texts -> the object of align --json
P = ParamSpec("P")
T = TypeVar("T")

_WATCH_SECONDS = 1.0
_QUICK = 2**22  # numbers of an index that are compared within a millisecond
_MOMENTS = 500  # hits among which the moments of a video are looked for


class NotFoundError(Exception):
    """A missing item, or a missing part of one."""


class Service:
    """The operations behind the routes: search, items, files, and word alignment.

    Args:
        searcher: a model and its index.
        limits: of time and memory.
        load_model: as for `Collection`.
        align: aligns two texts word by word; None if the model cannot.
    """

    def __init__(
        self,
        searcher: Searcher,
        *,
        limits: Limits,
        load_model: LoadModel | None = None,
        align: Align | None = None,
    ) -> None:
        self.limits = limits
        self.metrics = Metrics()
        self.collection = Collection(searcher, load_model)
        self.thumbnails = Thumbnails()
        self.uploads = Uploads(limits.uploads)
        self.suggested: list[tuple[str, str]] = []  # queries to try
        self._align = align
        self._batcher = QueryBatcher(limits.batch, limits.remembered, self.metrics.batch.observe)
        # none of these may keep a search waiting
        self._pool = ThreadPoolExecutor(limits.threads, "service")
        self._slow = ThreadPoolExecutor(1, "slow")
        self._drawing = ThreadPoolExecutor(2, "thumbnail")
        self._reading = ThreadPoolExecutor(4, "file")
        self._receiving = ThreadPoolExecutor(2, "upload")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the service does."""
        self.metrics.items.set(len(self.searcher.index))
        watching = asyncio.create_task(self._watch())
        warming = asyncio.gather(self.run(identify, "warm up"), self._suggest())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, warming, return_exceptions=True)
            self._batcher.stop()
            pools = self._pool, self._slow, self._drawing, self._reading, self._receiving
            for pool in pools:
                pool.shutdown(wait=False, cancel_futures=True)
            for purpose in ("thumbnails", "uploads"):
                decoders(purpose).close()

    async def _suggest(self) -> None:
        self.suggested = await self.slowly(suggest, self.searcher)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                await self.refresh()
            except Exception as error:
                say(f"the index could not be checked: {error!r}")

    async def refresh(self) -> None:
        """Take a newer index if there is one."""
        if await self.slowly(self.collection.refresh):
            self.metrics.reloads.inc()
            self.metrics.items.set(len(self.searcher.index))
            await self._suggest()
            await self.slowly(gc.collect)  # the files of indexes that nobody asks any more

    @property
    def searcher(self) -> Searcher:
        """The present searcher; a request takes it once."""
        return self.collection.searcher

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Run a function in a thread; a cancelled caller does not wait for its end."""
        return await _in(self._pool, work, *args, **named)

    async def slowly(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Do something that may take seconds, one at a time."""
        return await _in(self._slow, work, *args, **named)

    async def read(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Run a file operation, which may be slow."""
        return await _in(self._reading, work, *args, **named)

    async def search(self, query: Query, searcher: Searcher | None = None) -> SearchResult:
        """Answer a query; concurrent ones are encoded together.

        Raises:
            QueryError: as `cl2cm.search.query.checked`, or no item as ``query.like`` names.
        """
        searcher = searcher or self.searcher
        query = checked(query)
        begin = perf_counter()
        texts = await self._batcher.texts(searcher.model, query.texts)
        spent = (perf_counter() - begin) * 1e3
        vectors = QueryVectors(texts)
        if _is_quick(searcher, query):
            return searcher.find(query, vectors, encode_ms=spent)
        return await self.run(searcher.find, query, vectors, encode_ms=spent)

    async def vector_of(self, image: bytes) -> Floats:
        """Return the unit vector of an image that somebody sent.

        Raises:
            MediaError: it is none, or of too many pixels.
        """
        async with self._drawn_anew(image) as path:
            return await self._batcher.picture(self.searcher.model, path)

    async def upload(self, image: bytes) -> str:
        """Keep an image to search with; return its name; as `vector_of`."""
        model = self.searcher.model
        async with self._drawn_anew(image) as path:
            small = await _in(self._receiving, thumbnail, path)
            vector = await self._batcher.picture(model, path)
        return self.uploads.keep(Upload(vector, model.fingerprint, *small))

    @contextlib.asynccontextmanager
    async def _drawn_anew(self, image: bytes) -> AsyncIterator[Path]:
        with contextlib.ExitStack() as stack:
            yield await _in(self._receiving, stack.enter_context, drawn_anew(image))

    def uploaded(self, name: str) -> Upload:
        """Return an image that was kept.

        Raises:
            QueryError: it is forgotten.
        """
        return self.uploads.get(name, self.searcher.model.fingerprint)

    async def item(self, item_id: str) -> Item:
        """Return an item of the index by its id.

        Raises:
            NotFoundError: there is none.
        """
        try:
            return await self.run(self.searcher.index.item_by_id, item_id)
        except VectorIndexError as error:
            raise NotFoundError("no item has this id") from error

    async def media(self, item_id: str) -> MediaFile:
        """Open the file of an item by its id.

        Raises:
            NotFoundError: no such item, or one without a file.
            MediaError: a file that may not be shown.
        """
        index, item = self.searcher.index, await self._with_file(item_id)
        return await self.read(open_media, index, item)

    async def thumbnail(self, item_id: str, size: int) -> tuple[bytes, str]:
        """Return a small copy of an item's image, or of a frame near the middle of its video.

        Raises:
            NotFoundError: as `media`.
            MediaError: as `media`, or a file that cannot be decoded.
            MissingExtraError: a video, and what reads videos is not installed.
        """
        index, item = self.searcher.index, await self._with_file(item_id)
        part = (item.start, item.end)

        def draw() -> tuple[bytes, str]:
            media, name = open_media(index, item), PurePath(item.path).name
            with media.file:
                make = partial(small_copy, media, size, part, name)
                return self.thumbnails.get((media.tag, size, part), make)

        return await _in(self._drawing, draw)

    async def _with_file(self, item_id: str) -> Item:
        item = await self.item(item_id)
        if not item.path:
            raise NotFoundError("this item was indexed from features, without a file")
        return item

    async def moments(self, item: Item, text: str) -> list[Item | Hit]:
        """Return the parts of an item's video that a text finds, or else the like, by time."""
        if item.start is None and item.end is None:
            return []
        path = str(await self.run(self.searcher.index.media_path, item))
        try:
            result = await self.search(Query(*parse_query(text), k=_MOMENTS))
        except QueryError:
            result = await self.search(Query(like=item.id, k=_MOMENTS))
        others = [hit for hit in result.hits if hit.path == path and hit.id != item.id]
        return sorted([item, *others], key=lambda part: part.start or 0.0)

    async def match_of(self, text: str, item: Item) -> float:
        """Return the match of an item with a text.

        Raises:
            QueryError: a text that cannot be searched.
        """
        searcher, query = self.searcher, checked(Query(*parse_query(text)))
        vectors = QueryVectors(await self._batcher.texts(searcher.model, query.texts))
        return await self.run(searcher.match_of, query, vectors, item.id)

    @property
    def aligns(self) -> bool:
        """Whether word alignment is available."""
        return self._align is not None

    async def align(self, query: str, item: Item, language: str, number: int) -> Mapping[str, Any]:
        """Align a query with a caption of an item.

        Raises:
            NotFoundError: no such caption, or a model that cannot align.
            QueryError: a text without words, or one that is too long.
        """
        captions = item.captions.get(language, ())
        if self._align is None or not 0 <= number < len(captions):
            raise NotFoundError("no such caption, or no model that aligns words")
        text = checked(Query(query)).text
        return await self.slowly(self._align, text, captions[number])


async def _in(
    pool: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **named: P.kwargs
) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, partial(work, *args, **named))


def _is_quick(searcher: Searcher, query: Query) -> bool:
    """Return whether a search is faster than handing it to a thread: about a millisecond."""
    index = searcher.index
    if index.backend != "exact":  # it may be far away
        return False
    few = query.offset + query.k <= 100 and not query.fold and query.filter is None
    return few and len(index) * index.dim <= _QUICK
