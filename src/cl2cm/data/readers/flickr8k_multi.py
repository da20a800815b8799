"""Flickr8k in six languages, joined from five publishers' files.

7,761 images of Flickr8k with English (five), Chinese (five) and Arabic (three) captions; 7,152 of
them are in Flickr30k, too, and have German (five), French and Czech (one each) from Multi30K. A
photo's number, the first part of its name in Flickr8k, is its name in Flickr30k. The split is
Flickr8k's; images of Multi30K's test set of 2016 are left out. A folder that holds, each in it
or below it, as published:

    Flickr8k_text                  see `flickr8k` (or those in Arabic-Image-Captioning)
    flickr8kcn                     see `flickr8k_cn`
    Arabic-Image-Captioning        see `flickr8k_ar`
    multi30k                       ``data/task1`` and ``data/task2``, see `multi30k`
    Flickr30K_Arabic_Annotations   ``Arabic_train.json``, ``Arabic_val.json``, unpacked: captions of
                                   Flickr30k by Google; github.com/ahmedfathy-hub, 2025, without a
                                   licence of its own

Machine translations of the English captions: Chinese by ``google`` and ``baidu`` (2016), Arabic by
``google``; of two captions, which Flickr30k has in other words, the Arabic is not known. The
licences of the parts apply: all for research, Multi30K not for commerce.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers import flickr8k_ar, flickr8k_cn, multi30k
from cl2cm.data.readers.caption_matching import match_captions
from cl2cm.data.readers.flickr import FLICKR8K_FOLDERS, Pictures, Texts, find
from cl2cm.data.readers.flickr8k import read_english, read_official_splits
from cl2cm.data.readers.json_files import Record, read_json
from cl2cm.data.readers.reading import DataSet, Options
from cl2cm.data.readers.wording import wording_notes
from cl2cm.types import Captions, Translations

PROTOCOL = Protocol(
    "flickr8k-multi",
    {
        "train": Split(
            5_827,
            {"en": 29_135, "zh": 29_135, "ar": 17_481, "de": 26_775, "fr": 5_355, "cs": 5_355},
            {"zh": 2 * 29_135, "ar": 26_773},
            "3b986f908d9f8789",
        ),
        "val": Split(
            964,
            {"en": 4_820, "zh": 4_820, "ar": 2_892, "de": 4_490, "fr": 898, "cs": 898},
            {"zh": 2 * 4_820, "ar": 4_490},
            "7a116b4dae6cb504",
        ),
        "test": Split(
            970,
            {"en": 4_850, "zh": 4_850, "ar": 2_910, "de": 4_495, "fr": 899, "cs": 899},
            {"zh": 2 * 4_850, "ar": 4_495},
            "a886a55950cd38f6",
        ),
    },
    source="counted in the publishers' files",
)
WORDING = {
    "en": "43cce2f7ba5f9cb5",
    "zh": "eea666b43c0e8d8c",
    "ar": "c6236782f114e46b",
    "de": "0ebf6211ca808099",
    "fr": "f7bb486c0692c8a9",
    "cs": "ee2dc321ce80408c",
}
ENGINES = {name: flickr8k_cn.ENGINES[name] for name in ("google", "baidu")}


@dataclass(frozen=True, slots=True)
class _Parts:
    """What there is of each image, by its id in Flickr8k or, where so named, its photo."""

    english: Texts
    chinese: Texts
    arabic: Texts
    chinese_engines: Mapping[str, Texts]
    multi30k: Mapping[str, Captions]  # by photo
    arabic_google: Texts  # by photo

    def captions(self, name: str) -> Captions:
        """Return the captions of an image by people."""
        also = self.multi30k.get(photo(name), {})
        return {
            "en": self.english[name],
            "zh": self.chinese[name],
            "ar": self.arabic[name],
            **{language: also[language] for language in ("de", "fr", "cs") if language in also},
        }

    def translations(self, name: str) -> Translations:
        """Return machine translations of its English captions."""
        made = flickr8k_cn.translated(name, self.chinese_engines)
        given = self.multi30k.get(photo(name), {}).get("en", ())
        texts = self.arabic_google.get(photo(name), ())
        if not texts or len(texts) != len(given):
            return made
        places = match_captions(self.english[name], given)
        column = tuple(None if place is None else texts[place] for place in places)
        return {**made, "ar": {"google": column}}


def read(source: Path, options: Options) -> DataSet:
    """Join the parts.

    Args:
        source: folder that holds all parts.
        options: ``images`` is the folder of Flickr8k's images.

    Raises:
        DatasetError: a file is missing, damaged or not as published.
    """
    pictures = Pictures(source, options, FLICKR8K_FOLDERS)
    english, chinese = read_english(source), flickr8k_cn.read_written(source)
    arabic = flickr8k_ar.read_arabic(source)
    splits = read_official_splits(source, english, chinese, arabic)
    second = multi30k.read_second(source)
    parts = _Parts(
        english.texts,
        chinese.texts,
        arabic.texts,
        flickr8k_cn.read_translations(source, ENGINES),
        {name: captions for split in second.values() for name, captions in split.items()},
        _read_google(source),
    )
    examples = [
        pictures.example(name, split, parts.captions(name), parts.translations(name))
        for split, names in splits.items()
        for name in names
        if photo(name) not in second["test"]
    ]
    left_out = sum(map(len, splits.values())) - len(examples)
    notes = [f"{left_out} pictures are in the test set of Multi30K and left out"]
    return DataSet(examples, PROTOCOL, (*notes, *wording_notes(examples, WORDING)))


def photo(name: str) -> str:
    """Return Flickr's number of a photo, its id in Flickr30k, from its id in Flickr8k."""
    return name.split("_", maxsplit=1)[0]


def _read_google(source: Path) -> Texts:
    """Return Arabic translations by photo, in the order of Flickr30k's captions; may be empty.

    Raises:
        DatasetError: a file is damaged or not as published.
    """
    found: dict[str, list[str]] = {}
    for name in ("Arabic_train.json", "Arabic_val.json"):
        path = find(source, name)
        for record in read_json(path).items() if path is not None else ():
            image = PurePosixPath(record.get("image").text()).stem
            found.setdefault(image, []).extend(_texts(record.get("caption")))
    return {name: tuple(texts) for name, texts in found.items()}


def _texts(caption: Record) -> tuple[str, ...]:
    """Return one text per record of the train file, five per record of the val file."""
    return caption.texts() if isinstance(caption.value, list) else (caption.text(),)
