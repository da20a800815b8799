"""MSCOCO: five English captions per image, in the Karpathy split.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; split by Karpathy and Fei-Fei,
CVPR 2015. Captions under CC BY 4.0. File: ``dataset_coco.json``; images in ``train2014`` and
``val2014``. What that file calls ``restval``, 30,504 images, is in train here as everywhere.

Results are reported on the 5,000 images of test ("5K"), or as the mean over five folds of 1,000
("1K"): the first thousand of the file's test images, the second, and so on; see `folds`.
"""

from collections.abc import Sequence
from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.coco import CHECKSUMS, ENGLISH, ITEMS, KARPATHY, SPLITS, Pictures
from cl2cm.data.readers.karpathy import read_karpathy
from cl2cm.data.readers.reading import DataSet, Options, required
from cl2cm.types import Example

PROTOCOL = Protocol(
    "mscoco",
    {name: Split(ITEMS[name], {"en": ENGLISH[name]}, checksum=CHECKSUMS[name]) for name in SPLITS},
    source="Karpathy and Fei-Fei, CVPR 2015; 616,767 captions of COCO 2014",
)
FOLD = 1_000  # images


def read(source: Path, options: Options) -> DataSet:
    """Read MSCOCO.

    Raises:
        DatasetError: the file is missing, damaged or not as published.
    """
    pictures = Pictures(source, options)
    examples = [
        pictures.example(
            item.id,
            item.split,
            {"en": item.sentences},
            filename=item.filename,
            folder=item.folder,
        )
        for item in read_karpathy(required(source, KARPATHY), "coco")
    ]
    return DataSet(sorted(examples, key=lambda item: SPLITS.index(item.split)), PROTOCOL)


def folds(examples: Sequence[Example]) -> list[list[Example]]:
    """Return the test images in folds of 1,000, in the order of the file."""
    test = [example for example in examples if example.split == "test"]
    return [test[start : start + FOLD] for start in range(0, len(test), FOLD)]
