"""Frame sampling: evenly spread, at a fixed rate, or one frame per shot."""

import math
from collections.abc import Generator, Iterator
from pathlib import Path

from cl2cm.media.animation import is_uniform
from cl2cm.media.shots import find_shots
from cl2cm.media.video import Film, Frame
from cl2cm.types import Sampling


def sampled_frames(
    path: Path, sampling: Sampling, start: float | None = None, end: float | None = None
) -> Iterator[Frame]:
    """Yield the sampled frames of a video or a part of it.

    Args:
        path: the video.
        sampling: how they are chosen.
        start: seconds; by default the video's beginning.
        end: seconds; by default the video's end.

    Yields:
        At least one frame, in order of time.

    Raises:
        MediaError: the video cannot be read, or begins after ``start``.
        MissingExtraError: the extra ``video`` is not installed.
    """
    if sampling.kind == "scenes":
        times = iter([(first + last) / 2 for first, last in find_shots(path, start, end)])
        with Film(path) as film:
            yield from film.at(times)
        return
    with Film(path) as film:
        first, last = film.part(start, end)
        frames = film.at(sample_times(first, last, sampling))
        if sampling.kind == "fps":
            yield from frames
            return
        blank = yield from _without_blank(frames)
        if blank:
            still = film.still(first, last)
            yield from blank if is_uniform(still.pixels) else [still]


def _without_blank(frames: Iterator[Frame]) -> Generator[Frame, None, list[Frame]]:
    """Leave out frames of one colour, such as a black beginning; return them if all are such."""
    blank: list[Frame] = []
    shown = False
    for frame in frames:
        if not is_uniform(frame.pixels):
            shown = True
            yield frame
        elif not shown:
            blank.append(frame)
    return [] if shown else blank


def sample_times(start: float, end: float, sampling: Sampling) -> Iterator[float]:
    """Yield seconds of frames between two times: the middles of equal pieces.

    Args:
        start: seconds.
        end: seconds, after the start.
        sampling: ``uniform`` or ``fps``.
    """
    count = max(1, math.ceil((end - start) * sampling.fps - 1e-6))
    if sampling.kind == "uniform":
        count = min(count, sampling.frames)
    return (start + (number + 0.5) * (end - start) / count for number in range(count))
