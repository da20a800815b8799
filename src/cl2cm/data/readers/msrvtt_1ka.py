"""MSR-VTT in the split "1k-A", which most papers on retrieval of films report on.

Yu, Kim and Kim, "A Joint Sequence Fusion Model for Video Question Answering and Retrieval", ECCV
2018. Test are the 1,000 pairs of ``MSRVTT_JSFUSION_test.csv``, one caption a clip; train are all
other 9,000 clips, or, where ``MSRVTT_train.7k.csv`` is there and ``MSRVTT_train.9k.csv`` is not,
the 7,010 of that list. There is no validation split. The rest is in ``msrvtt.py``.
"""

from collections.abc import Container
from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.clips import Clips
from cl2cm.data.readers.csv_files import read_csv
from cl2cm.data.readers.msrvtt import read_videos
from cl2cm.data.readers.reading import DataSet, Options, bad_line, required

_SOURCE = "Yu et al., ECCV 2018; Miech et al., 2018"
_TEST = Split(1_000, {"en": 1_000})
NINE = Protocol(
    "msrvtt, split 1k-A, 9,000 for training",
    {"train": Split(9_000, {"en": 180_000}), "test": _TEST},
    source=_SOURCE,
)
SEVEN = Protocol(
    "msrvtt, split 1k-A, 7,010 for training",
    {"train": Split(7_010, {"en": 140_200}), "test": _TEST},
    source=_SOURCE,
)


def read(source: Path, options: Options) -> DataSet:
    """Read MSR-VTT with the split 1k-A.

    Raises:
        DatasetError: a file is missing, damaged or not as published.
    """
    clips = Clips(source, options)
    videos = read_videos(source)
    test = _listed(required(source, "MSRVTT_JSFUSION_test.csv"), videos, "sentence")
    short = (source / "MSRVTT_train.7k.csv").exists()
    seven = short and not (source / "MSRVTT_train.9k.csv").exists()
    train = list(_listed(source / "MSRVTT_train.7k.csv", videos)) if seven else list(videos)
    examples = [
        clips.example(name, "train", {"en": tuple(videos[name].captions)})
        for name in train
        if name not in test
    ]
    examples += [clips.example(name, "test", {"en": (text,)}) for name, text in test.items()]
    note = "there is no validation split: an epoch is chosen by number, not by validation"
    return DataSet(examples, SEVEN if seven else NINE, (note,))


def _listed(path: Path, videos: Container[str], text: str = "") -> dict[str, str]:
    """Clips of a table, each with its text where a column of texts is named."""
    found: dict[str, str] = {}
    for number, row in read_csv(path, ("video_id", text) if text else ("video_id",)):
        name = row["video_id"]
        if name not in videos:
            raise bad_line(path, number, "a clip of MSR-VTT", repr(name[:40]))
        if name in found:
            raise bad_line(path, number, "a clip of its own", f"{name!r} again")
        found[name] = row[text] if text else ""
    return found
