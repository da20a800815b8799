"""Which files of a folder belong to an index: what may be written over, and what is swept."""

import contextlib
import re
import time
from pathlib import Path

from cl2cm.errors import VectorIndexError
from cl2cm.index.metadata import JOURNAL, METADATA, files_in_use, read_metadata
from cl2cm.index.metadata_fields import SUFFIXES

_OTHER_DATA = re.compile(r"[a-z]{1,20}-[0-9a-f]{8}\.cl2cm")  # of a backend that need not be asked
_ORPHAN_SECONDS = 24 * 3600  # after this nobody is still writing a file that nothing names


def is_index(folder: Path) -> bool:
    """Return whether a folder is an index, be it a damaged one."""
    try:
        read_metadata(folder)
    except VectorIndexError:
        metadata = folder / METADATA
        return metadata.is_file() and any(
            path != metadata and _is_data(path.name) for path in folder.iterdir()
        )
    return True


def refuse_other_folder(folder: Path) -> None:
    """Refuse to overwrite a folder that is not an index.

    Raises:
        VectorIndexError: a file, or a folder with other things in it.
    """
    if folder.is_dir() and (_is_begun(folder) or is_index(folder)):
        return
    if folder.exists():
        raise VectorIndexError(
            str(folder),
            expected="a new, an empty or an index folder",
            found="a folder of other things" if folder.is_dir() else "a file",
            remedy="choose another place for the index",
        )


def _is_begun(folder: Path) -> bool:
    """Return whether a folder is empty, or holds no more than what was encoded so far."""
    return all(path.name.startswith(JOURNAL) or _is_data(path.name) for path in folder.iterdir())


def sweep(folder: Path, before: frozenset[str]) -> None:
    """Remove the files of the generation ``before``, and what a killed run left a day ago."""
    keep = files_in_use(folder) | {METADATA}
    old = time.time() - _ORPHAN_SECONDS
    for path in folder.iterdir():
        if path.name in keep or not _is_data(path.name) or names_location(path.name):
            continue
        with contextlib.suppress(OSError):  # a file that is open cannot be removed on Windows
            if path.name in before or path.stat().st_mtime < old:
                path.unlink()


def sweep_killed(folder: Path) -> None:
    """Remove what killed updates left; the caller holds the lock of updates.

    Nothing goes while ``index.json`` is damaged, which may name any of the files.
    """
    keep = files_in_use(folder) | {METADATA}
    if len(keep) == 1 and (folder / METADATA).exists():
        return
    for path in folder.iterdir():
        ours = _is_data(path.name) and not names_location(path.name)
        if ours and path.name not in keep:
            with contextlib.suppress(OSError):
                path.unlink()


def names_location(name: str) -> bool:
    """Return whether a file names something on a server, which has to go before the file goes."""
    return name.startswith("place-")


def _is_data(name: str) -> bool:
    plain = name.removeprefix(".").partition(".partial-")[0]
    if plain == METADATA or _OTHER_DATA.fullmatch(plain):
        return True
    return any(
        plain.startswith(f"{kind}-") and plain.endswith(suffix) for kind, suffix in SUFFIXES.items()
    )
