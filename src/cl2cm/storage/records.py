"""JSON objects that carry a checksum of themselves, so that a changed byte is noticed.

Metadata files such as ``store.json`` name other files with their hashes. Who checks the hashes has
to know that the metadata are as written, too: ``checksum`` is the SHA-256 of the other keys. A file
without it was written by an earlier version and is taken as it is.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl2cm.storage.atomic import write_json
from cl2cm.storage.confined import read_regular
from cl2cm.storage.hashes import sha256_text

CHECKSUM = "checksum"


class ChangedError(ValueError):
    """A record whose content is not what its checksum says."""


def checksummed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with its checksum, as it has to be written."""
    plain = {name: field for name, field in value.items() if name != CHECKSUM}
    return {**plain, CHECKSUM: _sum_of(plain)}


def is_unchanged(value: Mapping[str, Any]) -> bool:
    """Return whether an object is as it was written; True for one without a checksum."""
    return CHECKSUM not in value or value[CHECKSUM] == _sum_of(value)


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object with its checksum, whole or not at all.

    Raises:
        StorageError: the disk is full, read-only or closed to us.
    """
    write_json(path, checksummed(value))


def read_record(path: Path) -> dict[str, Any]:
    """Read what `write_record` wrote, without the checksum.

    Raises:
        OSError: the file is absent or cannot be read.
        ValueError: it is not JSON object, or was changed.
    """
    return parse_record(read_regular(path))


def parse_record(text: str | bytes) -> dict[str, Any]:
    """Return the object of a record's text, without the checksum.

    Raises:
        ValueError: it is not JSON object, or was changed.
    """
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    if not is_unchanged(value):
        raise ChangedError("a content that does not match its checksum")
    return {name: field for name, field in value.items() if name != CHECKSUM}


def _sum_of(value: Mapping[str, Any]) -> str:
    plain = {name: field for name, field in value.items() if name != CHECKSUM}
    # as it is after reading: keys are texts, tuples are lists
    return sha256_text(json.dumps(json.loads(json.dumps(plain)), sort_keys=True))
