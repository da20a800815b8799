"""xFlickr&CO: a caption per image in eight languages, written by people; a test set of IGLUE.

Bugliarello et al., "IGLUE: A Benchmark for Transfer Learning across Modalities, Tasks, and
Languages", ICML 2022; github.com/e-bug/iglue, ``datasets/xFlickrCO/annotations``, under the MIT
licence. Files: ``LANGUAGE/test.jsonl``, an image a line with ``sentences``, ``id`` and
``img_path``. 1,000 images are of Flickr30k, told by an ``id`` that is a text, and 1,000 of COCO
val2014, told by one that is a number; all of these are in the test split of MSCOCO. A folder with
the COCO half alone is read, too. The few-shot files, ``train_*.jsonl``, are not read.

Two lines are published without a caption, one in German and one in Indonesian.
"""

from collections.abc import Iterator
from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.coco import Pictures, karpathy_beside, overlap_note
from cl2cm.data.readers.json_files import Record, read_json_lines
from cl2cm.data.readers.reading import DataSet, Options, required
from cl2cm.data.readers.wording import wording_notes
from cl2cm.types import Example

_LANGUAGES = ("en", "de", "es", "id", "ja", "ru", "tr", "zh")
FLICKR = "flickr30k-images"
_BLANK = {("de", "COCO_val2014_000000122239"), ("id", "6312211170")}  # as published
_COCO_HALF = Split(
    1_000, dict.fromkeys(_LANGUAGES, 1_000) | {"de": 999}, checksum="bcc2218e6790a307"
)
_WHOLE = Split(
    2_000,
    dict.fromkeys(_LANGUAGES, 2_000) | {"de": 1_999, "id": 1_999},
    checksum="c0d96cc7acfa44dc",
)
# Whether of Flickr30k → language → checksum, by `wording_checksum`.
_WORDING = {
    False: {
        "en": "47dd973003ee89cc",
        "de": "3e4af3e963b803c2",
        "es": "c7af79ed907b38a2",
        "id": "2e492c674800e668",
        "ja": "ef0dd7efa2ba3c84",
        "ru": "e148628324b4ad59",
        "tr": "95522fe461c3f000",
        "zh": "8636961acf85b0d6",
    },
    True: {
        "en": "58a8795871350de1",
        "de": "5b7cc9c4bb226c41",
        "es": "8ff5e8d31efc6f72",
        "id": "72a72588c979daf0",
        "ja": "51e11578814580a5",
        "ru": "939e16426bfba6be",
        "tr": "8bade87a41c43ea8",
        "zh": "f8a126a8d1bc142c",
    },
}

Texts = dict[str, tuple[str, ...]]  # id → captions


def read(source: Path, options: Options) -> DataSet:
    """Read xFlickr&CO, whole or its COCO half; a missing language is left to the protocol.

    Raises:
        DatasetError: there is not a file, or one is damaged or not as published.
    """
    folder = source / "annotations" if (source / "annotations").is_dir() else source
    required(folder, *(f"{code}/test.jsonl" for code in _LANGUAGES))
    paths = {code: folder / code / "test.jsonl" for code in _LANGUAGES}
    columns = {code: _read(path, code) for code, path in paths.items() if path.exists()}
    names = list(dict.fromkeys(name for texts in columns.values() for name in texts))
    pictures = Pictures(source, options)
    examples = [
        pictures.example(
            name,
            "test",
            {code: texts[name] for code, texts in columns.items() if texts.get(name)},
            folder=FLICKR if name.isdecimal() else "",
        )
        for name in names
    ]
    whole = any(map(str.isdecimal, names))
    protocol = Protocol(
        "xflickrco", {"test": _WHOLE if whole else _COCO_HALF}, source="the files of IGLUE"
    )
    coco = [name for name in names if not name.isdecimal()]
    notes = (*overlap_note(coco, karpathy_beside(source)), *_notes(examples, columns))
    return DataSet(examples, protocol, notes=notes)


def _read(path: Path, language: str) -> Texts:
    found: Texts = {}
    seen: dict[str, str] = {}
    for record in read_json_lines(path):
        name = _name(record)
        if (first := seen.setdefault(name, record.file)) != record.file:
            raise record.get("id").bad("an image of its own", f"the image of {first} again")
        sentences = record.get("sentences")
        blank = sentences.value == [""] and (language, name) in _BLANK
        found[name] = () if blank else sentences.texts()
    return found


def _name(record: Record) -> str:
    """Return the image's file name without ending; its id must agree."""
    identity, path = record.get("id"), record.get("img_path")
    if type(identity.value) is str:
        name = identity.name()
        if not (name.isdecimal() and name.isascii()):
            raise identity.bad("a number of Flickr30k", repr(name[:40]))
    else:
        name = f"COCO_val2014_{identity.number():012}"
    if path.name() != f"{name}.jpg":
        raise path.bad(f"{name}.jpg", repr(path.name()[:60]))
    return name


def _notes(examples: list[Example], columns: dict[str, Texts]) -> Iterator[str]:
    halves = {flickr: [e for e in examples if e.id.isdecimal() == flickr] for flickr in _WORDING}
    if not halves[True]:
        yield "the COCO half: no picture of Flickr30k is in these files"
    for code, texts in columns.items():
        for name in (name for name, found in texts.items() if not found):
            yield f"{code} has no caption of {name}, as published"
    for flickr, items in halves.items():
        if items:
            published = {code: _WORDING[flickr][code] for code in columns}
            half = "Flickr30k" if flickr else "COCO"
            yield from (f"{half}: {note}" for note in wording_notes(items, published))
