"""MSVD-CN: Chinese captions of the clips of MSVD, written by people from the videos.

Published at github.com/mcislab-machine-learning/MSVD-CN, without a licence of its own; the clips
are MSVD's. Files: ``msvd_cn_captions_release_utf8.csv`` (or ``.tsv``) with sentence id, video and
sentence, and ``youtube_mapping.txt``. With ``AllVideoDescriptions.txt`` beside them MSVD's English
captions are read too. Splits as in ``msvd.py``.
"""

from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.clips import Clips
from cl2cm.data.readers.csv_files import read_csv
from cl2cm.data.readers.msvd import (
    CHECKSUMS,
    DESCRIPTIONS,
    ENGLISH,
    ITEMS,
    MAPPING,
    Clip,
    read_clips,
    read_descriptions,
)
from cl2cm.data.readers.reading import DataSet, Options, bad_line, required

_TABLES = ("msvd_cn_captions_release_utf8.csv", "msvd_cn_captions_release_utf8.tsv")
_NO_ENGLISH = f"there are no English captions: put MSVD's {DESCRIPTIONS} beside the files"
CHINESE = {"train": 7_194, "val": 584, "test": 3_980}


def read(source: Path, options: Options) -> DataSet:
    """Read MSVD-CN; with MSVD's descriptions in the same folder in both languages.

    Raises:
        DatasetError: a file is missing, damaged or not as published.
    """
    table = required(source, *_TABLES)
    required(source, MAPPING)
    clips, known = Clips(source, options), read_clips(source)
    captions = {"zh": _chinese(table, known)}
    if (source / DESCRIPTIONS).exists():
        captions = {"en": read_descriptions(source / DESCRIPTIONS, known), **captions}
    examples = [
        clips.example(
            name,
            clip.split,
            {code: tuple(texts[name]) for code, texts in captions.items() if texts[name]},
            names=(clip.name,),
        )
        for name, clip in known.items()
    ]
    notes = [] if "en" in captions else [_NO_ENGLISH]
    first = next(iter(captions))
    return DataSet(examples, _protocol(english="en" in captions), tuple(notes), source=first)


def _chinese(table: Path, known: dict[str, Clip]) -> dict[str, list[str]]:
    names = {clip.name: name for name, clip in known.items()}
    found: dict[str, list[str]] = {name: [] for name in known}
    seen: dict[str, int] = {}
    for number, row in read_csv(table, ("id", "video_id", "sentence")):
        if (first := seen.setdefault(row["id"], number)) != number:
            raise bad_line(table, number, "a new id", f"the id of line {first}")
        if not row["id"].isdecimal():
            raise bad_line(table, number, "a number as id", repr(row["id"][:40]))
        name = names.get(row["video_id"].removesuffix(".mp4"))
        if name is None:
            raise bad_line(table, number, f"a video of {MAPPING}", repr(row["video_id"][:40]))
        found[name].append(row["sentence"])
    return found


def _protocol(*, english: bool) -> Protocol:
    splits = {
        split: Split(
            ITEMS[split],
            {"zh": CHINESE[split]} | ({"en": ENGLISH[split]} if english else {}),
            checksum=CHECKSUMS[split],
        )
        for split in ITEMS
    }
    return Protocol("msvd-cn", splits, source="the released files, 11,758 captions")
