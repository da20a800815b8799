"""Sequence-to-sequence models of Transformers, from a folder or from the hub, by beam search.

Loaded from safetensors alone, and no model's own code is run. NLLB and M2M-100 are told the target
by their first token, a multilingual OPUS-MT model by ``>>code<<`` before the text, and one whose
tokenizer has no codes has one direction.
"""

import math
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cl2cm.encode.pretrained import (
    LOADING,
    check_folder,
    check_weights,
    first_line,
    from_hub,
    no_progress_bars,
    offline,
)
from cl2cm.encode.trust import is_hub_id
from cl2cm.errors import ConfigError, WeightsError
from cl2cm.progress import say
from cl2cm.text import one_line
from cl2cm.translate.languages import (
    check_direction,
    m2m_code,
    nllb_code,
    opus_code,
    stated_direction,
)
from cl2cm.translate.model_files import model_licence, model_version, no_language, say_too_long

BEAMS = 4
_FILES = ("*.json", "*.safetensors", "*.spm", "*.model", "*.txt", "README.md")
_NLLB = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
_OPUS = re.compile(r">>(\w+)<<")


class HuggingFaceTranslator:
    """A model; it is loaded by the first translation.

    Args:
        folder: of the model.
        name: of its columns in a manifest.
        source: language to read.
        target: language to write.

    Raises:
        LanguageError: the model does not have one of the languages.
        WeightsError: its tokenizer is damaged or absent.
    """

    batch = 64
    own_threads = True

    def __init__(self, folder: Path, name: str, source: str, target: str) -> None:
        self.name, self.source, self.target = name, source, target
        self._folder = folder
        self._model: Any = None
        self._lock = threading.Lock()
        self._tokenizer = self._load("AutoTokenizer")
        self._before, self._first = self._direction()
        self.licence = model_licence(folder)
        self.version = f"{model_version(folder)} beam {BEAMS}"

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Return one translation of each text, in order; ``""`` of one longer than the model reads.

        Raises:
            WeightsError: the model is damaged or absent.
        """
        import torch  # noqa: PLC0415 - heavy

        with self._lock:  # a tokenizer keeps its source language, so it is one call at a time
            if self._model is None:
                self._model = self._load("AutoModelForSeq2SeqLM").eval()
            whole = [self._before + one_line(text) for text in texts]
            lengths = [len(ids) for ids in self._tokenizer(whole, truncation=False)["input_ids"]]
            limit = self._longest()
            fits = [length <= limit for length in lengths]
            say_too_long(f"hf:{self.name}", limit, texts, fits)
            whole = [text for text, fit in zip(whole, fits, strict=True) if fit]
            if not whole:
                return [""] * len(fits)
            batch = self._tokenizer(whole, return_tensors="pt", padding=True, truncation=False)
            longest = min(limit - 1, math.ceil(1.5 * batch["input_ids"].shape[1]) + 10)
            try:
                with torch.inference_mode():
                    made = self._model.generate(
                        input_ids=batch["input_ids"],
                        attention_mask=batch["attention_mask"],
                        forced_bos_token_id=self._first,
                        num_beams=BEAMS,
                        max_new_tokens=longest,
                    ).tolist()
            except (RuntimeError, IndexError, ValueError) as error:
                raise self._damaged(error) from error
            words = [[token for token in ids if token not in self._codes] for ids in made]
            made = iter(self._tokenizer.batch_decode(words, skip_special_tokens=True))
            return [next(made).strip() if fit else "" for fit in fits]

    def _longest(self) -> int:
        """Return the most tokens that the model reads or writes."""
        positions = getattr(self._model.config, "max_position_embeddings", None)
        return int(min(self._tokenizer.model_max_length, positions or 2**31))

    def _direction(self) -> tuple[str, int | None]:
        """Return what is before each text, and the id that each translation begins with."""
        tokenizer, engine = self._tokenizer, f"hf:{self.name}"
        codes = _language_tokens(tokenizer)
        self._codes = frozenset(codes.values())
        if codes:
            nllb = any("_" in code for code in codes)
            names = []
            for code in (self.source, self.target):
                name = nllb_code(code, codes) if nllb else m2m_code(code, codes)
                if name is None:
                    raise no_language(engine, code, codes)
                names.append(name)
            tokenizer.src_lang = names[0]
            return "", codes[names[1]]
        opus = {match[1] for word in tokenizer.get_vocab() if (match := _OPUS.fullmatch(word))}
        self._check_direction(to_several=bool(opus))
        if not opus:
            return "", None
        name = opus_code(self.target, opus)
        if name is None:
            raise no_language(engine, self.target, opus)
        return f">>{name}<< ", None

    def _check_direction(self, *, to_several: bool) -> None:
        """Refuse a model that states another direction, in its tokenizer or by its usual name."""
        codes = [getattr(self._tokenizer, f"{side}_lang", None) for side in ("source", "target")]
        told = (codes[0], codes[1]) if all(codes) else stated_direction(self.name)
        if told is not None:
            stated = str(told[0]), self.target if to_several else str(told[1])
            check_direction(f"hf:{self.name}", stated, self.source, self.target)
        elif not to_several:
            say(
                f"warning: hf:{self.name} does not say which languages it reads and writes; "
                f"it is taken for {self.source} to {self.target}"
            )

    def _load(self, kind: str) -> Any:  # noqa: ANN401 - Transformers has no types
        import transformers  # noqa: PLC0415 - heavy

        try:
            check_folder(self._folder)
            loader, where = getattr(transformers, kind), str(self._folder)
            with offline(), no_progress_bars():
                if not kind.startswith("AutoModel"):
                    return loader.from_pretrained(where, **LOADING)
                model, info = loader.from_pretrained(
                    where, **LOADING, use_safetensors=True, output_loading_info=True
                )
            check_weights(info)
            return model
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # its readers raise whatever they raise, Rust's panics too
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> WeightsError:
        return WeightsError(
            f"engine hf:{self.name}",
            expected=f"a translation model in {self._folder}",
            found=f"a damaged or unknown one ({first_line(error)})",
            remedy="restore the folder, or name another model",
        )


def open_translator(argument: str, source: str, target: str) -> HuggingFaceTranslator:
    """Return the model in the folder ``argument``, or of that name on the hub, for a direction."""
    folder = Path(argument).expanduser()
    if argument and folder.is_dir():
        return HuggingFaceTranslator(folder, folder.resolve().name, source, target)
    if is_hub_id(argument):
        name = argument.partition("/")[2]
        return HuggingFaceTranslator(_hub_folder(argument), name, source, target)
    raise ConfigError(
        f"engine hf:{argument}",
        expected="hf:FOLDER, or hf:OWNER/NAME on the hub",
        found="no such folder",
        remedy="name a model such as hf:Helsinki-NLP/opus-mt-en-de",
    )


def _hub_folder(name: str) -> Path:
    def failed(found: str, remedy: str) -> ConfigError:
        return ConfigError(
            f"engine hf:{name}",
            expected="a model on the hub",
            found=found,
            remedy=f"{remedy}, or name a folder",
        )

    return from_hub(name, _FILES, failed)


def _language_tokens(tokenizer: Any) -> dict[str, int]:  # noqa: ANN401
    """Return the language → id of its token, for the families that begin a translation with one."""
    m2m: dict[str, int] = getattr(tokenizer, "lang_code_to_id", {})
    if m2m:
        return m2m
    vocabulary = tokenizer.get_vocab() | {
        token.content: number for number, token in tokenizer.added_tokens_decoder.items()
    }
    nllb = {word: i for word, i in vocabulary.items() if _NLLB.fullmatch(word)}
    return nllb if len(nllb) > 1 else {}
