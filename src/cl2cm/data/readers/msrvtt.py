"""MSR-VTT: 10,000 clips from YouTube, each with twenty English captions; the official split.

Xu, Mei, Yao and Rui, "MSR-VTT: A Large Video Description Dataset for Bridging Video and Language",
CVPR 2016; for research. Files: ``train_val_videodatainfo.json`` and ``test_videodatainfo.json``, or
all in one, ``MSRVTT_data.json`` or ``videodatainfo.json``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.clips import Clips
from cl2cm.data.readers.json_files import Record, read_json
from cl2cm.data.readers.reading import DataSet, Options, required

WHOLE = ("MSRVTT_data.json", "videodatainfo.json", "videodatainfo_2016.json")
_HALVES = ("train_val_videodatainfo.json", "test_videodatainfo.json")
_SPLITS = {"train": "train", "validate": "val", "val": "val", "test": "test"}
PROTOCOL = Protocol(
    "msrvtt, official split",
    {
        "train": Split(6_513, {"en": 130_260}),
        "val": Split(497, {"en": 9_940}),
        "test": Split(2_990, {"en": 59_800}),
    },
    source="Xu et al., CVPR 2016",
)


class Video(NamedTuple):
    """One clip: its split, and its captions in the order of the file."""

    split: str
    captions: list[str]


def read(source: Path, options: Options) -> DataSet:
    """Read MSR-VTT with its official split.

    Raises:
        DatasetError: a file is missing, damaged or not as published.
    """
    clips = Clips(source, options)
    videos = read_videos(source)
    examples = [
        clips.example(name, split, {"en": tuple(videos[name].captions)})
        for split in PROTOCOL.splits
        for name in videos
        if videos[name].split == split
    ]
    return DataSet(examples, PROTOCOL)


def read_videos(source: Path) -> dict[str, Video]:
    """Every clip of the publisher's files, by id.

    Raises:
        DatasetError: a file is missing, damaged or not as published.
    """
    halves = any((source / name).exists() for name in _HALVES)
    paths = [required(source, name) for name in _HALVES] if halves else [required(source, *WHOLE)]
    videos: dict[str, Video] = {}
    for path in paths:
        whole = read_json(path)
        for name, split in _clips(whole):
            if name.name() in videos:
                raise name.bad("a clip of its own", f"{name.name()!r} again")
            videos[name.name()] = Video(split, [])
        for sentence in whole.get("sentences").items():
            name = sentence.get("video_id")
            if name.name() not in videos:
                raise name.bad("one of the file's clips", repr(name.name()[:40]))
            videos[name.name()].captions.append(sentence.get("caption").text())
    _check_described(paths, videos)
    return videos


def _clips(whole: Record) -> Iterator[tuple[Record, str]]:
    for video in whole.get("videos").items():
        split = video.get("split")
        if split.text() not in _SPLITS:
            raise split.bad(f"one of {', '.join(_SPLITS)}", repr(split.text()[:40]))
        yield video.get("video_id"), _SPLITS[split.text()]


def _check_described(paths: list[Path], videos: dict[str, Video]) -> None:
    for name, video in videos.items():
        if not video.captions:
            place = Record(None, " and ".join(map(str, paths)), "sentences")
            raise place.bad("a caption of every clip", f"none of {name!r}")
