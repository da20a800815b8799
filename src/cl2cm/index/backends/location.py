"""The location of vectors outside the folder: a server's address and a name on it.

The file ``place-TOKEN.json`` is written before anything is made on the server, so that what a
killed run left there can be found and dropped. No password is ever written: PostgreSQL takes it
from ``PGPASSWORD`` or ``~/.pgpass``, Qdrant its key from ``QDRANT_API_KEY``.

An untrusted file may name any server and any table. So a location is *ours* only with the user's
seal (seal.py); no server is asked, and no credential sent, for another unless the user named the
server on this command or in ``CL2CM_SERVERS``; and only a location that was made for the same
folder is ever dropped.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cl2cm.errors import ConfigError, VectorIndexError
from cl2cm.index.address import Server
from cl2cm.index.allowed import Allowed
from cl2cm.index.backends.registry import has_server
from cl2cm.index.seal import SEAL, is_sealed, sealed
from cl2cm.storage import open_confined, write_json

_KIND = "place"
_NAME = re.compile(r"cl2cm_[0-9A-Za-z]{1,40}")  # it is in statements as it is
_LIMIT = 2**16  # bytes of a file
_TEXTS = ("backend", "url", "name", "folder")


@dataclass(frozen=True, slots=True)
class Location:
    """A collection or a table on a server.

    Attributes:
        backend: name of the backend.
        url: without a password; empty for Qdrant within this process.
        name: of the collection or table.
        folder: of the index that it was made for.
        cleartext: whether credentials may go there without TLS.
        ours: whether this user wrote it; not stored.
    """

    backend: str
    url: str
    name: str
    folder: str = ""
    cleartext: bool = False
    ours: bool = False

    def write(self, path: Path) -> None:
        """Write the location as JSON with a seal, atomically."""
        value = asdict(self)
        del value["ours"]
        value["folder"] = self.folder or str(path.parent.resolve())
        write_json(path, sealed(_KIND, value))

    @classmethod
    def read(cls, path: Path, backend: str | None = None) -> "Location":
        """Read what `write` wrote.

        Args:
            path: the file.
            backend: of the index that the file belongs to; None: any.

        Raises:
            VectorIndexError: the file is absent or damaged.
        """
        try:
            with open_confined(path, [path.parent]) as file:
                value = json.loads(file.read(_LIMIT))
            ours = is_sealed(_KIND, value)
            value.pop(SEAL, None)
            location = cls(**value)
            if _is_sound(value, location) and backend in (None, location.backend):
                return cls(**value, ours=ours)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            pass
        raise VectorIndexError(
            str(path),
            expected="the location of an index on a server",
            found="a damaged file",
            remedy="build the index again",
        )

    def server(self, allowed: Allowed, public_url: Callable[[str], str]) -> Server:
        """Return the server to connect to.

        Args:
            allowed: what the user allows.
            public_url: of the backend; see `Backend.public_url`.

        Raises:
            VectorIndexError: the user allowed no such server.
            ConfigError: an address of the user that is none.
        """
        if allowed.url is not None:
            return Server(allowed.url, allowed.cleartext)
        if self.ours or not self.url:
            return Server(self.url, self.cleartext or allowed.cleartext)
        for server in allowed.servers:
            try:
                same = public_url(server) == public_url(self.url)
            except ConfigError:  # of the other kind, or the folder's is not an address
                continue
            if same:
                return Server(server, allowed.cleartext)
        raise server_not_allowed(self.url)


def server_not_allowed(url: str) -> VectorIndexError:
    """Return the error for a server that only the index names."""
    return VectorIndexError(
        f"server {url}",
        expected="a server that you allow",
        found="one that only the index names, and you did not make the index",
        remedy="if you trust it, pass it with --url or list it in CL2CM_SERVERS",
    )


def remote_name(token: str) -> str:
    """Return the name on a server of the generation that a token names."""
    return f"cl2cm_{token}"


def _is_sound(value: dict[str, Any], location: Location) -> bool:
    """Return whether the fields are of their types, and the name can be in a statement as it is."""
    return (
        "ours" not in value
        and all(isinstance(getattr(location, key), str) for key in _TEXTS)
        and has_server(location.backend)
        and isinstance(location.cleartext, bool)
        and _NAME.fullmatch(location.name) is not None
    )
