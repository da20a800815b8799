"""Shared by data sets on images of COCO 2014: file names and folders, the Karpathy split.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; captions under CC BY 4.0, the
images under their authors' terms. An image's id here is its file name without ending, such as
``COCO_val2014_000000391895``: the same in every data set, so that an overlap shows.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from cl2cm.data.readers.karpathy import KarpathyItem, read_karpathy
from cl2cm.data.readers.reading import Options
from cl2cm.types import Captions, Example

KARPATHY = "dataset_coco.json"
# Checksums of ids. That of train is not locked.
CHECKSUMS = {"train": "", "val": "845d01c1ed92f395", "test": "2462b97e600404bb"}
ITEMS = {"train": 113_287, "val": 5_000, "test": 5_000}
ENGLISH = {"train": 566_747, "val": 25_010, "test": 25_010}
SPLITS = tuple(ITEMS)
_NAME = re.compile(r"COCO_(train2014|val2014)_\d{12}", re.ASCII)


def folder_of(name: str) -> str | None:
    """``train2014`` or ``val2014`` of an image's id; None of anything else."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


class Pictures:
    """Makes the items of images: their files, or stored features of their ids.

    An image is looked for in a folder as its publisher packs it (``val2014/``), else beside the
    others; whether it is there is asked later.

    Args:
        source: folder of the data set; its ``images`` is looked into, too.
        options: ``images`` names another folder, ``no_images`` asks for features.
    """

    def __init__(self, source: Path, options: Options) -> None:
        named = None if options.images is None else [options.images]
        self._roots = [root.resolve() for root in named or (source / "images", source)]
        self._stored = options.no_images
        self._folders: dict[str, Path] = {}

    def example(
        self, identity: str, split: str, captions: Captions, *, filename: str = "", folder: str = ""
    ) -> Example:
        """Return the item of an image; its file is ``ID.jpg`` unless another name is given."""
        if self._stored:
            return Example(identity, split, features=identity, captions=captions)
        folder = folder or folder_of(identity) or ""
        image = self._folder(folder) / (filename or f"{identity}.jpg")
        return Example(identity, split, image=image, captions=captions)

    def _folder(self, name: str) -> Path:
        if name not in self._folders:
            packed = [root / name for root in self._roots if (root / name).is_dir()]
            self._folders[name] = [*packed, *(r for r in self._roots if r.is_dir()), *self._roots][
                0
            ]
        return self._folders[name]


def karpathy_beside(source: Path) -> dict[str, KarpathyItem]:
    """Return the images of the ``dataset_coco.json`` in a folder by id; empty if there is none.

    Raises:
        DatasetError: the file is there and not as published.
    """
    path = source / KARPATHY
    return {item.id: item for item in read_karpathy(path, "coco")} if path.exists() else {}


def overlap_note(identities: Iterable[str], known: Mapping[str, KarpathyItem]) -> tuple[str, ...]:
    """Return a note on how many images are in COCO's own training split; empty for none.

    Args:
        identities: ids of the images of a data set.
        known: the Karpathy split, by id; without it the names tell: all of ``train2014`` is
            trained on, and of ``val2014`` all that is in neither val nor test.
    """
    ids = list(identities)
    if known:
        splits = [known[name].split for name in ids if name in known]
        counts = {split: splits.count(split) for split in SPLITS}
        if not any(counts.values()):
            return ()
        parts = ", ".join(f"{counts[split]:,} in {split}" for split in SPLITS)
        seen = ": who trained on mscoco has seen those in train" if counts["train"] else ""
        return (f"of its {len(ids):,} pictures, {KARPATHY} has {parts}{seen}",)
    count = sum(folder_of(name) == "train2014" for name in ids)
    rest = sum(folder_of(name) == "val2014" for name in ids)
    if not count:
        return ()
    return (
        f"of its {len(ids):,} pictures, {count:,} are in COCO train2014, which mscoco trains on; "
        f"the other {rest:,} are in val2014, most of which it trains on, too "
        f"(put {KARPATHY} beside the files to have them counted)",
    )
