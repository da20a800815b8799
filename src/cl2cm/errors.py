"""The exceptions of cl2cm, as a tree.

CL2CMError                    an expected failure: one line, exit code 2
├── ConfigError               a setting that is unknown, impossible or contradictory
├── ManifestError             a manifest line that does not fit the format
├── DatasetError              files of a data set that are not as published
├── MediaError                an image or video that cannot be read
├── LanguageError             a language that the data or the model does not have
├── EncoderError              an encoder that cannot be found, loaded or matched
│   └── WeightsError          offline weights that are absent, damaged or out of reach
├── StoreError                a feature store that is damaged, partial or another encoder's
├── CheckpointError           a run that is damaged, unfinished or of another tokenizer
│   ├── ExportError           an export that is damaged, or differs from its run
│   └── OtherSettingsError    a run that was started with other settings or data
├── VectorIndexError          an index that is damaged or holds another model's vectors
├── QueryError                a search request that cannot be answered
├── NumberError               a number that is NaN or infinite, or a mean of nothing
├── ProcessError             a training across processes, one of which ended or differs
├── StorageError              a disk that is full, read-only or without permission
└── MissingExtraError         an optional dependency that is not installed

Each says what was expected, what was found and what to do.
"""

import difflib
from collections.abc import Callable, Iterable
from typing import Any


class CL2CMError(Exception):
    """Base of all expected failures.

    Args:
        subject: what is concerned: a file with its line, a key, an option.
        expected: what would have been right.
        found: what was there.
        remedy: what to do, as an imperative.

    Example:
        >>> import cl2cm
        >>> try:
        ...     cl2cm.open("no-such-folder")
        ... except cl2cm.CL2CMError as error:
        ...     print(error.remedy)
        make one with cl2cm index
    """

    def __init__(self, subject: str, *, expected: str, found: str, remedy: str) -> None:
        self.subject = subject
        self.expected = expected
        self.found = found
        self.remedy = remedy
        text = f"{subject}: expected {expected}, found {found}; {remedy}"
        super().__init__(" ".join(text.split()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes: by its text and attributes, not by ``__init__``."""
        return restored, (type(self), str(self), self.__dict__)


def restored(kind: type[CL2CMError], text: str, state: dict[str, Any]) -> CL2CMError:
    """Return an error of another process."""
    error = kind.__new__(kind, text)
    error.__dict__.update(state)
    return error


class ConfigError(CL2CMError):
    """A setting that is unknown, impossible or contradictory."""


class ManifestError(CL2CMError):
    """A manifest line that does not fit the format."""


class DatasetError(CL2CMError):
    """Files of a data set that are not as published."""


class MediaError(CL2CMError):
    """An image or video that cannot be read."""


class LanguageError(CL2CMError):
    """A language that the data or the model does not have."""


class EncoderError(CL2CMError):
    """An encoder that cannot be found, loaded or matched."""


class WeightsError(EncoderError):
    """Offline weights that are absent, damaged or out of reach."""


class StoreError(CL2CMError):
    """A feature store that is damaged, partial or another encoder's."""


class CheckpointError(CL2CMError):
    """A run that is damaged, unfinished or of another tokenizer."""


class ExportError(CheckpointError):
    """An exported model that is damaged, or does not compute what its run computes."""


class OtherSettingsError(CheckpointError):
    """A run that was started with other settings or data than it is to continue with."""


class VectorIndexError(CL2CMError):
    """An index that is damaged or holds another model's vectors."""


class QueryError(CL2CMError):
    """A search request that cannot be answered."""


class NumberError(CL2CMError):
    """A number that is NaN or infinite, or a mean of nothing."""


class ProcessError(CL2CMError):
    """A training across processes, one of which ended or differs from the others."""


class StorageError(CL2CMError):
    """A disk that is full, read-only or without permission."""


class MissingExtraError(CL2CMError):
    """An optional dependency that is not installed.

    Args:
        package: the import that failed.
        extra: the extra of cl2cm that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"package {package}",
            expected="an installed package",
            found="none",
            remedy=f"run: pip install 'cl2cm[{extra}]'",
        )
        self.package = package
        self.extra = extra


_OF_TRAINING = {"torch", "transformers", "safetensors", "onnx", "tensorboard", "huggingface_hub"}


def missing_extra(error: ImportError) -> MissingExtraError | None:
    """Return what to install for training, if that is what an import failed for.

    The extra ``train`` is the only one whose packages are imported at the top of modules.
    """
    package = (error.name or "").partition(".")[0]
    return MissingExtraError(package, "train") if package in _OF_TRAINING else None


def nearest(word: str, known: Iterable[str], *, listed: bool = False) -> str:
    """Return a remedy that names the nearest known word, or all of them.

    Args:
        word: that is not known.
        known: all words that are.
        listed: the error lists them already, so that a list is not repeated.
    """
    names = sorted(known)
    if close := difflib.get_close_matches(word, names, n=1, cutoff=0.5):
        return f"did you mean {close[0]!r}?"
    return "choose one of these" if listed else f"choose one of {', '.join(names)}"


OnSkip = Callable[[str, CL2CMError], None]  # told the name of an item or line left out, and why
