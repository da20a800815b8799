"""What ``cl2cm encode`` does, for programs that want the same."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cl2cm.cli.sources import read_source
from cl2cm.data.manifest import Skipped
from cl2cm.data.scan import check_name
from cl2cm.encode.encoding import encode_pictures, encode_texts
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.vision import load_vision
from cl2cm.errors import ConfigError, ManifestError, MediaError
from cl2cm.types import Example


def encode_store(
    source: Path, out: Path, encoder: str, *, side: str, skip_bad: bool = False
) -> dict[str, Any]:
    """Make a feature store of pictures or captions.

    Args:
        source: folder or manifest.
        out: the store.
        encoder: ``onnx:NAME``, ``hf:NAME``, or ``features:PATH``, whose features are copied.
        side: ``vision`` or ``text``.
        skip_bad: leave broken items out.
    """
    if side not in ("vision", "text"):
        raise ConfigError(
            "--side", expected="'vision' or 'text'", found=repr(side), remedy="choose one"
        )
    skipped = Skipped()
    bad = skipped if skip_bad else None
    examples = _named(read_source(source, skipped=bad), bad)
    begin = time.monotonic()
    if side == "vision":
        store = encode_pictures(
            examples, load_vision(encoder), out, skip_bad=skip_bad, on_skip=skipped.item
        )
    else:
        store = encode_texts(all_texts(examples), TextBackbone.load(encoder), out)
    return {
        "store": str(out),
        "encoder": encoder,
        "items": sum(store.has(name) for name in store.ids),
        "width": store.width,
        "skipped": skipped.names,
        "rate": len(store) / max(time.monotonic() - begin, 1e-9),
    }


def _named(examples: list[Example], skipped: Skipped | None) -> list[Example]:
    """Examples whose names are texts; the others are told to ``skipped``, or an error."""
    named = []
    for example in examples:
        try:
            check_name(example)
        except MediaError as error:
            if skipped is None:
                raise
            skipped.item(example.id, error)
        else:
            named.append(example)
    return named


def all_texts(examples: Sequence[Example]) -> list[str]:
    """Every distinct caption and translation, in order of appearance."""
    texts: dict[str, None] = {}
    for example in examples:
        for captions in example.captions.values():
            texts |= dict.fromkeys(captions)
        for engines in example.translations.values():
            for column in engines.values():
                texts |= dict.fromkeys(text for text in column if text)
    if not texts:
        raise ManifestError(
            "captions", expected="at least one text", found="none", remedy="check the manifest"
        )
    return list(texts)
