"""MSVD (the Microsoft Video Description corpus, "YouTube2Text"): 1,970 clips with English captions.

Chen and Dolan, "Collecting Highly Parallel Data for Paraphrase Evaluation", ACL 2011; for
research. Files: ``AllVideoDescriptions.txt`` (``CLIP text``, some forty a clip) and
``youtube_mapping.txt`` (``CLIP vid1`` …), or in its place ``train_list.txt``, ``val_list.txt`` and
``test_list.txt``. The split follows Venugopalan et al., "Sequence to Sequence - Video to Text",
ICCV 2015, by the numbers of the mapping: 1 to 1,200 train, to 1,300 val, to 1,970 test.

A clip's id is ``FILM_START_END``; its video is found under that name or as ``vid1`` ….
"""

import re
from pathlib import Path
from typing import NamedTuple

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.clips import Clips, read_id_list
from cl2cm.data.readers.reading import DataSet, Options, bad_line, numbered_lines, required

ITEMS = {"train": 1_200, "val": 100, "test": 670}
CHECKSUMS = {"train": "abfb8ab5660b464c", "val": "9527cf1ef6c8fe2f", "test": "95eacd1fddb1d88c"}
ENGLISH = {"train": 48_774, "val": 4_290, "test": 27_763}
DESCRIPTIONS = "AllVideoDescriptions.txt"
MAPPING = "youtube_mapping.txt"
_LISTS = {split: f"{split}_list.txt" for split in ITEMS}
_MAPPED = re.compile(r"(?P<clip>\S+)\s+(?P<video>vid(?P<number>[1-9]\d{0,3}))\s*")
PROTOCOL = Protocol(
    "msvd",
    {
        split: Split(ITEMS[split], {"en": ENGLISH[split]}, checksum=CHECKSUMS[split])
        for split in ITEMS
    },
    source="Venugopalan et al., ICCV 2015 (80,827 captions in all)",
)


class Clip(NamedTuple):
    """A clip's split and its name in the mapping (``vid1``); empty with lists of ids."""

    split: str
    name: str


def read(source: Path, options: Options) -> DataSet:
    """Read MSVD.

    Raises:
        DatasetError: a file is missing, damaged or not as published.
    """
    clips = Clips(source, options)
    known = read_clips(source)
    english = read_descriptions(required(source, DESCRIPTIONS), known)
    examples = [
        clips.example(name, clip.split, _captions(english[name]), names=(clip.name,))
        for name, clip in known.items()
    ]
    return DataSet(examples, PROTOCOL)


def read_clips(source: Path) -> dict[str, Clip]:
    """Return every clip by id, in the order of the splits.

    Raises:
        DatasetError: mapping or lists are missing, or a line is not as published.
    """
    if (source / MAPPING).exists() or not (source / _LISTS["train"]).exists():
        return _mapped(required(source, MAPPING))
    found: dict[str, Clip] = {}
    for split, name in _LISTS.items():
        path = required(source, name)
        for clip, number in read_id_list(path).items():
            if clip in found:
                raise bad_line(path, number, "a clip in one split", f"{clip!r} in two")
            found[clip] = Clip(split, "")
    return found


def read_descriptions(path: Path, known: dict[str, Clip]) -> dict[str, list[str]]:
    """Return the English captions of every clip; lines that begin with ``#`` are remarks.

    Raises:
        DatasetError: a line is not as published, or of a clip that is not known.
    """
    found: dict[str, list[str]] = {clip: [] for clip in known}
    for number, line in numbered_lines(path):
        if line.startswith("#") or not line.strip():
            continue
        clip, _, text = line.partition(" ")
        if clip not in found:
            raise bad_line(path, number, "a clip of the mapping", repr(clip[:40]))
        if not text.strip():
            raise bad_line(path, number, "a caption", "none")
        found[clip].append(text.strip())
    return found


def _captions(texts: list[str]) -> dict[str, tuple[str, ...]]:
    return {"en": tuple(texts)} if texts else {}


def _mapped(path: Path) -> dict[str, Clip]:
    numbers: dict[int, str] = {}
    clips: dict[str, Clip] = {}
    for line, text in numbered_lines(path):
        match = _MAPPED.fullmatch(text)
        if match is None:
            raise bad_line(path, line, "FILM_START_END vidNUMBER", repr(text[:60]))
        number = int(match["number"])
        if number in numbers or match["clip"] in clips:
            raise bad_line(path, line, "a clip and a number of its own", f"{text.strip()!r} again")
        if number > sum(ITEMS.values()):
            raise bad_line(path, line, "numbers to 1970", str(number))
        numbers[number] = match["clip"]
        clips[match["clip"]] = Clip(_split(number), match["video"])
    return {numbers[number]: clips[numbers[number]] for number in sorted(numbers)}


def _split(number: int) -> str:
    if number <= ITEMS["train"]:
        return "train"
    return "val" if number <= ITEMS["train"] + ITEMS["val"] else "test"
