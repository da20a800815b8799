"""STAIR Captions: five Japanese captions for each image of COCO 2014, written by people.

Yoshikawa et al., "STAIR Captions: Constructing a Large-Scale Japanese Image Caption Dataset", ACL
2017; github.com/STAIR-Lab-CIT/STAIR-captions, version 1.2, under CC BY 4.0. Files:
``stair_captions_v1.2_train.json`` and ``stair_captions_v1.2_val.json``, in COCO's own format.

With ``dataset_coco.json`` beside them, the images are in the Karpathy split and have their
English captions; without it, in the split of COCO 2014, which has no test.
"""

from collections.abc import Mapping
from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.coco import (
    CHECKSUMS,
    ENGLISH,
    ITEMS,
    KARPATHY,
    SPLITS,
    Pictures,
    karpathy_beside,
)
from cl2cm.data.readers.json_files import Record, read_json
from cl2cm.data.readers.karpathy import KarpathyItem
from cl2cm.data.readers.reading import DataSet, Options, required
from cl2cm.types import Captions, Example

FILES = {split: f"stair_captions_v1.2_{split}.json" for split in ("train", "val")}
_SOURCE = "Yoshikawa et al., ACL 2017: five captions per image"
_COCO_2014 = Protocol(
    "stair",
    {"train": Split(82_783, {"ja": 413_915}), "val": Split(40_504, {"ja": 202_520})},
    source=_SOURCE,
)
_KARPATHY = Protocol(
    "stair",
    {
        name: Split(
            ITEMS[name], {"en": ENGLISH[name], "ja": 5 * ITEMS[name]}, checksum=CHECKSUMS[name]
        )
        for name in SPLITS
    },
    source=_SOURCE,
)

Japanese = dict[str, list[str]]  # id → captions


def read(source: Path, options: Options) -> DataSet:
    """Read STAIR Captions; with the Karpathy split in the same folder, in it and in English.

    Raises:
        DatasetError: a file is missing, damaged or not as published.
    """
    paths = {split: required(source, name) for split, name in FILES.items()}
    known = karpathy_beside(source)
    japanese = {split: _read(path, f"{split}2014", known) for split, path in paths.items()}
    pictures = Pictures(source, options)
    if known:
        texts = japanese["train"] | japanese["val"]
        return DataSet(_by_karpathy(texts, known, pictures), _KARPATHY)
    examples = [
        pictures.example(name, split, {"ja": tuple(texts)})
        for split, found in japanese.items()
        for name, texts in found.items()
    ]
    note = f"split as COCO 2014; put {KARPATHY} beside the files for the usual one, with a test"
    return DataSet(examples, _COCO_2014, notes=(note,), source="ja")


def _read(path: Path, folder: str, known: Mapping[str, KarpathyItem]) -> Japanese:
    found: Japanese = {}
    seen: dict[int, str] = {}
    for record in read_json(path).get("annotations").items():
        identity = record.get("id")
        if (first := seen.setdefault(identity.number(), record.path)) != record.path:
            raise identity.bad("an id of its own", f"the id of {first} again")
        name = _name(record.get("image_id"), folder)
        if known and name not in known:
            raise record.get("image_id").bad(f"a picture of {KARPATHY}", name)
        found.setdefault(name, []).append(record.get("caption").text())
    return found


def _name(record: Record, folder: str) -> str:
    number = record.number()
    if number >= 10**12:
        raise record.bad("the number of a picture, 12 digits at most", str(number)[:40])
    return f"COCO_{folder}_{number:012}"


def _by_karpathy(
    japanese: Japanese, known: Mapping[str, KarpathyItem], pictures: Pictures
) -> list[Example]:
    examples = []
    for name, item in known.items():
        captions: Captions = {"en": item.sentences}
        if name in japanese:
            captions = {**captions, "ja": tuple(japanese[name])}
        examples.append(
            pictures.example(name, item.split, captions, filename=item.filename, folder=item.folder)
        )
    return sorted(examples, key=lambda item: SPLITS.index(item.split))
