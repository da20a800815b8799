"""The process that decodes: tasks from a pipe, one at a time, each within its budget.

``decoder_pool.py`` starts it. The budget is kept by the operating system, so that it holds while
C code runs: a timer, a limit of processor time and one of memory end the process, or the
allocation. Before the first task the process gives up what a decoder does not need: its terminal,
its place before others, and core dumps.
"""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from cl2cm.errors import MediaError, MissingExtraError
from cl2cm.media.decoder_pool import Answer, read, write
from cl2cm.media.image_decoding import (
    Allowed,
    decode_square,
    redraw,
    save,
    square,
    trust_own_limits,
)
from cl2cm.media.preprocess import Preprocess
from cl2cm.types import Sampling

Parts = Iterator[tuple[dict[str, Any], bytes]]
_KEPT = 2**28  # bytes of addresses that tasks may leave behind before the process is replaced


def main() -> None:
    """Work until the pipe ends."""
    source, target = _pipes()
    _step_back(int(sys.argv[2]))
    trust_own_limits()
    base = _address_space()
    while (request := read(source)) is not None:
        budget = request.head["budget"]
        try:
            parts = TASKS[request.head["task"]](request)
            while (part := _within(budget, base, parts)) is not None:
                write(target, {"state": "part", **part[0]}, part[1])
            end: dict[str, Any] = {"state": "done"}
        except MemoryError:
            end = {"state": "memory"}
        except MediaError as error:
            end = {"state": "refused", "error": _fields(error)}
        except MissingExtraError as error:
            end = {"state": "missing", "extra": [error.package, error.extra]}
        # Addresses that earlier tasks left behind count against the limit of later ones.
        worn = end["state"] == "memory" or _address_space() > base + _KEPT
        write(target, {**end, "worn": worn}, b"")


def _within(
    budget: Mapping[str, int], base: int, parts: Parts
) -> tuple[dict[str, Any], bytes] | None:
    """Make the next part of an answer within the budget; waiting for the reader is free."""
    _limit(budget, base)
    try:
        return next(parts, None)
    finally:
        _lift_limits()  # the next request has a budget of its own, and is read before


def _fields(error: MediaError) -> dict[str, str]:
    names = ("subject", "expected", "found", "remedy")
    return {name: getattr(error, name) for name in names}


# --- limits ----------------------------------------------------------------------------------

if sys.platform == "win32":  # no limits of the system; a thread of C ends an overlong task
    import faulthandler

    def _limit(budget: Mapping[str, int], base: int) -> None:
        del base
        faulthandler.dump_traceback_later(budget["wall"], exit=True, file=sys.__stderr__)

    def _lift_limits() -> None:
        faulthandler.cancel_dump_traceback_later()

    def _step_back(nice: int) -> None:
        del nice

else:
    import resource

    def _limit(budget: Mapping[str, int], base: int) -> None:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(spent.ru_utime + spent.ru_stime) + 1 + budget["cpu"]
        _soft(resource.RLIMIT_CPU, seconds)
        _soft(resource.RLIMIT_AS, base + budget["memory"])
        signal.setitimer(signal.ITIMER_REAL, budget["wall"])

    def _soft(what: int, value: int) -> None:
        _, hard = resource.getrlimit(what)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, hard))

    def _lift_limits() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for what in (resource.RLIMIT_AS, resource.RLIMIT_CPU):
            resource.setrlimit(what, (resource.getrlimit(what)[1],) * 2)

    def _step_back(nice: int) -> None:
        os.nice(nice)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in (signal.SIGALRM, signal.SIGXCPU):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM, signal.SIGXCPU})


def _address_space() -> int:
    """Return the bytes of addresses that the process has already, of which most are not memory."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return 2**30
    return pages * os.sysconf("SC_PAGE_SIZE")


def _pipes() -> tuple[io.FileIO, io.FileIO]:
    """Take the two pipes; what a decoder prints goes nowhere, and to no pipe."""
    source, target = (io.FileIO(os.dup(number), mode) for number, mode in ((0, "r"), (1, "w")))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    return source, target


# --- tasks -----------------------------------------------------------------------------------


def _square(request: Answer) -> Parts:
    """Decode an image to a frame."""
    head, said = request.head, request.head["arguments"]
    preprocess, allowed = Preprocess(**said["preprocess"]), Allowed(**said["allowed"])
    pixels = decode_square(bytes(request.body), head["name"], preprocess, allowed)
    yield {"shape": pixels.shape}, pixels.tobytes()


def _redraw(request: Answer) -> Parts:
    """Draw an image anew."""
    head, said = request.head, request.head["arguments"]
    data, name, allowed = bytes(request.body), head["name"], Allowed(**said["allowed"])
    content, kind = redraw(data, name, said["size"], allowed, lossless=said["lossless"])
    yield {"media_type": kind}, content


def _frames(request: Answer) -> Parts:
    """Sample frames of a video."""
    from cl2cm.media.sampling import sampled_frames  # noqa: PLC0415 — of videos alone

    said = request.head["arguments"]
    preprocess, sampling = Preprocess(**said["preprocess"]), Sampling(**said["sampling"])
    frames = sampled_frames(Path(said["path"]), sampling, said["start"], said["end"])
    for seconds, pixels in frames:
        frame = square(Image.fromarray(pixels), preprocess)
        yield {"seconds": seconds, "shape": frame.shape}, frame.tobytes()


def _shots(request: Answer) -> Parts:
    """Find the shots of a video; tells the seconds that are dealt with, then the shots."""
    from cl2cm.media.shots import look_for_shots  # noqa: PLC0415 — of videos alone

    said = request.head["arguments"]
    for found in look_for_shots(Path(said["path"]), said["start"], said["end"]):
        yield {"seconds" if isinstance(found, int) else "shots": found}, b""


def _arrow(request: Answer) -> Parts:
    """Measure an Arrow file."""
    from cl2cm.media.arrow_files import check_arrow  # noqa: PLC0415 — of an extra

    yield {"rows": check_arrow(Path(request.head["arguments"]["path"]))}, b""


def _parquet(request: Answer) -> Parts:
    """Describe a Parquet file, or read the images or texts of one of its row groups."""
    try:
        from cl2cm.media import parquet_files  # noqa: PLC0415 — of an extra
    except ImportError as error:
        raise MissingExtraError("pyarrow", "remote") from error

    said = request.head["arguments"]
    path = Path(said["path"])
    if said["what"] == "describe":
        yield {"about": parquet_files.describe_parquet(path)}, b""
    elif said["what"] == "texts":
        yield {"texts": parquet_files.read_texts(path, said["group"], said["columns"])}, b""
    else:
        for data in parquet_files.read_images(path, said["group"], said["column"]):
            yield {}, data


def _part(request: Answer) -> Parts:
    """Find the bounds of a part of a video."""
    from cl2cm.media.video import Film  # noqa: PLC0415 — of videos alone

    said = request.head["arguments"]
    with Film(Path(said["path"])) as film:
        start, end = film.part(said["start"], said["end"])
    yield {"start": start, "end": end}, b""


def _taken(request: Answer) -> Parts:
    """Read when an image was taken."""
    from cl2cm.media.dates import read_taken  # noqa: PLC0415 — of an index alone

    yield {"taken": read_taken(bytes(request.body), request.head["name"])}, b""


def _still(request: Answer) -> Parts:
    """Draw the frame that stands for a video or a part of it."""
    from cl2cm.media.video import Film  # noqa: PLC0415 — of videos alone

    said = request.head["arguments"]
    with Film(Path(said["path"])) as film:
        pixels = film.still(said["start"], said["end"]).pixels
    content, kind = save(Image.fromarray(pixels), said["size"])
    yield {"media_type": kind}, content


TASKS: dict[str, Callable[[Answer], Parts]] = {
    "square": _square,
    "redraw": _redraw,
    "frames": _frames,
    "shots": _shots,
    "part": _part,
    "still": _still,
    "taken": _taken,
    "arrow": _arrow,
    "parquet": _parquet,
}
