"""Videos read by the decoder processes: what the rest of the project asks of a video.

``video.py``, ``sampling.py`` and ``shots.py`` do the work in those processes. Each frame has
a budget of its own, so that an honest video may be long and a hostile one cannot hang.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cl2cm.errors import MissingExtraError
from cl2cm.media.decoder_pool import Answer, Budget, DecoderPool, decoders
from cl2cm.media.preprocess import Preprocess
from cl2cm.media.video import Frame
from cl2cm.progress import Advance
from cl2cm.types import Sampling

BUDGET = Budget(cpu=120, wall=600, memory=4 * 2**30)  # of one step: a frame, or the first one
Span = tuple[float, float]


def frames_of(
    path: Path,
    preprocess: Preprocess,
    sampling: Sampling,
    start: float | None = None,
    end: float | None = None,
) -> Iterator[Frame]:
    """Yield the sampled frames of a video or of a part of it, one at a time.

    Args:
        path: the video.
        preprocess: how a frame becomes a square.
        sampling: which frames.
        start: seconds; by default the beginning.
        end: seconds; by default the end.

    Raises:
        MediaError: the video cannot be read, or not within the budget.
        MissingExtraError: the extra ``video`` is not installed.
    """
    arguments = {"preprocess": asdict(preprocess), "sampling": asdict(sampling)}
    for answer in _asked("frames", path, {**arguments, "start": start, "end": end}):
        pixels = np.frombuffer(answer.body, np.uint8).reshape(answer.head["shape"])
        yield Frame(answer.head["seconds"], pixels)


def shots_of(path: Path, start: float | None, end: float | None, progress: Advance) -> list[Span]:
    """Return the shots of a video; see `cl2cm.media.shots.find_shots`."""
    spans: list[Span] = []
    for answer in _asked("shots", path, {"start": start, "end": end}):
        if "shots" in answer.head:
            spans = [(float(first), float(last)) for first, last in answer.head["shots"]]
        else:
            progress(answer.head["seconds"])
    return spans


def part_of(path: Path, start: float | None, end: float | None) -> Span:
    """Return the bounds of a part of a video, seconds; see `cl2cm.media.video.Film.part`."""
    (answer,) = _asked("part", path, {"start": start, "end": end})
    return answer.head["start"], answer.head["end"]


def still_of(
    path: Path,
    name: str,
    part: tuple[float | None, float | None],
    size: int,
    pool: DecoderPool,
    budget: Budget,
) -> tuple[bytes, str]:
    """Return the frame that stands for a video or a part of it, drawn small, and its MIME type.

    Args:
        path: the video.
        name: what an error calls it.
        part: start and end, seconds; None: the beginning, the end.
        size: longest side, pixels.
        pool: who decodes it.
        budget: what that may cost.

    Raises:
        MediaError: the video cannot be read, or not within the budget.
        MissingExtraError: the extra ``video`` is not installed.
    """
    _require()
    arguments = {"path": str(path), "start": part[0], "end": part[1], "size": size}
    answer = pool.ask("still", name, budget, arguments)
    return bytes(answer.body), answer.head["media_type"]


def _asked(task: str, path: Path, arguments: dict[str, Any]) -> Iterator[Answer]:
    _require()
    named = {"path": str(path), **arguments}
    return decoders().stream(task, str(path), BUDGET, named)


def _require() -> None:
    if importlib.util.find_spec("av") is None:
        raise MissingExtraError("av", "video")
