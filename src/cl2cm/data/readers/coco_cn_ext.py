"""COCO-CN's extension: 4,712 more Chinese captions, of 4,573 pictures that COCO-CN does not have.

Collected with iCap (Jia and Li, "iCap: Interactive Image Captioning with Predictive Text", ICMR
2020); github.com/li-xirong/coco-cn, under the MIT licence. File: ``coco-cn_ext.icap2020.txt``, in
the folder or in its ``data``. It has no splits: all items are in the one that is asked for. With
``dataset_coco.json`` beside the file, the pictures have their English captions too.
"""

from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.coco import Pictures, karpathy_beside, overlap_note
from cl2cm.data.readers.coco_cn import bilingual, english, english_notes, read_captions
from cl2cm.data.readers.reading import DataSet, Options, required
from cl2cm.data.readers.wording import wording_notes

FILE = "coco-cn_ext.icap2020.txt"
_WORDING = {"zh": "4530a9a2d0b945b6"}


def read(source: Path, options: Options) -> DataSet:
    """Read the extension, into the split ``options.split``.

    Raises:
        DatasetError: the file is missing, damaged or not as published.
    """
    path = required(source, FILE, f"data/{FILE}")
    chinese = read_captions(path)
    known = karpathy_beside(path.parent) or karpathy_beside(source)
    pictures = Pictures(source, options)
    examples = [
        pictures.example(name, options.split, bilingual(name, chinese, known)) for name in chinese
    ]
    captions = {"zh": 4_712, **english(known, chinese)}
    locked = {options.split: Split(4_573, captions, checksum="e588ebad1e55ec0b")}
    return DataSet(
        examples,
        Protocol("coco-cn-ext", locked, source="the release of February 2021"),
        notes=(
            *overlap_note(chinese, known),
            *english_notes(known, chinese),
            *wording_notes(examples, _WORDING),
        ),
        source="en" if known else "zh",
    )
