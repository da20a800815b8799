"""Convert a line of a manifest to an Example and back, and check its fields.

``manifest.py`` reads and writes the files; a line is judged here, without a file in sight. Captions
and translations are normalised on the way in and out (``text.py``); ids and paths are not, for they
name files.
"""

import difflib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cl2cm.data.line_json import BadFieldError, decode_line, show
from cl2cm.text import is_blank, normalise
from cl2cm.types import Captions, Example, Quality, Translations

_KEYS = (
    *("id", "split", "image", "video", "features"),
    *("start", "end", "captions", "translations", "quality"),
)
_MEDIA = ("image", "video", "features")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Language, script, region, variants, as BCP 47 writes them.
_LANGUAGE = re.compile(
    r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?(-([a-z0-9]{5,8}|\d[a-z0-9]{3}))*"
)


def parse(line: bytes, folder: Path, source: str | None) -> Example:
    """Read one line, its paths relative to ``folder``, its translations made from ``source``.

    Where ``source`` is None, they may be made from any language that has as many captions.

    Raises:
        BadFieldError: it does not fit the format.
    """
    value = decode_line(line)
    for key in value:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            remedy = f"did you mean {near[0]!r}?" if near else "remove it"
            raise BadFieldError("", f"the keys {', '.join(_KEYS)}", show(key), remedy)
    media = [key for key in _MEDIA if key in value]
    if len(media) != 1:
        found = " and ".join(media) or "none"
        raise BadFieldError("", f"one of {', '.join(_MEDIA)}", found, "give exactly one")
    start, end = _times(value)
    captions = _captions(value.get("captions", {}))
    translations = _translations(value.get("translations", {}), captions, source)
    return Example(
        id=_word(value, "id"),
        split=_word(value, "split"),
        image=_path(value, "image", folder),
        video=_path(value, "video", folder),
        features=_word(value, "features") if "features" in value else None,
        start=start,
        end=end,
        captions=captions,
        translations=translations,
        quality=_quality(value.get("quality", {}), translations),
    )


def serialise(example: Example, folder: Path, source: str) -> bytes:
    """Write an example as a line without its end, paths relative to ``folder``.

    Raises:
        BadFieldError: the line could not be read back as the same example.
    """
    value = {
        "id": example.id,
        "image": _relative(example.image, folder),
        "video": _relative(example.video, folder),
        "features": example.features,
        "start": example.start,
        "end": example.end,
        "split": example.split,
        "captions": {language: _normal(texts) for language, texts in example.captions.items()},
        "translations": {
            language: {engine: _normal(texts) for engine, texts in engines.items()}
            for language, engines in example.translations.items()
        },
        "quality": {
            language: {engine: list(scores) for engine, scores in engines.items()}
            for language, engines in example.quality.items()
        },
    }
    kept = {key: field for key, field in value.items() if field is not None}
    for key in ("translations", "quality"):
        if not getattr(example, key):
            del kept[key]
    line = json.dumps(kept, ensure_ascii=False).encode(errors="surrogatepass")
    again = parse(line, folder, source)
    if again.media != example.media:
        found = show(str(example.path))
        raise BadFieldError("", "an absolute, plain path", found, "resolve it first")
    return line


def _word(value: dict[str, Any], key: str) -> str:
    """Return a name: a text that is not blank, without control characters; or a whole number."""
    word = value.get(key)
    if type(word) is int:
        return str(word)
    if type(word) is str and word.strip() and not _CONTROL.search(word):
        return word
    found = show(word) if key in value else "no such key"
    raise BadFieldError(key, "a name (text without control characters)", found, f"set {key}")


def _path(value: dict[str, Any], key: str, folder: Path) -> Path | None:
    if key not in value:
        return None
    word = _word(value, key)
    if _URL.match(word):  # a file never makes us contact a host
        raise BadFieldError(key, "a path", show(word), "name the URL of its folder as the source")
    joined = os.path.join(folder, word)  # noqa: PTH118 — thousands of them
    return Path(os.path.normpath(joined))


def _times(value: dict[str, Any]) -> tuple[float | None, float | None]:
    for key in ("start", "end"):
        if key not in value:
            continue
        number = value[key]
        if type(number) not in (int, float) or not 0 <= number <= 1e9:
            raise BadFieldError(key, "seconds, 0 or more", show(number), "correct or drop it")
        if "video" not in value:
            raise BadFieldError(key, "a part of a video", "no video", f"remove {key}")
    start, end = value.get("start"), value.get("end")
    if end is not None and end <= (start or 0):
        found = f"{show(start or 0)} and {show(end)}"
        raise BadFieldError("start, end", "start before end", found, "correct one of them")
    return (
        None if start is None else float(start),
        None if end is None else float(end),
    )


def _captions(value: object) -> Captions:
    return {
        _language(language, "captions"): _texts(texts, f"captions.{language}")
        for language, texts in _object(value, "captions").items()
    }


def _translations(value: object, captions: Captions, source: str | None) -> Translations:
    made: dict[str, dict[str, tuple[str | None, ...]]] = {}
    for language, engines in _object(value, "translations").items():
        field = f"translations.{_language(language, 'translations')}"
        made[language] = {
            engine: _aligned(engines, engine, f"{field}.{engine}", captions, source)
            for engine in _object(engines, field)
        }
    return made


def _aligned(
    engines: dict[str, Any], engine: str, field: str, captions: Captions, source: str | None
) -> tuple[str | None, ...]:
    _word({"engine": engine}, "engine")
    texts = _texts(engines[engine], field, nullable=True)
    if source is None:
        counts = {len(there) for there in captions.values()}
        if len(texts) not in counts:
            numbers = " or ".join(str(count) for count in sorted(counts)) or "0"
            expected = f"{numbers} texts, one for each of the captions that they are made from"
            remedy = "put null where one is unknown"
            raise BadFieldError(field, expected, str(len(texts)), remedy)
        return texts
    if source not in captions:
        found = f"no {source} captions"
        raise BadFieldError(field, f"translations of captions.{source}", found, "add them")
    if len(texts) != len(captions[source]):
        expected = f"{len(captions[source])} texts, one for each of captions.{source}"
        raise BadFieldError(field, expected, str(len(texts)), "put null where one is unknown")
    return texts


def _quality(value: object, translations: Translations) -> Quality:
    scores: dict[str, dict[str, tuple[float | None, ...]]] = {}
    for language, engines in _object(value, "quality").items():
        field = f"quality.{_language(language, 'quality')}"
        scores[language] = {
            engine: _scores(column, f"{field}.{engine}", translations.get(language, {}).get(engine))
            for engine, column in _object(engines, field).items()
        }
    return scores


def _scores(
    value: object, field: str, texts: tuple[str | None, ...] | None
) -> tuple[float | None, ...]:
    """Return scores of a column of translations: one for each, and none where there is no text."""
    if texts is None:
        raise BadFieldError(field, "a score of translations", "no such translations", "remove it")
    if type(value) is not list or len(value) != len(texts):
        found = str(len(value)) if type(value) is list else show(value)
        expected = f"{len(texts)} scores, one for each translation"
        raise BadFieldError(field, expected, found, "put null where one is unknown")
    for i, (number, text) in enumerate(zip(value, texts, strict=True)):
        if number is None:
            continue
        if type(number) not in (int, float) or not 0 <= number <= 1:
            expected = "a number from 0 to 1, or null"
            raise BadFieldError(f"{field}[{i}]", expected, show(number), "score it again")
        if text is None:
            found = f"{show(number)}, the score of no text"
            raise BadFieldError(f"{field}[{i}]", "null", found, "score it again")
    return tuple(None if number is None else float(number) for number in value)


def _texts(value: object, field: str, *, nullable: bool = False) -> tuple[Any, ...]:
    if type(value) is not list or not value:
        remedy = "leave the language out"
        if type(value) is str and not is_blank(value):
            remedy = f"write it as a list: [{show(value)}]"
        elif value != [] and value not in (None, ""):
            remedy = 'write a list such as ["a dog"]'
        raise BadFieldError(field, "a list of texts", show(value), remedy)
    for i, text in enumerate(value):
        if not ((type(text) is str and not is_blank(text)) or (nullable and text is None)):
            expected = "a text that is not blank" + (", or null" if nullable else "")
            raise BadFieldError(f"{field}[{i}]", expected, show(text), "correct or remove it")
    return tuple(_normal(value))


def _normal(texts: Iterable[str | None]) -> list[str | None]:
    return [None if text is None else normalise(text) for text in texts]


def _language(code: str, field: str) -> str:
    if _LANGUAGE.fullmatch(code):
        return code
    first, *rest = re.split("[-_]", code)
    near = "-".join([first.lower(), *(r.upper() if len(r) == 2 else r.title() for r in rest)])
    remedy = f"write {near!r}" if _LANGUAGE.fullmatch(near) else "use its code"
    expected = "a language code such as en, de or zh-Hans"
    raise BadFieldError(field, expected, show(code), remedy)


def _object(value: object, field: str) -> dict[str, Any]:
    if type(value) is dict:
        return value
    raise BadFieldError(field, "an object by name", show(value), "see the format's example")


def _relative(path: Path | None, folder: Path) -> str | None:
    return None if path is None else os.path.relpath(path, folder)
