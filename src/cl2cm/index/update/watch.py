"""Watch a folder: call a function now and after each change of its files."""

import time
from collections.abc import Callable, Sequence

from cl2cm.errors import CL2CMError, MediaError, OnSkip
from cl2cm.types import Example


def watch(
    once: Callable[[], object],
    look: Callable[[], Sequence[Example]],
    *,
    seconds: float = 2.0,
    stop: Callable[[], bool] = lambda: False,
    on_skip: OnSkip | None = None,
) -> None:
    """Call ``once`` now, and again whenever a file that ``look`` finds is another.

    A folder is looked at by names, sizes and times, and a change counts once it has lasted from
    one look to the next: a file that is still being written is waited for. A folder that is gone
    for a while, or a full disk, ends nothing: the error is told, and the next look tries again.

    Args:
        once: brings the index up to date.
        look: finds the files.
        seconds: between two looks.
        stop: asked between two looks whether to end.
        on_skip: called with what kept ``once`` from its work; without it that is an error.

    Raises:
        MediaError: a file that cannot be read, without ``on_skip``.
        CL2CMError: any other error of the first call.
    """
    done, told = None, ""
    while not stop():
        seen = _seen(look)
        if seen != done:
            time.sleep(seconds if done is not None else 0)
            if (again := _seen(look)) == seen:
                try:
                    once()
                except CL2CMError as error:
                    if on_skip is None or (done is None and not isinstance(error, MediaError)):
                        raise
                    if str(error) != told:
                        on_skip(error.subject, error)
                    told = str(error)
                    if not isinstance(error, MediaError):
                        time.sleep(seconds)
                        continue
                else:
                    told = ""
                done = again
                continue
        time.sleep(seconds)


def _seen(look: Callable[[], Sequence[Example]]) -> object:
    try:
        found = look()
    except MediaError:  # an empty folder may fill
        return frozenset()
    state = set()
    for example in found:
        path = example.path
        try:
            file = path.stat() if path is not None else None
        except OSError:  # gone between the two
            continue
        if file is not None:
            state.add((example.id, file.st_size, file.st_mtime_ns))
    return frozenset(state)
