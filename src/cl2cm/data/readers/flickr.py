"""Shared by data sets on images of Flickr: folders, lists of images, captions.

An image's id here is its file name without ending. Flickr8k names an image ``PHOTO_SECRET.jpg``,
Flickr30k ``PHOTO.jpg``, after the number that Flickr gave the photo: by it the two are joined.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cl2cm.data.readers.reading import Options, bad_line, numbered_lines
from cl2cm.errors import DatasetError
from cl2cm.types import Captions, Example, Translations

FLICKR30K_FOLDERS = ("flickr30k-images", "flickr30k_images", "images")
FLICKR8K_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images")  # sic, the first

Texts = dict[str, tuple[str, ...]]  # id → captions

_DEPTH = 5  # a folder, and what is packed in a repository in it: multi30k/dataset/data/task1/raw
_ID = re.compile(r"[\w-]+", re.ASCII)
_NAME = r"([\w-]+\.jpg(?:\.1)?)"  # one of Flickr8k's tables ends so: of an image in no split
_OF_COCO = re.compile(r"#[0-9]+$")  # a caption's number behind an image's name
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ufeff]")  # a tab is in two of Multi30K's captions


class Table(NamedTuple):
    """Captions by id, and the file that they are from."""

    path: Path
    texts: Texts


class _Line(NamedTuple):
    number: int
    text: str


class Pictures:
    """Makes the items of images: their files, or stored features of their ids.

    Args:
        source: folder of the data set; images are looked for in it, unless a folder is named.
        options: ``images`` names another folder, ``no_images`` asks for features.
        folders: names that the publisher's folder of images may have.

    Attributes:
        stored: items stand for features.
        folder: where images are, absolute; it need not exist.

    Raises:
        DatasetError: ``images`` is not a folder.
    """

    def __init__(self, source: Path, options: Options, folders: Iterable[str]) -> None:
        self.stored = options.no_images
        self.folder = Path()
        if not self.stored:
            self.folder = _picture_folder(source, options, tuple(folders)).resolve()

    def example(
        self,
        identity: str,
        split: str,
        captions: Captions,
        translations: Translations | None = None,
        *,
        below: Iterable[str] = (),
    ) -> Example:
        """Return the item of an image, ``ID.jpg``, in a folder of ``below`` or beside the rest."""
        made = translations or {}
        if self.stored:
            return Example(identity, split, features=identity, captions=captions, translations=made)
        name = f"{identity}.jpg"
        places = (self.folder / folder / name for folder in below)
        image = next((path for path in places if path.exists()), self.folder / name)
        return Example(identity, split, image=image, captions=captions, translations=made)


def find(source: Path, *names: str) -> Path | None:
    """Return the first of some files in or below a folder, the nearest; None if there is none."""
    for depth in range(_DEPTH):
        for name in names:
            for found in sorted(source.glob("*/" * depth + name)):
                return found
    return None


def found_in(source: Path, *names: str) -> Path:
    """Return the first of some files that is in a folder or below it.

    Raises:
        DatasetError: none of them is there.
    """
    path = find(source, *names)
    if path is None:
        raise DatasetError(
            str(source),
            expected=f"{' or '.join(names)} in it or below",
            found="no such file" if source.is_dir() else "no such folder",
            remedy="give the folder as its publisher ships it",
        )
    return path


def read_lists(lists: Mapping[str, Path], *, ending: str = ".jpg") -> dict[str, dict[str, int]]:
    """Return the ids of the images of each split, in the order of its list, with their lines.

    Args:
        lists: split → list of its images, one per line.
        ending: what each name ends in; a caption's number may follow, as in ``COCO_….jpg#7``.

    Raises:
        DatasetError: a list cannot be read, or a line is not an image, or one again: of the same
            list or of another.
    """
    found: dict[str, dict[str, int]] = {}
    for split, path in lists.items():
        ids = found[split] = {}
        for number, line in numbered_lines(path):
            name = _OF_COCO.sub("", line.strip())
            identity = name.removesuffix(ending)
            if not (name.endswith(ending) and _ID.fullmatch(identity)):
                raise bad_line(path, number, f"the name of an image, ID{ending}", _show(line))
            for other, known in found.items():
                if identity in known:
                    again = f"{identity} again, as in {lists[other].name}:{known[identity]}"
                    raise bad_line(path, number, "an image of its own", again)
            ids[identity] = number
    return found


def read_splits(
    lists: Mapping[str, Path], *tables: Table, ending: str = ".jpg"
) -> dict[str, list[str]]:
    """Return the ids of the images of each split, each of them in all tables; see `read_lists`.

    Raises:
        DatasetError: a list is not as published, or an image is in no line of a table.
    """
    splits = read_lists(lists, ending=ending)
    for split, ids in splits.items():
        for identity, number in ids.items():
            for table in tables:
                if identity not in table.texts:
                    wanted = f"a picture with captions in {table.path.name}"
                    raise bad_line(lists[split], number, wanted, f"{identity}, which has none")
    return {split: list(ids) for split, ids in splits.items()}


def read_captions(
    path: Path, count: int, *, kind: str = "", lines: Iterable[tuple[int, str]] | None = None
) -> Table:
    """Return the captions of a table as Flickr8k has it, ``NAME.jpg#NUMBER<tab>TEXT``, by id.

    Args:
        path: the table.
        count: captions of an image, numbered from 0.
        kind: with a kind a line is ``NAME.jpg#KIND#NUMBER TEXT``, as in Flickr8k-CN.
        lines: the lines of the file with their numbers, if they were changed after reading.

    Raises:
        DatasetError: the file cannot be read; a line is of another form or there twice; a
            caption of an image is missing.
    """
    form, separator = (f"NAME.jpg#{kind}#NUMBER", " ") if kind else ("NAME.jpg#NUMBER", "\t")
    key_form = re.compile(form.replace("NAME.jpg", _NAME).replace("NUMBER", "([0-9])"), re.ASCII)
    found: dict[str, dict[int, _Line]] = {}
    for number, line in numbered_lines(path) if lines is None else lines:
        key, between, text = line.partition(separator)
        match = key_form.fullmatch(key)
        if not (match and between):
            wanted = f"{form}{'<tab>' if separator == chr(9) else separator}TEXT"
            raise bad_line(path, number, wanted, _show(line))
        name, digit = match[1].removesuffix(".jpg"), int(match[2])
        if digit >= count:
            raise bad_line(path, number, f"a number from 0 to {count - 1}", match[2])
        texts = found.setdefault(name, {})
        if digit in texts:
            again = f"{key} again, as in line {texts[digit].number}"
            raise bad_line(path, number, "a caption of its own", again)
        texts[digit] = _Line(number, caption(path, number, text))
    return Table(path, {name: _in_order(path, name, texts, count) for name, texts in found.items()})


def caption(path: Path, number: int, text: str) -> str:
    """Return a caption without space around it.

    Raises:
        DatasetError: it is blank, or holds control characters.
    """
    stripped = text.strip()
    if not stripped or _CONTROL.search(stripped):
        found = "a control character" if stripped else "an empty line" if not text else "a blank"
        raise bad_line(path, number, "a caption", found)
    return stripped


def _in_order(path: Path, name: str, texts: Mapping[int, _Line], count: int) -> tuple[str, ...]:
    if missing := [number for number in range(count) if number not in texts]:
        last = max(line.number for line in texts.values())
        wanted = f"all {count} captions of {name}, this the last of them"
        raise bad_line(path, last, wanted, f"none with number {missing[0]}")
    return tuple(texts[number].text for number in range(count))


def _picture_folder(source: Path, options: Options, names: tuple[str, ...]) -> Path:
    if options.images is None:
        return next(_folders(source, names), source / names[0])
    if options.images.is_dir():
        return options.images
    found = "a file" if options.images.exists() else "no such folder"
    raise DatasetError(
        str(options.images), expected="a folder of images", found=found, remedy="correct it"
    )


def _folders(source: Path, names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        path = find(source, name)
        if path is not None and any(path.glob("*.jpg")):
            yield path


def _show(text: str) -> str:
    return repr(text[:40]) if text.strip() else "an empty line"
