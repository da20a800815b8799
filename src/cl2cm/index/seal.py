"""Seals: whether a stored file was written by this user.

An index folder may be downloaded from anyone, and a file in it can claim anything. So what the user
said on the command line (folders of media, a server) is stored together with a seal: an HMAC-SHA256
with a key that stays in the user's configuration folder. What has no valid seal is data, never a
wish of the user.
"""

import functools
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl2cm.errors import CL2CMError
from cl2cm.progress import say
from cl2cm.storage import config_folder, locked

SEAL = "seal"
_BYTES = 32


def sealed(kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value with its seal; without one if no key can be stored (warns once).

    Args:
        kind: what the value is, so that no seal serves for another kind.
        value: what JSON can hold.
    """
    plain = {name: field for name, field in value.items() if name != SEAL}
    try:
        key = _key() or _new_key()
    except (CL2CMError, OSError, RuntimeError) as error:  # RuntimeError: no home folder
        _warn(str(error))
        return plain
    return {**plain, SEAL: _code(key, kind, plain)}


def is_sealed(kind: str, value: Mapping[str, Any]) -> bool:
    """Return whether a value carries the seal of this user."""
    found = value.get(SEAL)
    try:
        key = _key()
    except (OSError, RuntimeError):
        return False
    if key is None or not isinstance(found, str) or not found.isascii():
        return False
    plain = {name: field for name, field in value.items() if name != SEAL}
    return hmac.compare_digest(found, _code(key, kind, plain))


@functools.cache
def _warn(error: str) -> None:
    say(
        f"no key can be kept in the configuration folder ({error}), so the index will not be "
        "recognised as yours; set CL2CM_CONFIG to a folder that can be written"
    )


def _code(key: bytes, kind: str, value: Mapping[str, Any]) -> str:
    text = json.dumps([kind, value], sort_keys=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _path() -> Path:
    return config_folder() / "key"


def _key() -> bytes | None:
    """Return the user's key; None where there is none yet."""
    try:
        key = bytes.fromhex(_path().read_text("ascii").strip())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return key if len(key) == _BYTES else None


def _new_key() -> bytes:
    path = _path()
    with locked(path.with_name("key.lock")):
        if (there := _key()) is not None:  # another process made it meanwhile
            return there
        key = secrets.token_bytes(_BYTES)
        descriptor, name = tempfile.mkstemp(prefix=".key.partial-", dir=path.parent)  # mode 0600
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.hex() + "\n")
        Path(name).replace(path)
        return key
