"""The splits that most image retrieval papers use for COCO, Flickr30k and Flickr8k.

Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions", CVPR
2015. One JSON file a data set, ``dataset_coco.json``, ``dataset_flickr30k.json`` or
``dataset_flickr8k.json``, with the captions and the split of each image.
"""

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

from cl2cm.data.readers.json_files import Record, read_json

# restval: images of COCO's validation set that are in neither val nor test; trained on.
_SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}


class KarpathyItem(NamedTuple):
    """One image.

    id: its file name without ending; folder: where COCO keeps it (``train2014``), else empty;
    split: ``train``, ``val`` or ``test``; sentences: as written, without space around them.
    """

    id: str
    filename: str
    folder: str
    split: str
    sentences: tuple[str, ...]


def read_karpathy(path: Path, dataset: str) -> Iterator[KarpathyItem]:
    """Read a ``dataset_*.json``.

    Args:
        path: the JSON file.
        dataset: ``coco``, ``flickr30k`` or ``flickr8k``: what it must be of.

    Yields:
        Images in the order of the file.

    Raises:
        DatasetError: the file cannot be read, is of another data set or not as published.
    """
    whole = read_json(path)
    name = whole.get("dataset")
    if name.text() != dataset:
        raise name.bad(repr(dataset), repr(name.text()), "give the file of this data set")
    seen: dict[str, str] = {}
    for image in whole.get("images").items():
        item = _item(image)
        first = seen.setdefault(item.id, image.path)
        if first != image.path:
            raise image.get("filename").bad("an image of its own", f"the image of {first} again")
        yield item


def _item(image: Record) -> KarpathyItem:
    filename = image.get("filename").name()
    folder = image.find("filepath")
    split = image.get("split")
    if split.text() not in _SPLITS:
        raise split.bad(f"one of {', '.join(_SPLITS)}", repr(split.text()[:40]))
    sentences = image.get("sentences")
    texts = tuple(sentence.get("raw").text() for sentence in sentences.items())
    if not texts:
        raise sentences.bad("at least one sentence", "none")
    return KarpathyItem(
        id=PurePath(filename).stem,
        filename=filename,
        folder=folder.name() if folder is not None else "",
        split=_SPLITS[split.text()],
        sentences=texts,
    )
