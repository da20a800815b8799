"""Where vectors are kept that are not in the folder: a server's address, and a name there.

The file ``place-TOKEN.json`` is written before anything is made on the server, so that what a
killed run left there can be found and dropped. No password is ever written: PostgreSQL takes it
from ``PGPASSWORD`` or ``~/.pgpass``, Qdrant its key from ``QDRANT_API_KEY``.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from cl2cm.errors import ConfigError, VectorIndexError
from cl2cm.storage import write_json


@dataclass(frozen=True, slots=True)
class Place:
    """A collection or a table on a server.

    Attributes:
        backend: ``qdrant`` or ``pgvector``.
        url: without a password; empty for Qdrant within this process.
        name: of the collection or table.
    """

    backend: str
    url: str
    name: str

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Place":
        """Read what `write` wrote.

        Raises:
            VectorIndexError: the file is absent or damaged.
        """
        try:
            place = cls(**json.loads(path.read_bytes()))
            if all(isinstance(value, str) for value in asdict(place).values()) and _plain(place):
                return place
        except (OSError, ValueError, TypeError, RecursionError):
            pass
        raise VectorIndexError(
            str(path),
            expected="the place of an index on a server",
            found="a damaged file",
            remedy="build the index again",
        )


def place_name(token: str) -> str:
    """Name on a server of the generation that a token names."""
    return f"cl2cm_{token}"


def without_password(url: str) -> str:
    """Give an address as it may be stored and shown.

    Raises:
        ConfigError: it is no address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigError(
            "--url", expected="http://HOST:PORT", found=repr(host or url), remedy="correct it"
        )
    host = f"[{host}]" if ":" in host else host
    netloc = host if port is None else f"{host}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))


def _plain(place: Place) -> bool:
    """Whether a name can stand in a statement as it is."""
    token = place.name.removeprefix("cl2cm_")
    return place.name != token and token.isalnum() and token.isascii()
