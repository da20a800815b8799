"""Which frames stand for a film: evenly spread, so many a second, or one of each shot."""

import math
from collections.abc import Iterator
from pathlib import Path

from cl2cm.media.shots import find_shots
from cl2cm.media.video import Film, Frame
from cl2cm.types import Sampling


def sampled_frames(
    path: Path, sampling: Sampling, start: float | None = None, end: float | None = None
) -> Iterator[Frame]:
    """The frames that stand for a film or a part of it, one at a time.

    Args:
        path: the film.
        sampling: how they are chosen.
        start: seconds; by default the film's beginning.
        end: seconds; by default the film's end.

    Yields:
        At least one frame, in order of time.

    Raises:
        MediaError: the film cannot be read, or begins after ``start``.
        MissingExtraError: the extra ``video`` is not installed.
    """
    if sampling.kind == "scenes":
        times = iter([(first + last) / 2 for first, last in find_shots(path, start, end)])
        with Film(path) as film:
            yield from film.at(times)
        return
    with Film(path) as film:
        yield from film.at(sample_times(*film.part(start, end), sampling))


def sample_times(start: float, end: float, sampling: Sampling) -> Iterator[float]:
    """Seconds of frames between two times: the middles of equal pieces.

    Args:
        start: seconds.
        end: seconds, after the start.
        sampling: ``uniform`` or ``fps``.
    """
    count = max(1, math.ceil((end - start) * sampling.fps - 1e-6))
    if sampling.kind == "uniform":
        count = min(count, sampling.frames)
    return (start + (number + 0.5) * (end - start) / count for number in range(count))
