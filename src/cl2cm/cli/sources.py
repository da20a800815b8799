"""What a command reads: a folder of images and videos, or a manifest."""

from pathlib import Path

from cl2cm.data.manifest import Skipped, read_manifest
from cl2cm.data.scan import scan_folder
from cl2cm.errors import ManifestError
from cl2cm.types import Example


def read_source(source: Path, *, skipped: Skipped | None = None) -> list[Example]:
    """Examples of a folder of pictures, or of a manifest.

    Args:
        source: folder or manifest.
        skipped: gets the places of lines that do not fit; None: such a line is an error.

    Raises:
        MediaError: a folder without pictures, or with a folder in it that cannot be read.
        ManifestError: a manifest that does not fit the format, or is empty.
    """
    if source.is_dir():
        return scan_folder(source)
    examples = read_lines(source, skipped)
    if not examples:
        raise ManifestError(
            str(source), expected="at least one item", found="none", remedy="check the file"
        )
    return examples


def read_lines(manifest: Path, skipped: Skipped | None) -> list[Example]:
    """Examples of a manifest, whatever its source language; see `read_source`."""
    return list(
        read_manifest(
            manifest,
            source=None,
            skip_bad=skipped is not None,
            on_skip=skipped.line if skipped is not None else None,
        )
    )
