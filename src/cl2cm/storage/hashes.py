"""SHA-256 of files and texts."""

import hashlib
from pathlib import Path

from cl2cm.storage.confined import open_regular


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes, read in pieces.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Hexadecimal SHA-256 of a text's UTF-8 bytes; a file name that is no text has some too."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
