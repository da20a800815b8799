"""Queries of concurrent requests, encoded together.

One thread asks the model. It takes whatever has come in while it was busy, up to ``batch`` texts,
as the next batch; so a query that comes alone is encoded at once and waits for nobody, and the
more there are, the larger the batches become. Pictures are encoded by the same thread, one at a
time: a model need not be safe between threads.
"""

import asyncio
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cl2cm.types import Floats, SearchModel

Key = tuple[str, str]  # fingerprint of the model, text


@dataclass(frozen=True, slots=True)
class _Job:
    model: SearchModel
    what: str | Path
    future: "asyncio.Future[Floats]"

    def settle(self, value: Floats | None, error: Exception | None) -> None:
        """Hand over a result, in the thread of the event loop; nobody may be waiting any more."""
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        elif value is not None:
            self.future.set_result(value)


class QueryEncoder:
    """Encodes texts and pictures for requests of one event loop.

    Args:
        batch: texts encoded at once.
        remembered: vectors of texts kept, the last used.
        on_batch: called with the number of texts of each batch, in the encoder's thread.
    """

    def __init__(
        self, batch: int, remembered: int, on_batch: Callable[[int], None] | None = None
    ) -> None:
        self._batch, self._remembered, self._on_batch = batch, remembered, on_batch
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._known: OrderedDict[Key, Floats] = OrderedDict()
        self._coming: dict[Key, asyncio.Future[Floats]] = {}
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after what it has begun."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(timeout=5)
            self._thread = None

    async def texts(self, model: SearchModel, texts: Sequence[str]) -> Floats:
        """Give the unit vectors float32 [N, D] of texts; equal ones are encoded once."""
        if not texts:
            return np.empty((0, model.dim), np.float32)
        waiting = [self._text(model, text) for text in texts]
        return np.stack([part if isinstance(part, np.ndarray) else await part for part in waiting])

    async def picture(self, model: SearchModel, path: Path) -> Floats:
        """Give the unit vector float32 [D] of a picture."""
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
        self._jobs.put(_Job(model, what, future))
        return future

    def _remember(self, key: Key, done: "asyncio.Future[Floats]") -> None:
        self._coming.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._known[key] = done.result()
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)

    def _work(self) -> None:
        kept: _Job | None = None  # taken from the queue, for the next batch
        while True:
            first = kept or self._jobs.get()
            if first is None:
                return
            batch, kept = self._take(first)
            self._encode(batch)

    def _take(self, first: _Job) -> tuple[list[_Job], _Job | None]:
        """Give the texts that are there for one model, and the job after them that is another's."""
        batch = [first]
        while isinstance(first.what, str) and len(batch) < self._batch:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            if isinstance(job.what, Path) or job.model is not first.model:
                return batch, job
            batch.append(job)
        return batch, None

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
