"""Write files and folders atomically.

Each is written beside its place under a hidden name, flushed to the disk, and renamed into place. A
process that is killed at any moment leaves at most a hidden ``.NAME.partial-*`` behind, which is
never read.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cl2cm.errors import ConfigError, StorageError
from cl2cm.storage.failures import storage_errors

_LEFT = re.compile(r"\..+\.(partial|old)-[0-9a-z_]{8}")  # by tempfile


def is_partial(name: str) -> bool:
    """Return whether a name is of a partial file that a killed process left behind."""
    return _LEFT.fullmatch(name) is not None


def sweep_partials(folder: Path) -> None:
    """Remove what killed processes left in a folder; the caller is its only writer."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_partial(path.name):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _parent(path: Path) -> Iterator[None]:
    """Make the folder of a path; on failure remove again what was made and is still empty."""
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a hidden path beside ``path``; rename the file written there on success.

    Raises:
        StorageError: the disk is full, read-only or closed to us.
    """
    with storage_errors(path), _parent(path):
        if path.exists() and not (path.is_file() or path.is_dir()):  # it would be replaced
            raise StorageError(
                str(path),
                expected="a file",
                found="a device or a pipe",
                remedy="choose another place",
            )
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.partial-", dir=path.parent)
        os.close(descriptor)
        partial = Path(name)
        try:
            yield partial
            partial.chmod(0o644)
            _fsync(partial)
            partial.replace(path)
            _fsync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing bytes; it appears whole, or not at all."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        yield file


def check_ending(option: str, path: Path, endings: Sequence[str]) -> None:
    """Refuse a file whose name does not end as its contents ask for.

    Args:
        option: that names the file, for the error.
        path: the file.
        endings: that it may have, such as ``.csv``.

    Raises:
        ConfigError: it has another ending.
    """
    if path.suffix not in endings:
        raise ConfigError(
            option,
            expected=f"a file that ends in {' or '.join(endings)}",
            found=str(path),
            remedy="rename it",
        )


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before the work whose result it shall hold.

    Raises:
        StorageError: the disk is full, read-only or closed to us, or the path is a folder.
    """
    if path.is_dir():
        raise StorageError(
            str(path), expected="a file to write", found="a folder", remedy="name a file in it"
        )
    with contextlib.suppress(_Checked), atomic_path(path):
        raise _Checked  # so that nothing is left there


class _Checked(Exception):  # noqa: N818 - no error
    """Ends the writing of a file that was only to be tried."""


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a hidden folder beside ``path``; rename it into place on success.

    A folder that is already there is replaced; it must not be in use by a reader that expects
    it to stay (such formats keep one small file that points at the current data instead).
    """
    with storage_errors(path), _parent(path):
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
        try:
            yield partial
            partial.chmod(0o755)
            for file in partial.rglob("*"):
                file.chmod(0o755 if file.is_dir() else 0o644)
                _fsync(file)
            if path.exists():
                _exchange(path, partial)
            else:
                partial.replace(path)
            _fsync(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _exchange(path: Path, new: Path) -> None:
    """Put a folder in the place of another; where that fails, the other is back in it."""
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old-", dir=path.parent))
    try:
        path.replace(old / path.name)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            (old / path.name).replace(path)
        with contextlib.suppress(OSError):
            old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object, whole or not at all, readable by people and stable in order."""
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    with atomic_file(path) as file:
        file.write(text.encode())
