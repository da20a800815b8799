"""Folders of CTranslate2 models: OPUS-MT, M2M-100 and NLLB, with their SentencePiece files.

Which family a model is of is seen in its vocabulary, and with it how a direction is told: NLLB by
a first token ``eng_Latn`` and the target prefix ``zho_Hans``; M2M-100 by ``__en__`` and
``__zh__``; a multilingual OPUS-MT by a first token ``>>cmn_Hans<<``; another OPUS-MT model has one
direction and is told nothing. Convert a model with ``ct2-transformers-converter --copy_files`` and
its ``*.spm`` or ``sentencepiece.bpe.model``.
"""

import importlib
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cl2cm.errors import ConfigError, MissingExtraError, WeightsError
from cl2cm.text import one_line
from cl2cm.translate.languages import (
    check_direction,
    m2m_code,
    nllb_code,
    opus_code,
    stated_direction,
)
from cl2cm.translate.model_files import (
    model_licence,
    model_version,
    no_language,
    read_json,
    read_text,
    say_too_long,
)

BEAMS = 4
LONGEST = 500  # tokens of a text
_NLLB = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
_M2M = re.compile(r"__([a-z]{2,3})__")
_OPUS = re.compile(r">>(\w+)<<")
_TOLD = re.compile(rf"</s>|{_NLLB.pattern}|{_M2M.pattern}|{_OPUS.pattern}")  # no words


class DirectionTokens(NamedTuple):
    """The tokens that tell a model the direction.

    Attributes:
        first: tokens before the text.
        prefix: tokens that the translation begins with; they are not part of it.
    """

    first: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()


class CTranslate2Translator:
    """A model folder, by beam search; it is loaded by the first translation.

    Args:
        folder: with ``model.bin``, its vocabulary and its SentencePiece files.
        source: language to read.
        target: language to write.

    Raises:
        ConfigError: it is not a folder of a model.
        LanguageError: the model does not have the direction.
        MissingExtraError: the extra ``translate`` is not installed.
    """

    batch = 256
    own_threads = True

    def __init__(self, folder: Path, source: str, target: str) -> None:
        self._engine, self._pieces = _import("ctranslate2"), _import("sentencepiece")
        self._folder = folder
        self._spm = _sentencepiece_files(folder)
        self.direction = find_direction(folder, source, target)
        self.name, self.source, self.target = folder.name, source, target
        self.licence = model_licence(folder)
        self.version = f"{model_version(folder)} beam {BEAMS}"
        self._loaded: Any = None
        self._lock = threading.Lock()

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Return one translation of each text, in order; ``""`` of one longer than ``LONGEST``.

        Raises:
            WeightsError: the model is damaged.
        """
        engine, read, write = self._load()
        pieces = read.encode([one_line(text) for text in texts], out_type=str)
        end = [] if _has_own_end(self._folder) else ["</s>"]
        prefix = list(self.direction.prefix)
        fits = [len(text) <= LONGEST for text in pieces]
        say_too_long(f"ct2:{self._folder.name}", LONGEST, texts, fits)
        pieces = [text for text, fit in zip(pieces, fits, strict=True) if fit]
        tokens = [[*self.direction.first, *text, *end] for text in pieces]
        try:
            results = engine.translate_batch(
                tokens,
                target_prefix=[prefix] * len(tokens) if prefix else None,
                beam_size=BEAMS,
                max_batch_size=4096,
                batch_type="tokens",
                max_input_length=0,
                max_decoding_length=min(256, 10 + 3 * max(map(len, tokens), default=0) // 2),
            )
        except (RuntimeError, ValueError) as error:
            raise self._damaged(error) from error
        made = (result.hypotheses[0][len(prefix) :] for result in results)
        written = (
            write.decode([t for t in text if not _TOLD.fullmatch(t)]).strip() for text in made
        )
        return [next(written) if fit else "" for fit in fits]

    def _load(self) -> tuple[Any, Any, Any]:
        with self._lock:
            if self._loaded is None:
                try:
                    read, write = (
                        self._pieces.SentencePieceProcessor(model_file=str(file))
                        for file in self._spm
                    )
                    engine = self._engine.Translator(str(self._folder), device="auto")
                except (RuntimeError, OSError, ValueError) as error:
                    raise self._damaged(error) from error
                self._loaded = engine, read, write
            made: tuple[Any, Any, Any] = self._loaded
            return made

    def _damaged(self, error: Exception) -> WeightsError:
        return WeightsError(
            f"engine ct2:{self._folder}",
            expected="a translation model of CTranslate2",
            found=f"a damaged or unknown one ({(str(error).splitlines() or [''])[0][:120]})",
            remedy="convert it again",
        )


def open_translator(argument: str, source: str, target: str) -> CTranslate2Translator:
    """Return the model in the folder ``argument``, for a direction."""
    folder = Path(argument).expanduser()
    if not argument or not (folder / "model.bin").is_file():
        raise ConfigError(
            f"engine ct2:{argument}",
            expected="ct2:FOLDER with a model.bin of CTranslate2",
            found="no such file",
            remedy="correct the folder, or convert a model: ct2-transformers-converter --help",
        )
    return CTranslate2Translator(folder.resolve(), source, target)


def find_direction(folder: Path, source: str, target: str) -> DirectionTokens:
    """Return the direction tokens for the model in a folder.

    Raises:
        ConfigError: it has no vocabulary.
        LanguageError: it does not have one of the languages.
    """
    words, engine = _vocabulary(folder), f"ct2:{folder.name}"
    nllb = {word for word in words if _NLLB.fullmatch(word)}
    m2m = {match[1]: word for word in words if (match := _M2M.fullmatch(word))}
    opus = {match[1]: word for word in words if (match := _OPUS.fullmatch(word))}
    if len(nllb) > 1:
        names = [_known(engine, code, nllb_code(code, nllb), nllb) for code in (source, target)]
        return DirectionTokens((names[0],), (names[1],))
    if len(m2m) > 1:
        names = [_known(engine, code, m2m_code(code, m2m), m2m) for code in (source, target)]
        return DirectionTokens((m2m[names[0]],), (m2m[names[1]],))
    if opus:
        name = _known(engine, target, opus_code(target, opus), opus)
        return DirectionTokens((opus[name],))
    stated = stated_direction(folder.name)  # nothing in it says its direction, but its usual name
    if stated is not None:
        check_direction(f"ct2:{folder.name}", stated, source, target)
    return DirectionTokens()


def _known(engine: str, code: str, name: str | None, known: Any) -> str:  # noqa: ANN401
    if name is None:
        raise no_language(engine, code, known)
    return name


def _vocabulary(folder: Path) -> set[str]:
    for name in ("shared_vocabulary", "source_vocabulary"):
        listed, lines = folder / f"{name}.json", folder / f"{name}.txt"
        if listed.exists():
            return {word for word in read_json(listed, list) if isinstance(word, str)}
        if lines.exists():
            return set(read_text(lines).split("\n"))
    raise _lacks(folder, "shared_vocabulary.json or source_vocabulary.json")


def _sentencepiece_files(folder: Path) -> tuple[Path, Path]:
    """Return the SentencePiece files of the source and of the target language."""
    for names in (("source.spm", "target.spm"), ("sentencepiece.bpe.model",) * 2):
        files = folder / names[0], folder / names[1]
        if all(file.is_file() for file in files):
            return files
    raise _lacks(folder, "source.spm and target.spm, or sentencepiece.bpe.model")


def _lacks(folder: Path, file: str) -> ConfigError:
    return ConfigError(
        f"engine ct2:{folder}",
        expected=f"a model folder with {file}",
        found="none",
        remedy="convert it with ct2-transformers-converter and --copy_files",
    )


def _has_own_end(folder: Path) -> bool:
    """Return whether CTranslate2 adds the end of a source text by itself."""
    config = folder / "config.json"
    return config.exists() and bool(read_json(config, dict).get("add_source_eos"))


def _import(name: str) -> Any:  # noqa: ANN401 - a module without types
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(name, "translate") from error
