"""A decoded E5S1 file as the folder of an ordinary Transformers ``BertModel`` without a pooler."""

import errno
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl2cm.encode.e5s1 import FETCH_AGAIN, E5Model
from cl2cm.errors import WeightsError
from cl2cm.types import Floats


def write_bert_folder(folder: Path, model: E5Model, tokenizer: bytes, name: str) -> None:
    """Write a folder that Transformers loads as a ``BertModel`` without a pooler.

    Args:
        folder: an empty folder.
        model: the weights.
        tokenizer: its ``tokenizer.json``.
        name: what the tokenizer is called in messages.

    Raises:
        WeightsError: the tokenizer is damaged, or another model's.
    """
    _check_tokenizer(tokenizer, model, name)
    _write_json(folder / "config.json", _bert_config(model))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(model))
    (folder / "tokenizer.json").write_bytes(tokenizer)
    _write_tensors(folder / "model.safetensors", model.tensors)


def _check_tokenizer(tokenizer: bytes, model: E5Model, name: str) -> None:
    """A tokenizer of other pieces would give every word another word's vector."""
    try:
        pieces = [piece for piece, _ in json.loads(tokenizer)["model"]["vocab"]]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            name, expected="a unigram tokenizer.json", found="a damaged one", remedy=FETCH_AGAIN
        ) from error
    if pieces != model.pieces:
        raise WeightsError(
            name,
            expected=f"the {len(model.pieces)} pieces of the weights",
            found=f"{len(pieces)} others",
            remedy=FETCH_AGAIN,
        )


def _bert_config(model: E5Model) -> dict[str, Any]:
    sizes = model.sizes
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.ffn,
        "layer_norm_eps": model.eps,
        "max_position_embeddings": sizes.positions,
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "pad_token_id": model.special.pad,
        "type_vocab_size": sizes.types,
        "vocab_size": sizes.vocab,
    }


def _tokenizer_config(model: E5Model) -> dict[str, Any]:
    bos, eos, pad, unk = (model.pieces[i] for i in model.special)
    # The class that takes tokenizer.json as it is; others would build their own.
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "cls_token": bos,
        "eos_token": eos,
        "sep_token": eos,
        "pad_token": pad,
        "unk_token": unk,
        "model_max_length": model.sizes.positions,
    }


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_tensors(path: Path, tensors: Mapping[str, Floats]) -> None:
    from safetensors import SafetensorError  # noqa: PLC0415 — only to convert
    from safetensors.numpy import save_file  # noqa: PLC0415

    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:  # it has the system's number of the error in its text only
        code = re.search(r"os error (\d+)", str(error))
        raise OSError(int(code[1]) if code else errno.EIO, str(error)) from error
