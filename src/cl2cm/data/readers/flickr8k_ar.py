"""Arabic Flickr8k: three Arabic captions per image, translated and corrected by people.

ElJundi et al., "Resources and End-to-End Neural Network Models for Arabic Image Captioning",
VISAPP 2020; github.com/ObeidaElJundi/Arabic-Image-Captioning, without a licence of its own. File:
``data/Flickr8k_text/Flickr8k.arabic.full.txt``, in the form of Flickr8k's, whose English captions
and lists lie beside it. Three of the five captions were kept; which, the file does not say.

One caption of the published file is broken in two lines within a word. It is mended here.
"""

from collections.abc import Iterator
from pathlib import Path

from cl2cm.data.readers.flickr import FLICKR8K_FOLDERS, Pictures, Table, found_in, read_captions
from cl2cm.data.readers.flickr8k import WRITTEN, protocol, read_english, read_official_splits
from cl2cm.data.readers.reading import DataSet, Options, numbered_lines
from cl2cm.data.readers.wording import wording_notes

FILE = "Flickr8k.arabic.full.txt"
CORRECTED = 3  # captions of an image
WORDING = {"en": "e93345d8474e1959", "ar": "4251410c255f3fec"}
_BROKEN = "469021173_aa31c07108.jpg#2"


def read(source: Path, options: Options) -> DataSet:
    """Read Arabic Flickr8k.

    Args:
        source: the repository, or a folder that holds its texts.
        options: ``images`` is the folder of Flickr8k's images.

    Raises:
        DatasetError: a file is missing, damaged or not as published.
    """
    english, arabic = read_english(source), read_arabic(source)
    pictures = Pictures(source, options, FLICKR8K_FOLDERS)
    examples = [
        pictures.example(name, split, {"en": english.texts[name], "ar": arabic.texts[name]})
        for split, names in read_official_splits(source, english, arabic).items()
        for name in names
    ]
    return DataSet(
        examples,
        protocol("flickr8k-ar", {"en": WRITTEN, "ar": CORRECTED}),
        tuple(wording_notes(examples, WORDING)),
    )


def read_arabic(source: Path) -> Table:
    """Return the Arabic captions.

    Raises:
        DatasetError: the file is missing, damaged or not as published.
    """
    path = found_in(source, FILE)
    return read_captions(path, CORRECTED, lines=_mended(path))


def _mended(path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines of the file, the two halves of the broken caption as one."""
    lines = numbered_lines(path)
    for number, line in lines:
        following = next(lines, None) if line.startswith(f"{_BROKEN}\t") else None
        if following is not None and "\t" not in following[1]:
            yield number, line + following[1]
            continue
        yield number, line
        if following is not None:
            yield following
