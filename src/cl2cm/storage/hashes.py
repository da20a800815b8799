"""SHA-256 of files, bytes and texts."""

import hashlib
import zlib
from pathlib import Path

from cl2cm.storage.confined import open_regular


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes, read in pieces.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(data: bytes | memoryview) -> str:
    """Return hexadecimal SHA-256 of bytes, or of what lies in an array's memory."""
    return hashlib.sha256(data).hexdigest()


def sha256_text(text: str) -> str:
    """Return the hexadecimal SHA-256 of a text's UTF-8 bytes, or of any file name's."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def row_sum(*values: object) -> int:
    """Return the checksum of a row of SQLite, a CRC-32 of its values: texts, numbers and bytes."""
    total = 0
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode(errors="surrogatepass")
        total = zlib.crc32(data, zlib.crc32(b"%d " % len(data), total))
    return total
