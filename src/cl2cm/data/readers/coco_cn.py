"""COCO-CN: Chinese captions of 20,341 images of COCO 2014.

Li et al., "COCO-CN for Cross-Lingual Image Tagging, Captioning and Retrieval", IEEE Transactions
on Multimedia 2019; github.com/li-xirong/coco-cn, version 201805 v1.1, under the MIT licence.
Files: ``coco-cn_train.txt``, ``coco-cn_val.txt``, ``coco-cn_test.txt`` with an id a line, and
captions as ``ID#NUMBER<tab>TEXT`` in two tasks that never mix:

    1   ``imageid.human-written-caption.txt``: written from the image, all splits (the usual one)
    2   ``imageid.manually-translated-caption.txt``: five English captions of each test image,
        translated by people; test only

With ``dataset_coco.json`` beside them, the images have their English captions too. The release's
machine translations come segmented and tagged with parts of speech, and are not read.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.coco import ENGLISH as ENGLISH_OF_COCO
from cl2cm.data.readers.coco import ITEMS as ITEMS_OF_COCO
from cl2cm.data.readers.coco import KARPATHY, Pictures, folder_of, karpathy_beside, overlap_note
from cl2cm.data.readers.karpathy import KarpathyItem
from cl2cm.data.readers.reading import (
    DataSet,
    Options,
    bad_line,
    chosen_task,
    numbered_lines,
    required,
)
from cl2cm.types import Captions

WRITTEN, TRANSLATED = "imageid.human-written-caption.txt", "imageid.manually-translated-caption.txt"
ITEMS = {"train": 18_341, "val": 1_000, "test": 1_000}
CHINESE = {"train": 20_065, "val": 1_100, "test": 1_053}
_SOURCE = "Li et al., 2019: 22,218 captions written, 5,000 translated by people"
_LINE = re.compile(r"(?P<name>[^#\s]+)#(?P<number>[0-9]{1,3})[\t ]+(?P<text>\S.*)")

Texts = dict[str, tuple[str, ...]]  # id → captions


def read(source: Path, options: Options) -> DataSet:
    """Read COCO-CN, task 1 (the default) or 2.

    Raises:
        ConfigError: another task is asked for.
        DatasetError: a file is missing, damaged or not as published.
    """
    task = chosen_task(options, {1: "written", 2: "translated"}, default=1)
    splits = _splits(source, ("train", "val", "test") if task == 1 else ("test",))
    path = required(source, WRITTEN if task == 1 else TRANSLATED)
    chinese = read_captions(path, splits)
    known = karpathy_beside(source)
    pictures = Pictures(source, options)
    examples = [
        pictures.example(name, split, bilingual(name, chinese, known))
        for name, split in splits.items()
    ]
    captions = CHINESE if task == 1 else {"test": 5_000}
    locked = {
        split: Split(
            ITEMS[split], {"zh": count, **english(known, (n for n in splits if splits[n] == split))}
        )
        for split, count in captions.items()
    }
    name = "coco-cn" if task == 1 else "coco-cn task 2"
    overlap = overlap_note((n for n in splits if splits[n] != "train"), known)
    notes = (*(f"outside of train: {note}" for note in overlap), *english_notes(known, splits))
    protocol = Protocol(name, locked, source=_SOURCE)
    return DataSet(examples, protocol, notes, source="en" if known else "zh")


def read_captions(path: Path, known: Mapping[str, object] | None = None) -> Texts:
    """Return the captions of a file of ``ID#NUMBER<tab>TEXT`` by id, in the order of their numbers.

    Args:
        path: the file.
        known: ids that may be there; by default all that name an image of COCO 2014.

    Raises:
        DatasetError: the file cannot be read, or a line is of another form, of another image or
            there twice.
    """
    found: dict[str, dict[int, str]] = {}
    for number, line in numbered_lines(path):
        match = _LINE.fullmatch(line)
        if match is None:
            raise bad_line(path, number, "ID#NUMBER<tab>TEXT", _show(line))
        name, count = match["name"], int(match["number"])
        if not (folder_of(name) if known is None else name in known):
            where = "of COCO 2014" if known is None else "of the split lists"
            raise bad_line(path, number, f"an image {where}", _show(name))
        texts = found.setdefault(name, {})
        if count in texts:
            raise bad_line(path, number, "a caption of its own", f"{name}#{count} again")
        texts[count] = match["text"].strip()
    return {name: tuple(texts[i] for i in sorted(texts)) for name, texts in found.items()}


def bilingual(name: str, chinese: Texts, known: Mapping[str, KarpathyItem]) -> Captions:
    """Return the captions of an image in both languages."""
    captions: Captions = {"en": known[name].sentences} if name in known else {}
    return {**captions, "zh": chinese[name]} if name in chinese else captions


def english(known: Mapping[str, KarpathyItem], names: Iterable[str]) -> dict[str, int]:
    """Return the protocol's English counts, from the Karpathy file if it is present."""
    if not known:
        return {}
    return {"en": sum(len(known[name].sentences) for name in names if name in known)}


def english_notes(known: Mapping[str, KarpathyItem], names: Iterable[str]) -> tuple[str, ...]:
    """Return notes on images without English captions; empty if all have some."""
    if not known:
        return (f"there are no English captions: put {KARPATHY} beside the files to have them",)
    found = len(known), sum(len(item.sentences) for item in known.values())
    published = sum(ITEMS_OF_COCO.values()), sum(ENGLISH_OF_COCO.values())
    notes = []
    if found != published:
        notes.append(
            f"{KARPATHY} has {found[0]:,} pictures and {found[1]:,} captions, not the published "
            f"{published[0]:,} and {published[1]:,}: English captions may be missing"
        )
    if absent := sum(name not in known for name in names):
        notes.append(f"{absent:,} pictures are not in {KARPATHY} and have no English captions")
    return tuple(notes)


def _splits(source: Path, names: Iterable[str]) -> dict[str, str]:
    """Split of each id, in the order of the lists."""
    found: dict[str, str] = {}
    for split in names:
        path = required(source, f"coco-cn_{split}.txt")
        for number, line in numbered_lines(path):
            name = line.strip()
            if not folder_of(name):
                raise bad_line(path, number, "an image of COCO 2014", _show(line))
            if name in found:
                raise bad_line(path, number, "an image of its own", f"{name} again")
            found[name] = split
    return found


def _show(text: str) -> str:
    return repr(text[:40]) if text.strip() else "an empty line"
