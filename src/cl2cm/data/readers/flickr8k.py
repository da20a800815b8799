"""Flickr8k: five English captions per image, in the publisher's split.

Hodosh, Young and Hockenmaier, "Framing Image Description as a Ranking Task: Data, Models and
Evaluation Metrics", JAIR 2013; captions for research, the images under Flickr's terms. Files:
``Flickr8k.token.txt``, ``Flickr_8k.trainImages.txt``, ``.devImages.txt`` and ``.testImages.txt``;
images in ``Flicker8k_Dataset``. Of the 8,091 images 91 are in no split; they are not read.
"""

from collections.abc import Mapping
from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.flickr import (
    FLICKR8K_FOLDERS,
    Pictures,
    Table,
    found_in,
    read_captions,
    read_splits,
)
from cl2cm.data.readers.reading import DataSet, Options
from cl2cm.data.readers.wording import wording_notes

ITEMS = {"train": 6_000, "val": 1_000, "test": 1_000}
CHECKSUMS = {"train": "c8873854b1fc68fb", "val": "c312d8f3cc0ce5da", "test": "eb8ab6844aa99dba"}
WRITTEN = 5  # captions of an image
WORDING = {"en": "e93345d8474e1959"}
_LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}


def read(source: Path, options: Options) -> DataSet:
    """Read Flickr8k.

    Args:
        source: folder of the texts and, below it, of the images.
        options: ``images`` names another folder of images.

    Raises:
        DatasetError: a file is missing, damaged or not as published.
    """
    pictures = Pictures(source, options, FLICKR8K_FOLDERS)
    english = read_english(source)
    examples = [
        pictures.example(name, split, {"en": english.texts[name]})
        for split, names in read_official_splits(source, english).items()
        for name in names
    ]
    return DataSet(
        examples, protocol("flickr8k", {"en": WRITTEN}), tuple(wording_notes(examples, WORDING))
    )


def read_english(source: Path) -> Table:
    """Return the English captions.

    Raises:
        DatasetError: the file is missing, damaged or not as published.
    """
    return read_captions(found_in(source, "Flickr8k.token.txt"), WRITTEN)


def read_official_splits(source: Path, *tables: Table) -> dict[str, list[str]]:
    """Return the ids of each split in the order of its list, each with captions in some tables.

    Raises:
        DatasetError: a list is missing or not as published, or an image has no captions.
    """
    lists = {split: found_in(source, name) for split, name in _LISTS.items()}
    return read_splits(lists, *tables)


def protocol(name: str, each: Mapping[str, int], made: Mapping[str, int] | None = None) -> Protocol:
    """Return the protocol of a data set on Flickr8k's split."""
    splits = {
        split: Split(
            items,
            {language: number * items for language, number in each.items()},
            {language: number * items for language, number in (made or {}).items()},
            CHECKSUMS[split],
        )
        for split, items in ITEMS.items()
    }
    return Protocol(name, splits, source="Hodosh et al., JAIR 2013, and the publishers' files")
