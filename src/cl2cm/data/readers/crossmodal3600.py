"""Crossmodal-3600: captions in 36 languages, written by people, for 3,600 images; a test set.

Thapliyal et al., "Crossmodal-3600: A Massively Multilingual Multimodal Evaluation Dataset", EMNLP
2022; google.github.io/crossmodal-3600; captions under CC BY 4.0, images of Open Images under
their authors' Creative Commons licences. File: ``captions.jsonl``, an image a line with
``image/key`` and, for each language, an object whose ``caption`` is a list; its tokenised forms
are not read. Images: ``KEY.jpg``.

Its codes are BCP 47 as they are: ``fil`` is Filipino, ``quz`` Cusco Quechua, ``no`` Norwegian and
``mi`` Māori.
"""

from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.coco import Pictures
from cl2cm.data.readers.json_files import Record, read_json_lines
from cl2cm.data.readers.reading import DataSet, Options, required

# fmt: off
CAPTIONS = {
    "ar": 7_367, "bn": 3_600, "cs": 7_207, "da": 7_264, "de": 8_643, "el": 7_204,
    "en": 7_200, "es": 8_614, "fa": 7_245, "fi": 7_127, "fil": 7_109, "fr": 8_562,
    "he": 7_200, "hi": 8_503, "hr": 7_280, "hu": 7_216, "id": 7_126, "it": 8_471,
    "ja": 7_185, "ko": 7_650, "mi": 4_732, "nl": 8_059, "no": 7_213, "pl": 7_141,
    "pt": 7_243, "quz": 7_200, "ro": 7_123, "ru": 7_200, "sv": 7_273, "sw": 7_046,
    "te": 7_200, "th": 7_200, "tr": 7_233, "uk": 7_215, "vi": 7_350, "zh": 7_174,
}
# fmt: on
PROTOCOL = Protocol(
    "crossmodal-3600",
    {"test": Split(3_600, CAPTIONS, checksum="1bd00f466afc196a")},
    source="Thapliyal et al., EMNLP 2022: 261,375 captions",
)


def read(source: Path, options: Options) -> DataSet:
    """Read Crossmodal-3600.

    Raises:
        DatasetError: the file is missing, damaged or not as published.
    """
    path = required(source, "captions.jsonl")
    pictures = Pictures(source, options)
    seen: dict[str, str] = {}
    examples = []
    for record in read_json_lines(path):
        key = record.get("image/key")
        if (first := seen.setdefault(key.name(), record.file)) != record.file:
            raise key.bad("an image of its own", f"the image of {first} again")
        examples.append(pictures.example(key.name(), "test", _captions(record)))
    return DataSet(examples, PROTOCOL)


def _captions(record: Record) -> dict[str, tuple[str, ...]]:
    found = {}
    for key, value in record.fields():
        if key.startswith("image/"):
            continue
        if key not in CAPTIONS:
            raise value.bad("one of the 36 languages", "another key")
        texts = value.get("caption")
        if texts.value:
            found[key] = texts.texts()
    return {code: found[code] for code in sorted(found, key=lambda code: (code != "en", code))}
