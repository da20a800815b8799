"""Input and output types of data set readers.

A reader turns files as published into examples; it opens no image. The numbers that a data set must
have are its protocol (``data/official_numbers.py``); whether they are met, whether the images are
there and whether an image leaks is asked once, for every reader, in ``data/prepare.py``.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cl2cm.data.gzip_reading import open_gzip
from cl2cm.data.official_numbers import Protocol
from cl2cm.errors import ConfigError, DatasetError
from cl2cm.storage import read_regular
from cl2cm.types import Example


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the user for reading a data set.

    Attributes:
        task: where a data set has more than one (Multi30K: 1 or 2); None: the user did not say.
        images: folder of its images or videos, where it is not in ``source``.
        no_images: its items stand for stored features of their ids, not for files.
        split: the split of items whose files name none.
        language: of captions whose files name none.
        out: the folder that is made, for readers that unpack images.
        columns: role → column of the user's own table, where it is called otherwise.
        partial: leave out what does not fit, and name it, instead of an error.
    """

    task: int | None = None
    images: Path | None = None
    no_images: bool = False
    split: str = "test"
    language: str = "en"
    out: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    partial: bool = False


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set as read.

    Attributes:
        examples: in the order of the publisher's lists, by split; media paths absolute.
        protocol: the numbers that it must have.
        notes: what a user should know, one per line (a known overlap, a correction).
        source: language that was described first; translations are made from it.
    """

    examples: list[Example]
    protocol: Protocol
    notes: tuple[str, ...] = ()
    source: str = "en"


# Source and options; a reader that fetches its files is given None if the user has none.
Reader = Callable[[Any, Options], DataSet]


def chosen_task(options: Options, tasks: Mapping[int, str], default: int | None = None) -> int:
    """Return the task of a data set that the user has chosen; tasks never mix.

    Args:
        options: with ``task``.
        tasks: task -> what it is, for the message.
        default: where the user did not say; None: the user has to.

    Raises:
        ConfigError: no task, or one that there is not.
    """
    task = default if options.task is None else options.task
    if task is not None and task in tasks:
        return task
    raise ConfigError(
        "task",
        expected=" or ".join(f"{number} ({what})" for number, what in tasks.items()),
        found="none" if task is None else str(task),
        remedy="choose with --task; they never mix",
    )


def required(folder: Path, *names: str) -> Path:
    """Return the first of some files that is in a folder.

    Raises:
        DatasetError: none of them is there.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise DatasetError(
        str(folder),
        expected=" or ".join(names),
        found="no such file" if folder.is_dir() else "no such folder",
        remedy="give the folder as its publisher ships it",
    )


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text (gzip by suffix) without line ends.

    Raises:
        DatasetError: the file cannot be read, or a line is not UTF-8.
    """
    return [text for _, text in numbered_lines(path)]


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines of a UTF-8 text with their numbers, from 1; see `read_lines`."""
    for number, line in enumerate(_bytes(path).removesuffix(b"\n").split(b"\n"), start=1):
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise bad_line(path, number, "UTF-8", f"bytes that are not ({error.reason})") from None
        if "\0" in text:
            raise bad_line(path, number, "text in UTF-8", "a NUL control character, as in UTF-16")
        yield number, text


def bad_line(
    path: Path, number: int, expected: str, found: str, remedy: str = "fetch the file again"
) -> DatasetError:
    """Return the error of one line of one file."""
    return DatasetError(f"{path}:{number}", expected=expected, found=found, remedy=remedy)


def _bytes(path: Path) -> bytes:
    try:
        if path.suffix != ".gz":
            return read_regular(path)
        with open_gzip(path) as file:
            return file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        found = f"a damaged gzip file ({error})"
    except OSError as error:
        found = (error.strerror or str(error)).lower()
    raise DatasetError(
        str(path), expected="a readable file", found=found, remedy="fetch the file again"
    )
