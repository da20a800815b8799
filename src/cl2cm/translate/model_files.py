"""Hash and licence of a folder with a translation model."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cl2cm.errors import LanguageError, WeightsError
from cl2cm.progress import say
from cl2cm.storage import open_regular, read_regular, sha256_file, sha256_text

_LICENCE = re.compile(r"^licen[cs]e:\s*(\S.*)$", re.MULTILINE | re.IGNORECASE)
_HEAD = 5000  # bytes
_TEXT = 2**27  # bytes of a vocabulary or of settings
_WEIGHTS = ("*.bin", "*.safetensors", "*.json", "*.spm", "*.model", "*.txt")


def model_version(folder: Path) -> str:
    """Return the hash of a model's files, 12 hexadecimal digits.

    Raises:
        WeightsError: one of them cannot be read.
    """
    files = sorted({file for pattern in _WEIGHTS for file in folder.glob(pattern)})
    try:
        lines = [f"{file.name} {sha256_file(file)}" for file in files]
    except OSError as error:
        raise damaged(folder, error) from error
    return sha256_text("\n".join(lines))[:12]


def read_text(path: Path) -> str:
    """Return a text of a model's folder.

    Raises:
        WeightsError: it cannot be read, or is not UTF-8.
    """
    try:
        return read_regular(path, _TEXT).decode()
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def read_json(path: Path, kind: type) -> Any:  # noqa: ANN401 - of that kind
    """Return the JSON of a model's folder.

    Raises:
        WeightsError: it cannot be read, or is of another kind.
    """
    try:
        value = json.loads(read_text(path))
        if isinstance(value, kind):
            return value
        error: Exception = ValueError(f"no {kind.__name__}")
    except (ValueError, RecursionError) as caught:
        error = caught
    raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> WeightsError:
    """Return the error of a file or folder that is not as a model's should be."""
    found = (getattr(error, "strerror", None) or str(error)).lower()[:120]
    remedy = "restore it, or name another model"
    return WeightsError(str(path), expected="a complete model", found=found, remedy=remedy)


def model_licence(folder: Path) -> str:
    """Return what the head of the model's README says, or ``unknown``."""
    try:
        with open_regular(folder / "README.md") as file:
            head = file.read(_HEAD).decode("utf-8", "replace")
    except OSError:
        return "unknown"
    match = _LICENCE.search(head)
    return match[1].strip("\"' ")[:200] if match else "unknown"


def no_language(engine: str, code: str, known: Iterable[str]) -> LanguageError:
    """Return the error for a language that a model does not have."""
    there = sorted(known)
    shown = ", ".join(there[:30]) + (f" and {len(there) - 30} more" if len(there) > 30 else "")
    return LanguageError(
        f"engine {engine}, language {code!r}",
        expected=f"one that the model calls {shown or 'nothing at all'}",
        found="none of them",
        remedy="choose another language or model",
    )


def say_too_long(engine: str, limit: int, texts: Sequence[str], fits: Sequence[bool]) -> None:
    """Name the texts that are longer than a model reads: they get no translation, not half of one.

    Args:
        engine: as on the command line.
        limit: tokens.
        texts: what is to be translated.
        fits: whether each of them is short enough.
    """
    long = [text for text, fit in zip(texts, fits, strict=True) if not fit]
    for text in long[:3]:
        say(f"{engine}: not translated, longer than {limit} tokens: {text[:60]!r}…")
    if len(long) > 3:
        say(f"{engine}: not translated, longer than {limit} tokens: {len(long) - 3:,} more texts")
