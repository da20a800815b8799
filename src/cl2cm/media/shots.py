"""Shot detection: where the camera or the slide changes in a video.

A change is seen by comparing what lies before a moment with what lies after it, 0.3 to 1.9 s
apart, so that a cross-fade is as plain as a cut, and a flash is none. Compared are histograms of
colour in the four quarters of the frame, by Hellinger's distance; brightness is levelled before,
so that a fade through black is one change. ``benchmarks/moments.py`` measures it beside the
detectors of PySceneDetect, which look at neighbouring frames and see no fade.
"""

import math
from bisect import bisect, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain, pairwise, repeat
from pathlib import Path
from statistics import fmean, median
from typing import TypeVar

import numpy as np

from cl2cm.errors import MediaError, OnSkip
from cl2cm.media.video import Film, Pixels
from cl2cm.media.video_reading import Span, part_of, shots_of
from cl2cm.progress import Advance, track
from cl2cm.storage import cache_folder, read_record, sha256_text, write_record
from cl2cm.types import Example, Floats

LONG = 10.0  # seconds from which a video is cut into shots, where nothing else is asked for
LONGEST = 30.0  # seconds; a longer shot is divided evenly, for much may happen in it
SHORTEST = 1.2  # seconds between two changes; half as much before the first and after the last
STEP = 0.1  # seconds between the frames that are compared

_SIDE = 48  # pixels
_BINS = 5  # of each colour
_DARK = 64  # brightness, of 255, below which a frame is not made brighter to the full
_LAGS = (1, 3, 5, 7, 9)  # steps on either side of a moment, beyond the frames next to it
_REACH = max(_LAGS) + 1
_THRESHOLD = 0.3  # of 1, which is nothing in common
_REST = 0.75  # of a change, to which it must fall before the next may come
_VERSION = 1  # of what is kept in the cache

Result = TypeVar("Result")


def split_films(
    examples: Sequence[Example],
    *,
    longer_than: float = LONG,
    on_skip: OnSkip | None = None,
) -> list[Example]:
    """Put the shots of videos in their place; everything else stays as it is.

    A shot is an example with the video's captions, the id ``FILM#t=START,END`` and both in seconds
    (to a millisecond in the example, to a tenth in the id). What was found is kept in the cache.

    Args:
        examples: images, videos, and parts of videos, which are cut within their bounds.
        longer_than: seconds; shorter videos stay whole, and so does a video of one shot.
        on_skip: told id and error of each video that cannot be read, which is then left out;
            without it the first one is an error.

    Raises:
        MediaError: a video cannot be read, and there is no ``on_skip``.
        MissingExtraError: there is a video, and the extra ``video`` is not installed.
    """
    films = [example for example in examples if example.kind == "video"]
    lengths = {example.id: _attempt(_length, example, on_skip) for example in films}
    long = sum(length for length in lengths.values() if length and length > longer_than)
    shots: list[Example] = []
    with _counted(long) as advance:
        for example in examples:
            length = lengths.get(example.id, 0.0)
            if length is not None and length > longer_than:
                shots += _attempt(lambda e: _shots_of(e, advance), example, on_skip) or []
            elif length is not None:
                shots.append(example)
    return shots


def find_shots(
    path: Path,
    start: float | None = None,
    end: float | None = None,
    *,
    progress: Advance | None = None,
) -> list[Span]:
    """Return the shots of a video, or of a part of it, one after the other without gaps.

    Args:
        path: the video; it is read once through, in bounded memory.
        start: where to begin, seconds; by default at the beginning.
        end: where to stop, seconds; by default at the end.
        progress: called with the number of seconds just read.

    Returns:
        Start and end of each, seconds, at most 30 s apart.

    Raises:
        MediaError: the video cannot be read, or begins after ``start``.
        MissingExtraError: the extra ``video`` is not installed.
    """
    spans: list[Span] = []
    for found in look_for_shots(path, start, end):
        if isinstance(found, list):
            spans = found
        elif progress is not None:
            progress(found)
    return spans


def look_for_shots(
    path: Path, start: float | None = None, end: float | None = None
) -> Iterator[int | list[Span]]:
    """Yield the number of seconds just dealt with, again and again, and the shots at last.

    This decodes in this process; see `find_shots`.
    """
    with Film(path, many=True) as film:
        start, end = film.part(start, end)
        times: list[float] = []
        strengths: list[float] = []
        told = 0
        for strength in _strengths(_seen(film, start, end, times)):
            strengths.append(strength)
            if int(len(times) * STEP) > told:
                told += 1
                yield 1
    yield _divided(start, _changes(np.array(strengths), times), end)


def _shots_of(example: Example, progress: Advance) -> list[Example]:
    spans = _known_shots(example, progress)
    if len(spans) == 1:
        return [example]
    return [
        replace(
            example,
            id=f"{example.id}#t={start:.1f},{end:.1f}",
            start=round(start, 3),
            end=round(end, 3),
        )
        for start, end in spans
    ]


def _known_shots(example: Example, progress: Advance) -> list[Span]:
    """Return the shots of a video, from the cache where they are known."""
    path, start, end = _film(example), example.start, example.end
    status = path.stat()
    key = (path.resolve(), status.st_size, status.st_mtime_ns, start, end, _VERSION)
    known = cache_folder() / "shots" / f"{sha256_text(repr(key))[:24]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):  # none, or a damaged one
        spans = [(float(a), float(b)) for a, b in read_record(known)["shots"]]
        if spans and all(a < b for a, b in spans):
            progress(round(spans[-1][1] - spans[0][0]))
            return spans
    spans = shots_of(path, start, end, progress)
    write_record(known, {"shots": spans})
    return spans


def _length(example: Example) -> float:
    start, end = part_of(_film(example), example.start, example.end)
    return end - start


def _film(example: Example) -> Path:
    if example.kind != "video" or example.path is None:
        raise ValueError(example.id)
    return example.path


@contextmanager
def _counted(seconds: float) -> Iterator[Callable[[int], None]]:
    """Follow the work, if there is any."""
    if not seconds:
        yield lambda _: None
        return
    with track("find shots, seconds of film", round(seconds)) as advance:
        yield advance


def _attempt(
    work: Callable[[Example], Result], example: Example, on_skip: OnSkip | None
) -> Result | None:
    """Return what becomes of an example; None where it is bad and the handler was told."""
    try:
        return work(example)
    except MediaError as error:
        if on_skip is None:
            raise
        on_skip(example.id, error)
        return None


# --- what is compared -------------------------------------------------------------------------


def _seen(film: Film, start: float, end: float, times: list[float]) -> Iterator[Floats]:
    """Yield the signature of the frame at every step; its time goes to ``times``."""
    last, signature = None, np.empty(0, np.float32)
    for seconds, pixels in film.every(STEP, start, end, side=_SIDE):
        if pixels is not last:
            last, signature = pixels, _signature(pixels)
        times.append(seconds)
        yield signature


def _signature(pixels: Pixels) -> Floats:
    """Return square roots of the histograms of colour of the four quarters, one unit vector.

    Every pixel counts for the two nearest bins of each colour, so that little noise changes little.
    """
    bright = max(float(np.percentile(pixels, 95)), _DARK)
    values = np.minimum(pixels * np.float32(255 / bright), 255) * np.float32((_BINS - 1) / 255)
    near = np.maximum(0, 1 - np.abs(values[..., None] - np.arange(_BINS, dtype=np.float32)))
    parts = []
    for half in np.array_split(near, 2, axis=0):
        for quarter in np.array_split(half, 2, axis=1):
            red, green, blue = np.moveaxis(quarter.reshape(-1, 3, _BINS), 1, 0)
            others = (green[:, :, None] * blue[:, None, :]).reshape(len(red), -1)
            parts.append((red.T @ others).ravel() / len(red))
    vector: Floats = np.sqrt(np.concatenate(parts, dtype=np.float32) / np.float32(len(parts)))
    return vector


def _strengths(signatures: Iterable[Floats]) -> Iterator[float]:
    """How much differs between what lies before each signature and what begins with it, 0 to 1."""
    window: deque[Floats] = deque(maxlen=2 * _REACH)
    signatures = iter(signatures)
    first = next(signatures)
    last = first
    window.extend(repeat(first, _REACH))
    for signature in chain([first], signatures, repeat(None, _REACH - 1)):
        last = last if signature is None else signature
        window.append(last)
        if len(window) == 2 * _REACH:
            yield _strength(window)


def _strength(window: Sequence[Floats]) -> float:
    """Median of the distances, which a flash does not move; and their mean, to place the cut."""
    pairs = [(window[_REACH - 1 - lag], window[_REACH + lag]) for lag in (0, *_LAGS)]
    apart = [math.sqrt(max(0.0, 1.0 - float(before @ after))) for before, after in pairs]
    return (2 * median(apart[1:]) + fmean(apart)) / 3


def _changes(strengths: Floats, times: Sequence[float]) -> list[float]:
    """Return seconds of the strongest changes that stand apart from each other."""
    edge = round(SHORTEST / STEP / 2) + 1
    found: list[int] = []
    for place in np.argsort(-strengths, kind="stable").tolist():
        if strengths[place] < _THRESHOLD:
            break
        inside = edge <= place < len(strengths) - edge
        if inside and _stands_apart(place, found, strengths):
            insort(found, place)
    return [times[place] for place in found]


def _stands_apart(place: int, found: Sequence[int], strengths: Floats) -> bool:
    """Return whether a place is far from the stronger ones beside it, with a rest in between.

    Within a long fade there are several peaks, but no rest.
    """
    right = bisect(found, place)
    for other in found[max(0, right - 1) : right + 1]:
        between = strengths[min(place, other) : max(place, other) + 1]
        near = len(between) <= round(SHORTEST / STEP)
        if near or between.min() > _REST * strengths[place]:
            return False
    return True


def _divided(start: float, changes: Sequence[float], end: float) -> list[Span]:
    """Return spans between changes, none longer than the longest."""
    spans = []
    for begin, stop in pairwise([start, *changes, end]):
        parts = max(1, math.ceil((stop - begin) / LONGEST - 1e-6))
        bounds = np.linspace(begin, stop, parts + 1).tolist()
        spans += list(pairwise(bounds))
    return spans
