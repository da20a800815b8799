"""Examples from a folder, a manifest, or a list that a program passes."""

import os
from collections.abc import Iterable
from pathlib import Path

from cl2cm.data.manifest import read_manifest
from cl2cm.data.scan import scan_folder
from cl2cm.errors import ManifestError
from cl2cm.types import Example, StrPath


def examples_of(source: Iterable[Example] | StrPath, *, split: str | None = None) -> list[Example]:
    """Return the examples of a source.

    Args:
        source: a folder of images and videos, a manifest, or examples.
        split: only examples of this split; None: all.

    Raises:
        MediaError: a folder without images and videos.
        ManifestError: a manifest that does not fit the format, or nothing of the split.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        everything = scan_folder(path) if path.is_dir() else list(read_manifest(path))
        name = str(path)
    else:
        everything, name = list(source), "examples"
    if split is None:
        return everything
    chosen = [example for example in everything if example.split == split]
    if not chosen:
        there = sorted({example.split for example in everything})
        raise ManifestError(
            name,
            expected=f"items of the split {split!r}",
            found=f"splits {', '.join(there) or 'none'}",
            remedy="choose another split",
        )
    return chosen
