"""The tokenizer of a run for Transformers, with our normalisation of texts inside."""

import json
from pathlib import Path
from typing import Any

from cl2cm.encode.text import TextBackbone
from cl2cm.storage import write_json
from cl2cm.text import NORMAL_FORM


def write_tokenizer(folder: Path, backbone: TextBackbone) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``.

    Raises:
        EncoderError: the tokenizer is written in Python.
    """
    tokenizer = json.loads(backbone.tokenizer_json())
    tokenizer["normalizer"] = {
        "type": "Sequence",
        "normalizers": [*_ours(lower_case=backbone.lower_case), *_theirs(tokenizer)],
    }
    text = json.dumps(tokenizer, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": backbone.max_tokens,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "padding_side": "right",
        "truncation_side": "right",
        **backbone.special_tokens(),
    }
    write_json(folder / "tokenizer_config.json", settings)


def _ours(*, lower_case: bool) -> list[dict[str, Any]]:
    remove = {"type": "Replace", "pattern": {"Regex": NORMAL_FORM["remove"]}, "content": ""}
    return [remove, {"type": NORMAL_FORM["form"]}, *([{"type": "Lowercase"}] if lower_case else [])]


def _theirs(tokenizer: dict[str, Any]) -> list[dict[str, Any]]:
    own = tokenizer.get("normalizer")
    if own is None:
        return []
    return list(own["normalizers"]) if own["type"] == "Sequence" else [own]
