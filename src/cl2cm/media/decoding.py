"""Decode many images and videos into batches of frames, in threads that read ahead."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice
from typing import NamedTuple, TypeVar

import numpy as np

from cl2cm.errors import MediaError
from cl2cm.media.images import (
    EVENLY,
    Pixels,
    Preprocess,
    Source,
    is_video,
    load_frames,
    video_frames,
)
from cl2cm.types import Sampling

T = TypeVar("T")


class Decoded(NamedTuple):
    """A batch of frames, and the status of its sources.

    pixels: uint8 [n, H, W, 3]; rows: position of each one's source, ascending, the same for all
    frames of a video; failures: position and error of each source of this batch that could not be
    read. A video may fail after frames of it were given, which are then worth nothing.
    """

    pixels: Pixels
    rows: list[int]
    failures: list[tuple[int, MediaError]]


def decode_parallel(
    sources: Sequence[Source],
    preprocess: Preprocess,
    *,
    sampling: Sampling = EVENLY,
    batch_size: int = 32,
    workers: int | None = None,
    skip_bad: bool = False,
) -> Iterator[Decoded]:
    """Read many images and videos in threads, ahead of who asks, in their order.

    Args:
        sources: what ``load_frames`` takes.
        preprocess: how each frame becomes a square.
        sampling: which frames of a video.
        batch_size: frames for each batch; three batches at most are held in memory, however long
            the videos are.
        workers: threads; by default one for each processor, eight at most.
        skip_bad: list the sources that cannot be read instead of stopping at the first.

    Yields:
        Batches of ``batch_size`` frames, fewer in the last of those in a row that are all images
        or all videos; without the images that failed.

    Raises:
        MediaError: a source cannot be read, and ``skip_bad`` is not set.
        MissingExtraError: there is a video, and the extra ``video`` is not installed.
    """
    for films, run in groupby(range(len(sources)), key=lambda row: is_video(sources[row])):
        rows = list(run)
        if films:
            settings = (preprocess, sampling, batch_size)
            yield from _ahead(_film_batches(sources, rows, *settings, skip_bad=skip_bad))
            continue
        batches = _picture_batches(
            sources[rows[0] : rows[-1] + 1], preprocess, batch_size, workers, skip_bad=skip_bad
        )
        for pixels, kept, failures in batches:
            moved = [(rows[0] + place, error) for place, error in failures]
            yield Decoded(pixels, [rows[0] + place for place in kept], moved)


def _film_batches(
    sources: Sequence[Source],
    rows: Sequence[int],
    preprocess: Preprocess,
    sampling: Sampling,
    batch_size: int,
    *,
    skip_bad: bool,
) -> Iterator[Decoded]:
    """Yield frames of videos, one video after the other; ffmpeg has threads of its own."""
    frames: list[Pixels] = []
    owners: list[int] = []
    failures: list[tuple[int, MediaError]] = []
    for row in rows:
        try:
            for frame in video_frames(sources[row], preprocess, sampling):
                frames.append(frame.pixels)
                owners.append(row)
                if len(frames) == batch_size:
                    yield Decoded(np.stack(frames), owners, failures)
                    frames, owners, failures = [], [], []
        except MediaError as error:
            if not skip_bad:
                raise
            failures.append((row, error))
    if owners or failures:
        empty = np.empty((0, preprocess.size, preprocess.size, 3), np.uint8)
        yield Decoded(np.stack(frames) if frames else empty, owners, failures)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the same items, two of them made in a thread before they are asked for."""
    with ThreadPoolExecutor(1) as pool:
        coming = deque(pool.submit(next, items, None) for _ in range(2))
        while (item := coming.popleft().result()) is not None:
            coming.append(pool.submit(next, items, None))
            yield item


def _picture_batches(
    sources: Sequence[Source],
    preprocess: Preprocess,
    batch_size: int,
    workers: int | None,
    *,
    skip_bad: bool,
) -> Iterator[Decoded]:
    starts = iter(range(0, len(sources), batch_size))
    with ThreadPoolExecutor(workers or min(8, (os.cpu_count() or 1) + 1)) as pool:

        def begin(start: int) -> _Pending:
            chosen = range(start, min(start + batch_size, len(sources)))
            pixels = np.empty((len(chosen), preprocess.size, preprocess.size, 3), np.uint8)
            tasks = [
                pool.submit(_decode_into, pixels[slot], sources[row], preprocess)
                for slot, row in enumerate(chosen)
            ]
            return _Pending(start, pixels, tasks)

        pending = deque(begin(start) for start in islice(starts, 2))
        try:
            while pending:
                batch = _finish(pending.popleft(), skip_bad=skip_bad)
                pending.extend(begin(start) for start in islice(starts, 1))
                yield batch
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Pending(NamedTuple):
    start: int
    pixels: Pixels
    tasks: list[Future[MediaError | None]]


def _decode_into(frame: Pixels, source: Source, preprocess: Preprocess) -> MediaError | None:
    try:
        frame[:] = load_frames(source, preprocess)[0]
    except MediaError as error:
        return error
    return None


def _finish(pending: _Pending, *, skip_bad: bool) -> Decoded:
    results = [task.result() for task in pending.tasks]
    failures = [(pending.start + i, error) for i, error in enumerate(results) if error]
    if not failures:
        rows = list(range(pending.start, pending.start + len(results)))
        return Decoded(pending.pixels, rows, [])
    if not skip_bad:
        raise failures[0][1]
    good = [i for i, error in enumerate(results) if error is None]
    return Decoded(pending.pixels[good], [pending.start + i for i in good], failures)
