"""Flickr8k-CN: Chinese captions of Flickr8k, by people and by machine.

Li et al., "Adding Chinese Captions to Images", ICMR 2016; github.com/li-xirong/flickr8kcn, for
research. Files in ``data``: lists ``flickr8ktrain.txt``, ``flickr8kval.txt``, ``flickr8ktest.txt``
with an id a line, and captions as ``NAME.jpg#KIND#NUMBER TEXT``:

    flickr8kenc.caption.txt              English, as in Flickr8k
    flickr8kzhc.caption.txt              Chinese, written from the image (short)
    flickr8kzhg.caption.txt.v20160816    the English by Google: engine ``google``
    flickr8kzhb.caption.txt.v20160815    by Baidu: engine ``baidu``
    flickr8kzhg.caption.txt              as in the publication: ``google-icmr2016``
    flickr8kzhb.caption.txt              the same: ``baidu-icmr2016``
    flickr8kzhmtest.captions.txt         the English of test, translated by people

The Chinese of people comes in two tasks that never mix: 1, written (the default), and 2,
translated, test only.
"""

from collections.abc import Mapping
from pathlib import Path

from cl2cm.data.official_numbers import Protocol
from cl2cm.data.readers.flickr import (
    FLICKR8K_FOLDERS,
    Pictures,
    Table,
    Texts,
    find,
    found_in,
    read_captions,
    read_splits,
)
from cl2cm.data.readers.flickr8k import ITEMS, WRITTEN, protocol
from cl2cm.data.readers.reading import DataSet, Options, chosen_task
from cl2cm.data.readers.wording import wording_notes
from cl2cm.types import Translations

ENGINES = {
    "google": ("flickr8kzhg.caption.txt.v20160816", "zhg"),
    "baidu": ("flickr8kzhb.caption.txt.v20160815", "zhb"),
    "google-icmr2016": ("flickr8kzhg.caption.txt", "zhg"),
    "baidu-icmr2016": ("flickr8kzhb.caption.txt", "zhb"),
}
WORDING = {
    1: {"en": "e93345d8474e1959", "zh": "b5c3a2c8bb4a5f1c"},
    2: {"en": "3ee0c7ce832b351a", "zh": "aa7bb594a86b2281"},
}


def read(source: Path, options: Options) -> DataSet:
    """Read Flickr8k-CN, task 1 (the default) or 2.

    Args:
        source: the folder ``data``, or one that holds it.
        options: ``images`` is the folder of Flickr8k's images.

    Raises:
        ConfigError: another task is asked for.
        DatasetError: a file is missing, damaged or not as published.
    """
    task = chosen_task(options, {1: "written", 2: "translated"}, default=1)
    chinese = read_written(source) if task == 1 else _read_translated(source)
    english = read_captions(found_in(source, "flickr8kenc.caption.txt"), WRITTEN, kind="enc")
    splits = read_splits(
        {
            split: found_in(source, f"flickr8k{split}.txt")
            for split in (ITEMS if task == 1 else ["test"])
        },
        chinese,
        english,
        ending="",
    )
    engines = read_translations(source, ENGINES)
    pictures = Pictures(source, options, FLICKR8K_FOLDERS)
    examples = [
        pictures.example(
            name,
            split,
            {"en": english.texts[name], "zh": chinese.texts[name]},
            translated(name, engines),
        )
        for split, names in splits.items()
        for name in names
    ]
    return DataSet(examples, _protocol(task), tuple(wording_notes(examples, WORDING[task])))


def read_written(source: Path) -> Table:
    """Return the Chinese captions written from the images.

    Raises:
        DatasetError: the file is missing, damaged or not as published.
    """
    return read_captions(found_in(source, "flickr8kzhc.caption.txt"), WRITTEN, kind="zhc")


def read_translations(source: Path, names: Mapping[str, tuple[str, str]]) -> dict[str, Texts]:
    """Return machine translations of the English captions, by engine and id.

    Engines without a file are skipped; the protocol check reports them.

    Args:
        source: the folder ``data``, or one that holds it.
        names: engine → file and kind; of ``ENGINES``.

    Raises:
        DatasetError: a file is damaged or not as published.
    """
    paths = {engine: find(source, name) for engine, (name, _) in names.items()}
    return {
        engine: read_captions(path, WRITTEN, kind=names[engine][1]).texts
        for engine, path in paths.items()
        if path is not None
    }


def translated(name: str, engines: Mapping[str, Texts]) -> Translations:
    """Return what the engines made of an image's captions; nothing where none has it."""
    made = {engine: texts[name] for engine, texts in engines.items() if name in texts}
    return {"zh": made} if made else {}


def _read_translated(source: Path) -> Table:
    return read_captions(found_in(source, "flickr8kzhmtest.captions.txt"), WRITTEN, kind="zhm")


def _protocol(task: int) -> Protocol:
    made = {"zh": WRITTEN * len(ENGINES)}
    whole = protocol("flickr8k-cn", {"en": WRITTEN, "zh": WRITTEN}, made)
    if task == 1:
        return whole
    return Protocol("flickr8k-cn task 2", {"test": whole.splits["test"]}, whole.source)
