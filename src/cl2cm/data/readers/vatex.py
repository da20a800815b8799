"""VATEX: clips of 10 seconds from YouTube, each with ten English and ten Chinese captions.

Wang et al., "VaTeX: A Large-Scale, High-Quality Multilingual Dataset for Video-and-Language
Research", ICCV 2019; captions under CC BY 4.0, the films under YouTube's terms. Files as their
publisher ships them:

    vatex_training_v1.0.json             25,991 clips, en and zh
    vatex_validation_v1.0.json           3,000 clips, en and zh
    vatex_public_test_english_v1.1.json  6,000 clips, en

The private test set has no captions and is not read. Since no Chinese caption of a test clip is
published, retrieval papers (Chen et al., "Fine-Grained Video-Text Retrieval with Hierarchical
Graph Reasoning", CVPR 2020, and who follows them) divide the validation clips into 1,500 for
validation and 1,500 for test. That division was drawn at random, so it is a pair of lists that
must be given, beside the files, under one of these names:

    val_ids.txt, test_ids.txt                        one id a line
    val_names.npy, tst_names.npy                     as that paper's authors ship them
    vatexval.caption.txt, vatextest.caption.txt      as dual encoding's and NRCCR's authors do

With the lists the public test set is left out; without them val and test are the publisher's. The
last five captions of a clip are translations, by people, of each other; the others are not.
"""

from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.clips import Clips, check_known, read_id_list
from cl2cm.data.readers.json_files import read_json
from cl2cm.data.readers.reading import DataSet, Options, required
from cl2cm.errors import DatasetError
from cl2cm.types import Captions

_LISTS = {
    "val": ("val_ids.txt", "val_names.npy", "vatexval.caption.txt"),
    "test": ("test_ids.txt", "tst_names.npy", "vatextest.caption.txt"),
}
_TRAIN = Split(25_991, {"en": 259_910, "zh": 259_910})
_HALF = Split(1_500, {"en": 15_000, "zh": 15_000})
DIVIDED = Protocol(
    "vatex, validation divided in two",
    {"train": _TRAIN, "val": _HALF, "test": _HALF},
    source="Chen et al., CVPR 2020; Dong et al., TPAMI 2021",
)
OFFICIAL = Protocol(
    "vatex, the publisher's splits",
    {
        "train": _TRAIN,
        "val": Split(3_000, {"en": 30_000, "zh": 30_000}),
        "test": Split(6_000, {"en": 60_000}),
    },
    source="Wang et al., ICCV 2019, and the data set's site",
)


def read(source: Path, options: Options) -> DataSet:
    """Read VATEX; see the module for the files and for how the validation clips are divided.

    Raises:
        DatasetError: a file or a list is missing, damaged or not as published.
    """
    clips = Clips(source, options)
    train = _captions(required(source, "vatex_training_v1.0.json"), ("en", "zh"))
    held_out = _captions(required(source, "vatex_validation_v1.0.json"), ("en", "zh"))
    lists = {
        split: required(source, *names)
        for split, names in _LISTS.items()
        if any((source / name).exists() for each in _LISTS.values() for name in each)
    }
    if lists:
        splits = {"train": train, **_divided(lists, held_out)}
    else:
        test = _captions(required(source, "vatex_public_test_english_v1.1.json"), ("en",))
        splits = {"train": train, "val": held_out, "test": test}
    _check_apart(splits)
    note = (
        f"val and test are the clips of {lists['val'].name} and {lists['test'].name}; the public "
        "test set is left out"
        if lists
        else "test has no Chinese captions: none are published; give lists of ids to divide val"
    )
    examples = [
        clips.example(name, split, captions)
        for split, chosen in splits.items()
        for name, captions in chosen.items()
    ]
    return DataSet(examples, DIVIDED if lists else OFFICIAL, (note,))


def _captions(path: Path, languages: tuple[str, ...]) -> dict[str, Captions]:
    keys = {"en": "enCap", "zh": "chCap"}
    found: dict[str, Captions] = {}
    for clip in read_json(path).items():
        name = clip.get("videoID")
        if name.name() in found:
            raise name.bad("a clip of its own", f"{name.name()!r} again")
        found[name.name()] = {code: clip.get(keys[code]).texts() for code in languages}
    return found


def _divided(
    lists: dict[str, Path], held_out: dict[str, Captions]
) -> dict[str, dict[str, Captions]]:
    chosen = {}
    for split, path in lists.items():
        ids = read_id_list(path)
        check_known(path, ids, held_out, "vatex_validation_v1.0.json")
        chosen[split] = {name: held_out[name] for name in ids}
    return chosen


def _check_apart(splits: dict[str, dict[str, Captions]]) -> None:
    first: dict[str, str] = {}
    for split, chosen in splits.items():
        for name in chosen:
            if first.setdefault(name, split) != split:
                raise DatasetError(
                    f"clip {name!r}",
                    expected="one split",
                    found=f"{first[name]} and {split}",
                    remedy="correct the lists of ids",
                )
