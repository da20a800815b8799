"""Hash and licence of a folder with a translation model."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cl2cm.errors import LanguageError
from cl2cm.progress import say
from cl2cm.storage import sha256_file, sha256_text

_LICENCE = re.compile(r"^licen[cs]e:\s*(\S.*)$", re.MULTILINE | re.IGNORECASE)
_WEIGHTS = ("*.bin", "*.safetensors", "*.json", "*.spm", "*.model", "*.txt")


def model_version(folder: Path) -> str:
    """Hash of a model's files, 12 hexadecimal digits."""
    files = sorted({file for pattern in _WEIGHTS for file in folder.glob(pattern)})
    return sha256_text("\n".join(f"{file.name} {sha256_file(file)}" for file in files))[:12]


def model_licence(folder: Path) -> str:
    """What the head of the model's README says, or ``unknown``."""
    card = folder / "README.md"
    match = _LICENCE.search(card.read_text("utf-8", "replace")[:5000]) if card.is_file() else None
    return match[1].strip("\"' ") if match else "unknown"


def no_language(engine: str, code: str, known: Iterable[str]) -> LanguageError:
    """The error for a language that a model does not have."""
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
