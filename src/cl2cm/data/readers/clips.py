"""Videos of a data set: where they lie, which part of them is meant, and lists of their ids.

Video data sets name a clip after a video on YouTube and the seconds that it was cut from,
``FILM_START_END``. Users keep the clips, or the videos whole; both are found by the names of files.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cl2cm.data.npy_files import map_array
from cl2cm.data.readers.reading import Options, bad_line, numbered_lines
from cl2cm.errors import DatasetError
from cl2cm.media.kinds import kind_by_name
from cl2cm.types import Captions, Example, Translations

_PART = re.compile(r"(?P<film>.+)_(?P<start>\d+)_(?P<end>\d+)")
_AFTER_ID = re.compile(r"[#\s,]")


class Clips:
    """Makes the items of clips: videos found by name, or stored features of their ids.

    Args:
        source: folder of the data set; videos are looked for in it and below it.
        options: ``images`` names another folder of videos, ``no_images`` asks for features.

    Raises:
        DatasetError: ``images`` is not a folder.
    """

    def __init__(self, source: Path, options: Options) -> None:
        self._stored = options.no_images
        self._folder = (options.images or source).resolve()
        self._films: dict[str, Path] = {}
        if self._stored:
            return
        if not self._folder.is_dir():
            found = "a file" if self._folder.exists() else "no such folder"
            raise DatasetError(
                str(self._folder), expected="a folder of videos", found=found, remedy="correct it"
            )
        for path in sorted(self._folder.rglob("*")):
            if kind_by_name(path) == "video":
                self._films.setdefault(path.stem, path)

    def example(
        self,
        identity: str,
        split: str,
        captions: Captions,
        translations: Translations | None = None,
        *,
        names: Sequence[str] = (),
    ) -> Example:
        """Return the item of a clip.

        A file of its name, or of one of ``names``, is the clip itself; a file of the video that it
        was cut from is given with start and end. Where there is none, ``ID.mp4`` is missing.
        """
        item = Example(identity, split, captions=captions, translations=translations or {})
        if self._stored:
            return replace(item, features=identity)
        for name in (identity, *names):
            if name in self._films:
                return replace(item, video=self._films[name])
        part = _PART.fullmatch(identity)
        if part and part["film"] in self._films and int(part["start"]) < int(part["end"]):
            start, end = float(part["start"]), float(part["end"])
            return replace(item, video=self._films[part["film"]], start=start, end=end)
        return replace(item, video=self._folder / f"{identity}.mp4")


def read_id_list(path: Path) -> dict[str, int]:
    """Return the ids in the order of a list, with their lines.

    A text has one id a line; what follows a space, a comma or ``#`` is not part of it, so that a
    file of captions (``ID#enc#0 text``) is a list too. A ``.npy`` is an array of texts.

    Raises:
        DatasetError: the list cannot be read, or a line has no id.
    """
    found: dict[str, int] = {}
    for number, line in _npy_lines(path) if path.suffix == ".npy" else numbered_lines(path):
        name = _AFTER_ID.split(line, maxsplit=1)[0]
        if not name:
            raise bad_line(path, number, "an id", "an empty line" if not line.strip() else "none")
        found.setdefault(name, number)
    return found


def check_known(
    path: Path, ids: Mapping[str, int], known: Mapping[str, object], where: str
) -> None:
    """Raise an error if a list has an unknown id.

    Raises:
        DatasetError: it has one; the error names its line.
    """
    for name, number in ids.items():
        if name not in known:
            raise bad_line(path, number, f"an id of {where}", repr(name[:60]), "correct the list")


def _npy_lines(path: Path) -> list[tuple[int, str]]:
    try:
        names = map_array(path)
        if names.ndim != 1 or names.dtype.kind not in "US":
            raise ValueError(f"{names.dtype} {list(names.shape)}")
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(
            str(path),
            expected="an array of texts",
            found=f"none ({str(error)[:80]})",
            remedy="write the ids into a text file, one per line",
        ) from None
    return list(enumerate(names.astype(str).tolist(), start=1))
