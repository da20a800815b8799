"""Multi30K: images of Flickr30k, described in English and German, translated to French and Czech.

Elliott et al., "Multi30K: Multilingual English-German Image Descriptions", VL 2016; French and the
test sets of 2017: Elliott et al., WMT 2017; Czech and the test set of 2018: Barrault et al., WMT
2018. github.com/multi30k/dataset; for research and education, not for commerce. A folder ``data``:

    task1/raw/train.LANGUAGE.gz      one English caption per image and its translation by people
    task2/raw/train.N.LANGUAGE.gz    five English and five German ones, N from 1, each written
                                     from the image
    task1/image_splits/train.txt     the images, line by line (task 2: train_images.txt)

The English and German of the two tasks never mix. French and Czech are of task 1 alone, so task 2
has them from there, one each: the setting of most retrieval papers. The further test sets of task
1 are splits of their own; their images are published apart and looked for in a folder of the
split's name (``test_2017_flickr/``; images of COCO in ``train2014/``, ``val2014/``) or beside the
others. Where no image of one is there, it is left out and this is reported.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.coco import karpathy_beside, overlap_note
from cl2cm.data.readers.flickr import (
    FLICKR30K_FOLDERS,
    Pictures,
    Texts,
    caption,
    find,
    found_in,
    read_lists,
)
from cl2cm.data.readers.reading import (
    DataSet,
    Options,
    bad_line,
    chosen_task,
    numbered_lines,
    required,
)
from cl2cm.data.readers.wording import wording_notes
from cl2cm.types import Captions, Example

ITEMS = {"train": 29_000, "val": 1_014, "test": 1_000}
CHECKSUMS = {"train": "00b5d92201cb44c0", "val": "09bea36b8d94054a", "test": "8abcfe974e8a20e7"}
FURTHER = {
    "test_2017_flickr": Split(
        1_000, {"en": 1_000, "de": 1_000, "fr": 1_000}, checksum="a2c0a8a152652fc6"
    ),
    "test_2017_mscoco": Split(461, {"en": 461, "de": 461, "fr": 461}, checksum="3699a42d33e0194f"),
    "test_2018_flickr": Split(
        1_071, {"en": 1_071, "de": 1_071, "fr": 1_071, "cs": 1_071}, checksum="9102df7318418fdc"
    ),
}
TASKS = {1: "one caption, translated", 2: "five captions, written"}
WRITTEN = 5  # captions of an image in each language of task 2
# Of train, val and test, by `wording_checksum`.
_TRANSLATED = {"fr": "22e27f923fdf5ebb", "cs": "4d78d01ef174b997"}
WORDING = {
    1: {"en": "695c41fe15071717", "de": "b8cb8132de4f0009", **_TRANSLATED},
    2: {"en": "31fe40523d77b5ee", "de": "166b1863aec0cde8", **_TRANSLATED},
}
_SOURCE = "the publisher's files; Elliott et al., VL 2016 and WMT 2017; Barrault et al., WMT 2018"
# Split → what its files are called.
_FIRST = {"train": "train", "val": "val", "test": "test_2016_flickr"}
_SECOND = {"train": "train", "val": "val", "test": "test_2016"}
_COCO_FOLDERS = ("train2014", "val2014")

Described = dict[str, dict[str, dict[str, tuple[str, ...]]]]  # split → id → captions


def read(source: Path, options: Options) -> DataSet:
    """Read task 1 or task 2.

    Args:
        source: the folder ``data``, or one that holds it.
        options: ``task`` must be set; ``images`` is the folder of Flickr30k's images.

    Raises:
        ConfigError: no task is chosen, or one that there is not.
        DatasetError: a file is missing, damaged or not as published.
    """
    task = chosen_task(options, TASKS)
    pictures = Pictures(source, options, FLICKR30K_FOLDERS)
    examples: list[Example] = []
    locked, notes = protocol(task), []
    for split, described in (read_first if task == 1 else read_second)(source).items():
        items = list(_items(pictures, split, described))
        if split in FURTHER and not pictures.stored and not _any_there(items):
            del locked[split]
            notes.append(f"{split} is left out: none of its pictures is in {pictures.folder}")
        else:
            examples += items
    if "test_2017_mscoco" in locked:
        coco = [example.id for example in examples if example.split == "test_2017_mscoco"]
        notes += [
            f"test_2017_mscoco: {line}" for line in overlap_note(coco, karpathy_beside(source))
        ]
    usual = [example for example in examples if example.split in ITEMS]
    notes += wording_notes(usual, WORDING[task])
    return DataSet(examples, Protocol(f"multi30k task {task}", locked, _SOURCE), tuple(notes))


def protocol(task: int) -> dict[str, Split]:
    """Return the published counts of each split of a task."""
    described = WRITTEN if task == 2 else 1
    each = {"en": described, "de": described, "fr": 1, "cs": 1}
    splits = {
        split: Split(
            items,
            {lang: items * number for lang, number in each.items()},
            checksum=CHECKSUMS[split],
        )
        for split, items in ITEMS.items()
    }
    return splits | FURTHER if task == 1 else splits


def read_first(
    source: Path,
    splits: Sequence[str] = (*ITEMS, *FURTHER),
    languages: Sequence[str] = ("en", "de", "fr", "cs"),
) -> Described:
    """Return the captions of task 1: one in each language, of each split's images in their order.

    A language without a caption file and a test set without a list are skipped; the protocol check
    reports them.

    Raises:
        DatasetError: a list of train, val or test is missing, or a file is not as published.
    """
    folder = found_in(source, "task1/image_splits").parent
    lists: dict[str, Path] = {}
    for split in splits:
        path = folder / "image_splits" / f"{_FIRST.get(split, split)}.txt"
        if split in ITEMS or path.exists():
            lists[split] = required(path.parent, path.name)
    return {
        split: _described(
            lists[split],
            list(ids),
            {lang: [folder / "raw" / f"{lists[split].stem}.{lang}"] for lang in languages},
        )
        for split, ids in read_lists(lists).items()
    }


def read_second(source: Path) -> Described:
    """Return the captions of task 2: five in English and German; and task 1's in French and Czech.

    Raises:
        DatasetError: a list is missing, or a file is not as published.
    """
    folder = found_in(source, "task2/image_splits").parent
    lists = {
        split: required(folder / "image_splits", f"{stem}_images.txt")
        for split, stem in _SECOND.items()
    }
    has_first = find(source, "task1/image_splits") is not None
    translated = read_first(source, tuple(ITEMS), ("fr", "cs")) if has_first else {}
    found: Described = {}
    for split, ids in read_lists(lists).items():
        stem = folder / "raw" / _SECOND[split]
        texts = {
            language: [Path(f"{stem}.{number}.{language}") for number in range(1, WRITTEN + 1)]
            for language in ("en", "de")
        }
        written = _described(lists[split], list(ids), texts)
        also = translated.get(split, {})
        found[split] = {name: {**written[name], **also.get(name, {})} for name in ids}
    return found


def _described(
    listing: Path, ids: Sequence[str], texts: Mapping[str, Sequence[Path]]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the captions by id, from files by language that run parallel to a list."""
    columns = {language: _column(listing, ids, paths) for language, paths in texts.items()}
    return {
        name: {language: column[name] for language, column in columns.items() if name in column}
        for name in ids
    }


def _column(listing: Path, ids: Sequence[str], paths: Sequence[Path]) -> Texts:
    """Return the captions by id from the files that are there, packed or not."""
    either = ((path.with_name(f"{path.name}.gz"), path) for path in paths)
    there = (next((path for path in both if path.exists()), None) for both in either)
    files = [_parallel(listing, ids, path) for path in there if path is not None]
    return dict(zip(ids, zip(*files, strict=True), strict=True)) if files else {}


def _parallel(listing: Path, ids: Sequence[str], path: Path) -> list[str]:
    """Return the captions of a file that has one for each image of a list."""
    found: list[str] = []
    for number, text in numbered_lines(path):
        if number > len(ids):
            wanted = f"{len(ids):,} lines, as many as in {listing.name}"
            raise bad_line(path, number, wanted, "a further one")
        found.append(caption(path, number, text))
    if len(found) < len(ids):
        wanted = f"a caption of {ids[len(found)]}, as in {listing.name}"
        raise bad_line(path, len(found) + 1, wanted, "the end of the file")
    return found


def _items(pictures: Pictures, split: str, described: Mapping[str, Captions]) -> Iterator[Example]:
    for name, captions in described.items():
        below = (split, *_COCO_FOLDERS) if split in FURTHER else ()
        yield pictures.example(name, split, captions, below=below)


def _any_there(items: list[Example]) -> bool:
    return any(item.path is not None and item.path.exists() for item in items)
