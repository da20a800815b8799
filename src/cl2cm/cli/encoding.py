"""What ``cl2cm encode`` does, for programs that want the same."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cl2cm.cli.sources import left_out_json, read_source, with_names
from cl2cm.data.manifest import Skipped
from cl2cm.data.queries import every_text
from cl2cm.encode.encoding import encode_pictures, encode_texts
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.vision import load_vision
from cl2cm.errors import ConfigError, ManifestError
from cl2cm.types import Example


def encode_store(
    source: Path,
    out: Path,
    encoder: str,
    *,
    side: str,
    skip_bad: bool = False,
    exclude: Sequence[str] = (),
) -> dict[str, Any]:
    """Make a feature store of pictures or captions.

    Args:
        source: folder or manifest.
        out: the store.
        encoder: ``onnx:NAME``, ``hf:NAME``, or ``features:PATH``, whose features are copied.
        side: ``vision`` or ``text``.
        skip_bad: leave broken items out.
        exclude: patterns of files and folders to leave out of a folder.
    """
    if side not in ("vision", "text"):
        raise ConfigError(
            "--side", expected="'vision' or 'text'", found=repr(side), remedy="choose one"
        )
    skipped = Skipped()
    bad = skipped if skip_bad else None
    found = read_source(source, skipped=bad, exclude=exclude)
    examples = with_names(found.examples, bad)
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
        **left_out_json(skipped, found.left_out),
        "rate": len(store) / max(time.monotonic() - begin, 1e-9),
    }


def all_texts(examples: Sequence[Example]) -> list[str]:
    """Every distinct caption and translation, in order of appearance."""
    texts = every_text(examples)
    if not texts:
        raise ManifestError(
            "captions", expected="at least one text", found="none", remedy="check the manifest"
        )
    return texts
