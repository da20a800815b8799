"""The fingerprint of an off-the-shelf model, from the hashes of its files."""

from functools import lru_cache
from pathlib import Path

from cl2cm.encode.clip.layout import Layout
from cl2cm.encode.text_loading import TOKENIZER_FILES
from cl2cm.storage import sha256_file, sha256_text

CONTRACT = "1"  # of the table in text.py; another one is another space of vectors
_SETTINGS = {
    *("config.json", "modules.json", "sentence_bert_config.json"),
    *("config_sentence_transformers.json", "open_clip_config.json"),
    *("preprocessor_config.json", "processor_config.json", "model.safetensors.index.json"),
}


def hash_layout(layout: Layout) -> tuple[str, str]:
    """Return the hash of the tokenizer's files, and the fingerprint of all files of a model.

    Nothing is loaded, so that an index is made without the text side.
    """
    lines: list[str] = []
    tokenizer: list[str] = []
    for folder in layout.folders:
        for path in sorted(folder.iterdir()):
            weights = path.suffix == ".safetensors" and _is_of(layout, path.name)
            if path.is_file() and (weights or path.name in _SETTINGS | TOKENIZER_FILES):
                line = f"{folder.name if folder != layout.folder else ''} {path.name} "
                line += _hash_file(path)
                (tokenizer if path.name in TOKENIZER_FILES else lines).append(line)
    tokens = sha256_text("\n".join(tokenizer))
    return tokens, sha256_text("\n".join([*lines, tokens, f"contract {CONTRACT}"]))


def _hash_file(path: Path) -> str:
    """Return the hash of a file, which is read again once its size or time has changed."""
    status = path.stat()
    return _hash_unchanged(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash_unchanged(path: Path, size: int, modified: int) -> str:  # noqa: ARG001
    return sha256_file(path)


def _is_of(layout: Layout, name: str) -> bool:
    return name.startswith("open_clip" if layout.kind == "open_clip" else "model")
