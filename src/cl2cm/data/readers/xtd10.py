"""XTD10: one caption per image in eleven languages, for 1,000 images of COCO 2014; a test set.

Aggarwal and Kale, "Towards Zero-shot Cross-lingual Image Retrieval", 2020;
github.com/adobe-research/Cross-lingual-Test-Dataset-XTD10, under the Adobe Research License
(research, not commercial). Files, line for line of the same images:

    ``XTD10/test_image_names.txt``                            names of the images
    ``XTD10/test_1kcaptions_CODE.txt``                        en, and es, it, ko, pl, ru, tr, zh
                                                              translated from it by people
    ``MIC/test_1kcaptions_de.txt``, ``…_fr.txt``              of Rajendran et al., NAACL 2016
    ``STAIR/test_1kcaptions_jp.txt``                          of STAIR Captions: ``ja`` here

Most of its images are trained on in MSCOCO and in STAIR Captions: 800 are in ``train2014``. A
model that was trained on these has seen them; `read` counts how many.
"""

from collections.abc import Sequence
from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.coco import Pictures, folder_of, karpathy_beside, overlap_note
from cl2cm.data.readers.reading import DataSet, Options, bad_line, numbered_lines, required
from cl2cm.data.readers.wording import wording_notes

NAMES = "XTD10/test_image_names.txt"
# Language → file, and checksum of its captions by `wording_checksum`.
FILES = {
    "en": ("XTD10/test_1kcaptions_en.txt", "b8c866262491269f"),
    "de": ("MIC/test_1kcaptions_de.txt", "407a22dd17eaa340"),
    "es": ("XTD10/test_1kcaptions_es.txt", "96a22c89afae061c"),
    "fr": ("MIC/test_1kcaptions_fr.txt", "1c5ee491e6034395"),
    "it": ("XTD10/test_1kcaptions_it.txt", "90bea9bd686cdce2"),
    "ja": ("STAIR/test_1kcaptions_jp.txt", "9c080d57fcec7230"),
    "ko": ("XTD10/test_1kcaptions_ko.txt", "7a2adb6ed206c780"),
    "pl": ("XTD10/test_1kcaptions_pl.txt", "260ac020ebf7952e"),
    "ru": ("XTD10/test_1kcaptions_ru.txt", "835291e00bffd31b"),
    "tr": ("XTD10/test_1kcaptions_tr.txt", "2242315606ee429b"),
    "zh": ("XTD10/test_1kcaptions_zh.txt", "c654c90ad6cc566c"),
}
PROTOCOL = Protocol(
    "xtd10",
    {"test": Split(1_000, dict.fromkeys(FILES, 1_000), checksum="de22279298085705")},
    source="Aggarwal and Kale, 2020",
)


def read(source: Path, options: Options) -> DataSet:
    """Read XTD10; a language whose file is missing is reported by the protocol check.

    Raises:
        DatasetError: the names are missing, or a file is damaged or not as published.
    """
    names = _names(required(source, NAMES))
    paths = {code: source / name for code, (name, _) in FILES.items() if (source / name).exists()}
    columns = {code: _captions(path, names) for code, path in paths.items()}
    pictures = Pictures(source, options)
    examples = [
        pictures.example(name, "test", {code: (texts[row],) for code, texts in columns.items()})
        for row, name in enumerate(names)
    ]
    overlap = overlap_note(names, karpathy_beside(source))
    published = {code: FILES[code][1] for code in columns}
    return DataSet(examples, PROTOCOL, notes=(*overlap, *wording_notes(examples, published)))


def _names(path: Path) -> list[str]:
    found: dict[str, int] = {}
    for number, line in numbered_lines(path):
        name = line.strip().removesuffix(".jpg")
        if not line.strip().endswith(".jpg") or not folder_of(name):
            shown = repr(line[:40]) if line.strip() else "an empty line"
            raise bad_line(path, number, "the name of an image of COCO 2014", shown)
        if (first := found.setdefault(name, number)) != number:
            raise bad_line(path, number, "a new image", f"the image of line {first}")
    return list(found)


def _captions(path: Path, names: Sequence[str]) -> list[str]:
    """Return a caption for each name; the end of the file shows whether their numbers agree."""
    texts = []
    for number, line in numbered_lines(path):
        if number > len(names):
            found = f"more lines than {NAMES} has"
            raise bad_line(path, number, "the end of the file", found)
        if not line.strip():
            raise bad_line(path, number, f"a caption of {names[number - 1]}", "an empty line")
        texts.append(line.strip())
    if len(texts) < len(names):
        number = len(texts) + 1
        raise bad_line(path, number, f"a caption of {names[number - 1]}", "the end of the file")
    return texts
