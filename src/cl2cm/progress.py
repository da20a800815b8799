"""Progress on standard error: a bar with rate and time left on a terminal, plain lines elsewhere.

Standard output belongs to results alone.
"""

import functools
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[int], None]  # told how many pieces of work were just done
News = Callable[[str], None]  # told a line for display, as `say` is

_SECONDS_BETWEEN_LINES = 10.0


# Control characters but the tab, those that turn the direction of text within a line, and those
# that end a line or are no characters: a terminal obeys them, and names and files bring them along.
_STEERING = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]"
)


def plain(text: str) -> str:
    """Return a line in which control characters are shown as escapes."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def plain_json(text: str) -> str:
    """Return the same JSON with control characters escaped."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_silent = False


def silence(silent: bool) -> None:
    """Print no news from now on, or print them again: of several processes one speaks."""
    global _silent  # noqa: PLW0603 - of the whole process
    _silent = silent


def say(text: str) -> None:
    """One line of news on standard error, above a bar if there is one."""
    if _silent:
        return
    text = plain(text)
    if sys.stderr.isatty():
        _console().print(text, markup=False, highlight=False)
    else:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - news


@functools.cache
def _console() -> Console:
    return Console(stderr=True)


class Stages:
    """Tells when each stage of a longer start begins, in seconds since the first."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def __call__(self, stage: str) -> None:
        """Tell that a stage begins, or that the last one is done."""
        say(f"[{time.monotonic() - self._begin:5.1f} s] {stage}")


@contextmanager
def track(what: str, total: int) -> Iterator[Advance]:
    """Follow ``total`` pieces of work; call the result with the number that was just done."""
    if sys.stderr.isatty() and not _silent:
        with _bar() as progress:
            task = progress.add_task(what, total=total, rate="")

            def advance(count: int) -> None:
                progress.advance(task, count)
                speed = progress.tasks[0].speed
                progress.update(task, rate=_pace(speed) if speed else "")

            yield advance
        return
    yield _lines(what, total)


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=_console(),
        transient=True,
    )


def _lines(what: str, total: int) -> Advance:
    started = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if done >= total or now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            rate = done / max(now - started, 1e-9)
            left = f", {_time((total - done) / rate)} left" if 0 < done < total else ""
            say(f"{what}: {done}/{total} ({_pace(rate)}{left})" if done else f"{what}: 0/{total}")

    return advance


def _pace(rate: float) -> str:
    return f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes} min"
