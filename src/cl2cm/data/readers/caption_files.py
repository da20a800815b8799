"""Caption files as the authors of dual encoding, NRCCR and CL2CM publish them.

One caption a line, ``CLIP#KIND#NUMBER text``; CLIP, and NUMBER among its captions, say which
caption it is or which one it was made from. A collection has a file for each split and kind:

    COLLECTIONtrain.caption.txt                       English, by people
    COLLECTIONtrain_google_enc2zh.caption.txt         its machine translation
    COLLECTIONtrain_google_enc2zh2enc.caption.txt     and that, back into English
    COLLECTIONval_zh.caption.txt                      Chinese, by people
    COLLECTIONval_google_zh2enc.caption.txt           its machine translation, not read

Wang et al., "Cross-Lingual Cross-Modal Retrieval with Noise-Robust Learning", ACM MM 2022.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cl2cm.data.readers.reading import bad_line, numbered_lines
from cl2cm.errors import DatasetError
from cl2cm.types import Captions, Translations

_LINE = re.compile(r"(?P<clip>[^#\s]+)(#[^#\s]+)?#(?P<number>\d{1,6})\s+(?P<text>\S.*)")
_HUMAN = re.compile(r"(?P<language>[a-z]{2,3})")
_MADE = re.compile(r"(?P<engine>[^_]+)_enc2(?P<language>[a-z]{2,3}?)(?P<back>2enc)?")

Texts = dict[str, dict[int, str]]  # clip → number → text


class Described(NamedTuple):
    """One clip: captions by people, and machine translations of the English ones.

    Back-translations are translations into English, by an engine called ``google-zh``.
    """

    clip: str
    captions: Captions
    translations: Translations


def read_captions(path: Path) -> Texts:
    """Return every caption of a file.

    Raises:
        DatasetError: the file cannot be read, or a line is of another form or there twice.
    """
    found: Texts = {}
    for number, clip, caption, text in _lines(path):
        texts = found.setdefault(clip, {})
        if caption in texts:
            raise bad_line(
                path, number, "a caption of its own", f"number {caption} of {clip} again"
            )
        texts[caption] = text
    return found


def read_split(folder: Path, collection: str, split: str) -> list[Described]:
    """Return clips of a split with all that the folder has of them, in the order of its first file.

    Raises:
        DatasetError: there are no captions of the split, or a file is not as published.
    """
    human: dict[str, Texts] = {}
    made: list[tuple[Path, str, str]] = []
    for path in sorted(folder.glob(f"{collection}{split}*.caption.txt")):
        kind = path.name.removeprefix(f"{collection}{split}").removesuffix(".caption.txt")
        if not kind or (match := _HUMAN.fullmatch(kind.removeprefix("_"))):
            human["en" if not kind or match is None else match["language"]] = read_captions(path)
        elif match := _MADE.fullmatch(kind.removeprefix("_")):
            back, engine, language = match["back"], match["engine"], match["language"]
            made.append((path, "en", f"{engine}-{language}") if back else (path, language, engine))
    if not human:
        raise DatasetError(
            str(folder),
            expected=f"{collection}{split}.caption.txt or {collection}{split}_zh.caption.txt",
            found="no such file",
            remedy="give the folder of caption files",
        )
    columns = [(lang, engine, _aligned(path, human.get("en", {}))) for path, lang, engine in made]
    clips = dict.fromkeys(clip for texts in human.values() for clip in texts)
    return [_described(clip, human, columns) for clip in clips]


def _lines(path: Path) -> Iterator[tuple[int, str, int, str]]:
    for number, line in numbered_lines(path):
        match = _LINE.fullmatch(line)
        if match is None:
            found = repr(line[:40]) if line.strip() else "an empty line"
            raise bad_line(path, number, "CLIP#KIND#NUMBER text", found)
        yield number, match["clip"], int(match["number"]), match["text"].strip()


def _aligned(path: Path, english: Texts) -> Texts:
    """Return the texts of a file that are made from English captions; each must have one."""
    for number, clip, caption, _ in _lines(path):
        if caption not in english.get(clip, {}):
            expected = "a caption that it was made from"
            raise bad_line(path, number, expected, f"no number {caption} of {clip[:40]!r}")
    return read_captions(path)


def _described(
    clip: str, human: dict[str, Texts], columns: list[tuple[str, str, Texts]]
) -> Described:
    captions = {
        language: tuple(texts[clip][number] for number in sorted(texts[clip]))
        for language, texts in human.items()
        if clip in texts
    }
    translations: dict[str, dict[str, tuple[str | None, ...]]] = {}
    numbers = sorted(human.get("en", {}).get(clip, {}))
    for language, engine, texts in columns:
        if numbers and clip in texts:
            column = tuple(texts[clip].get(number) for number in numbers)
            translations.setdefault(language, {})[engine] = column
    return Described(clip, captions, translations)
