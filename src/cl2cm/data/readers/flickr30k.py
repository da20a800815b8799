"""Flickr30k: five English captions a picture, in the Karpathy split.

Young et al., "From Image Descriptions to Visual Denotations", TACL 2014; split by Karpathy and
Fei-Fei, CVPR 2015. Captions for research, the pictures under Flickr's terms. File:
``dataset_flickr30k.json``; pictures in ``flickr30k-images``. Multi30K has the same split;
of the 31,783 pictures 769 are in neither. A picture's id is Flickr's number of the photo.
"""

from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.flickr import FLICKR30K_FOLDERS, Pictures, found_in
from cl2cm.data.readers.karpathy import read_karpathy
from cl2cm.data.readers.multi30k import CHECKSUMS, ITEMS
from cl2cm.data.readers.reading import DataSet, Options

WRITTEN = 5  # captions of a picture
PROTOCOL = Protocol(
    "flickr30k",
    {
        split: Split(items, {"en": WRITTEN * items}, checksum=CHECKSUMS[split])
        for split, items in ITEMS.items()
    },
    source="Karpathy and Fei-Fei, CVPR 2015; ids as in Multi30K's lists",
)
_SPLITS = tuple(ITEMS)


def read(source: Path, options: Options) -> DataSet:
    """Read Flickr30k.

    Args:
        source: folder of the JSON file, or the file itself.
        options: ``images`` names the folder of pictures.

    Raises:
        DatasetError: the file is missing, damaged or not as published.
    """
    path = source if source.is_file() else found_in(source, "dataset_flickr30k.json")
    pictures = Pictures(path.parent, options, FLICKR30K_FOLDERS)
    items = sorted(read_karpathy(path, "flickr30k"), key=lambda item: _SPLITS.index(item.split))
    examples = [pictures.example(item.id, item.split, {"en": item.sentences}) for item in items]
    return DataSet(examples, PROTOCOL)
