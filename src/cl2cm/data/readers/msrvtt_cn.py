"""MSR-VTT-CN: MSR-VTT with Chinese captions, translated by machine to train and by people to test.

Wang et al., "Cross-Lingual Cross-Modal Retrieval with Noise-Robust Learning", ACM MM 2022; for
research. Files: the collection ``msrvttcn`` (earlier ``msrvtt10kcn``) of caption files, in the
folder or in its ``TextData``, see ``caption_files.py``; for English captions of val and test, which
the collection lacks, MSR-VTT (``msrvtt.py``) beside them.

The publication's numbers could not be compared with its files, so the counts are not locked: the
splits are the files' own. What is checked: every translation has its caption and every training
caption its translations; no clip is in two splits; ids are as in MSR-VTT.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from cl2cm.data.official_numbers import Protocol, Split
from cl2cm.data.readers.caption_files import Described, read_split
from cl2cm.data.readers.clips import Clips
from cl2cm.data.readers.msrvtt import WHOLE, Video, read_videos
from cl2cm.data.readers.reading import DataSet, Options
from cl2cm.errors import DatasetError

_COLLECTIONS = ("msrvttcn", "msrvtt10kcn")
_SPLITS = ("train", "val", "test")
_CLIP = re.compile(r"video\d{1,4}")


def read(source: Path, options: Options) -> DataSet:
    """Read MSR-VTT-CN; see the module for the files.

    Raises:
        DatasetError: a file is missing, damaged or not as published.
    """
    clips = Clips(source, options)
    folder = source / "TextData" if (source / "TextData").is_dir() else source
    collection = next((n for n in _COLLECTIONS if any(folder.glob(f"{n}train*"))), _COLLECTIONS[0])
    splits = {split: read_split(folder, collection, split) for split in _SPLITS}
    _check_clips(folder, splits)
    notes = ["the counts of MSR-VTT-CN are not locked: they are counted in the files"]
    english = _english(source)
    if english is not None:
        splits = {split: [_joined(clip, english) for clip in splits[split]] for split in splits}
    elif any("en" not in clip.captions for clip in splits["val"]):
        notes.append("val has no English captions; put MSR-VTT's own files beside these")
    examples = [
        clips.example(clip.clip, split, clip.captions, clip.translations)
        for split, chosen in splits.items()
        for clip in chosen
    ]
    protocol = Protocol(
        "msrvtt-cn",
        {split: _as_found(chosen, split) for split, chosen in splits.items()},
        source="the files themselves",
    )
    return DataSet(examples, protocol, tuple(notes))


def _english(source: Path) -> dict[str, Video] | None:
    there = any((source / name).exists() for name in ("train_val_videodatainfo.json", *WHOLE))
    return read_videos(source) if there else None


def _joined(clip: Described, english: dict[str, Video]) -> Described:
    """Return a clip with MSR-VTT's English captions, where its collection has none."""
    if "en" in clip.captions or clip.clip not in english:
        return clip
    captions = {"en": tuple(english[clip.clip].captions), **clip.captions}
    return clip._replace(captions=captions)


def _check_clips(folder: Path, splits: dict[str, list[Described]]) -> None:
    first: dict[str, str] = {}
    for split, chosen in splits.items():
        for clip in chosen:
            if not _CLIP.fullmatch(clip.clip):
                expected, found = "clips video0 to video9999", repr(clip.clip[:40])
            elif first.setdefault(clip.clip, split) != split:
                expected = "a clip in one split"
                found = f"{clip.clip} in {first[clip.clip]} and {split}"
            else:
                continue
            raise DatasetError(
                f"{folder}: {split}",
                expected=expected,
                found=found,
                remedy="fetch the files again",
            )


def _as_found(chosen: Sequence[Described], split: str) -> Split:
    """Return counts of a split, with as many translations as there are captions to translate."""
    captions: dict[str, int] = {}
    for clip in chosen:
        for language, texts in clip.captions.items():
            captions[language] = captions.get(language, 0) + len(texts)
    columns = {
        (language, engine)
        for clip in chosen
        for language, engines in clip.translations.items()
        for engine in engines
    }
    english = sum(len(clip.captions.get("en", ())) for clip in chosen)
    translations: dict[str, int] = {}
    for language, _ in columns:
        translations[language] = translations.get(language, 0) + english
    if split == "train":
        translations.setdefault("zh", english)
    return Split(len(chosen), captions, translations)
