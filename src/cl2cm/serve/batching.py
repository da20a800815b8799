"""Queries of concurrent requests, encoded together.

One thread asks the model. It takes whatever has come in while it was busy, up to ``batch`` texts,
as the next batch; so a query that comes alone is encoded at once, and the more there are, the
larger the batches become. Images are encoded by the same thread, one at a time: a model need not be
safe between threads. Texts go first, so that uploads keep a query waiting for one image at most;
after some batches of texts per image has its turn all the same.
"""

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cl2cm.types import Floats, SearchModel

_PATIENCE = 8  # batches of texts for which an image waits

Key = tuple[str, str]  # fingerprint of the model, text


@dataclass(frozen=True, slots=True)
class _Job:
    model: SearchModel
    what: str | Path
    future: "asyncio.Future[Floats]"

    def settle(self, value: Floats | None, error: Exception | None) -> None:
        """Deliver a result in the event loop's thread, even if nobody waits for it."""
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        elif value is not None:
            self.future.set_result(value)


class QueryBatcher:
    """Encodes texts and images for requests of one event loop.

    Args:
        batch: texts encoded at once.
        remembered: vectors of texts kept, the last used.
        on_batch: called with the number of texts of each batch, in the batcher's thread.
    """

    def __init__(
        self, batch: int, remembered: int, on_batch: Callable[[int], None] | None = None
    ) -> None:
        self._batch, self._remembered, self._on_batch = batch, remembered, on_batch
        self._texts: deque[_Job] = deque()
        self._pictures: deque[_Job] = deque()
        self._there = threading.Condition()  # of both, and of what follows
        self._passed = 0  # batches of texts that went before a waiting image
        self._stopping = False
        self._known: OrderedDict[Key, Floats] = OrderedDict()
        self._coming: dict[Key, asyncio.Future[Floats]] = {}
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after its current batch."""
        if self._thread is not None:
            with self._there:
                self._stopping = True
                self._there.notify()
            self._thread.join(timeout=5)
            self._thread = None

    async def texts(self, model: SearchModel, texts: Sequence[str]) -> Floats:
        """Return the unit vectors float32 [N, D] of texts; equal ones are encoded once."""
        if not texts:
            return np.empty((0, model.dim), np.float32)
        waiting = [self._text(model, text) for text in texts]
        return np.stack([part if isinstance(part, np.ndarray) else await part for part in waiting])

    async def picture(self, model: SearchModel, path: Path) -> Floats:
        """Return the unit vector float32 [D] of an image."""
        return await self._put(model, path)

    def _text(self, model: SearchModel, text: str) -> "Floats | asyncio.Future[Floats]":
        key = (model.fingerprint, text)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        if key not in self._coming:
            future = self._coming[key] = self._put(model, text)
            future.add_done_callback(lambda done: self._remember(key, done))
        return asyncio.shield(self._coming[key])  # another request may wait for it, too

    def _put(self, model: SearchModel, what: str | Path) -> "asyncio.Future[Floats]":
        if self._thread is None:
            self._start()
        future: asyncio.Future[Floats] = asyncio.get_running_loop().create_future()
        with self._there:
            jobs = self._texts if isinstance(what, str) else self._pictures
            jobs.append(_Job(model, what, future))
            self._there.notify()
        return future

    def _remember(self, key: Key, done: "asyncio.Future[Floats]") -> None:
        self._coming.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._known[key] = done.result()
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)

    def _work(self) -> None:
        while batch := self._next():
            self._encode(batch)

    def _next(self) -> list[_Job]:
        """Wait for jobs and return those to encode together; none at the end."""
        with self._there:
            self._there.wait_for(lambda: self._texts or self._pictures or self._stopping)
            if self._pictures and (not self._texts or self._passed >= _PATIENCE):
                self._passed = 0
                return [self._pictures.popleft()]
            batch: list[_Job] = []
            while self._texts and len(batch) < self._batch:
                if batch and self._texts[0].model is not batch[0].model:
                    break
                batch.append(self._texts.popleft())
            self._passed += bool(self._pictures)
            return batch

    def _encode(self, batch: Sequence[_Job]) -> None:
        batch = [job for job in batch if not job.future.cancelled()]
        if not batch:
            return
        model = batch[0].model
        try:
            if isinstance(batch[0].what, Path):
                vectors = model.encode_visual([batch[0].what])
            else:
                vectors = model.encode_text([str(job.what) for job in batch])
                if self._on_batch is not None:
                    self._on_batch(len(batch))
        except Exception as error:  # it belongs to whoever asked
            if len(batch) == 1:
                _hand_over([(batch[0], None, error)])
            else:  # one bad query must not spoil the others
                for job in batch:
                    self._encode([job])
            return
        _hand_over([(job, vector, None) for job, vector in zip(batch, vectors, strict=True)])


def _hand_over(results: Sequence[tuple[_Job, Floats | None, Exception | None]]) -> None:
    def settle() -> None:
        for job, vector, error in results:
            job.settle(vector, error)

    loop = results[0][0].future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
