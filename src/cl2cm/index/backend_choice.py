"""Which backend an index gets: what the user asks for, what the index has, and the defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from cl2cm.errors import ConfigError, VectorIndexError
from cl2cm.index.address import Server
from cl2cm.index.allowed import Allowed
from cl2cm.index.backends.location import Location, remote_name
from cl2cm.index.backends.quantization import DType
from cl2cm.index.backends.registry import BACKENDS, backend_names, load_backend
from cl2cm.index.metadata import is_ours

SMALL = 2**24  # values, 64 MiB in float32: too few for rounding to save anything


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """What an index is searched with; kept in its metadata.

    Attributes:
        name: of the backend.
        dtype: how vectors are stored.
        url: of a server, with its password, which is not kept.
        cleartext: whether credentials may go to a server on another machine without TLS.
    """

    name: str = "exact"
    dtype: DType = "float16"
    url: str = ""
    cleartext: bool = False

    def __post_init__(self) -> None:
        backend = load_backend(self.name)
        if self.dtype not in backend.dtypes:
            raise _bad(f"dtype of {self.name}", " or ".join(backend.dtypes), self.dtype)
        if self.url and backend.server == "none":
            raise _bad("--url", f"none for {self.name}", "an address")
        if not self.url and backend.server == "required":
            raise _bad("--url", backend.address, "none")

    @property
    def public(self) -> str:
        """The address without its password."""
        return load_backend(self.name).public_url(self.url) if self.url else ""

    @property
    def server(self) -> Server:
        """The server, which the user named."""
        return Server(self.url, self.cleartext)


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What the user asks for; None keeps what the index has, or takes the default."""

    backend: str | None = None
    dtype: str | None = None
    url: str | None = None
    cleartext: bool = False

    def resolve(self, metadata: Mapping[str, Any], values: int = 0) -> BackendConfig:
        """Return the configuration of the backend.

        Args:
            metadata: of the index that is there, or empty.
            values: N times D; few are stored as they are, in float32, many in float16.

        Raises:
            ConfigError: options that cannot be.
            VectorIndexError: a server, or a backend of another package, that only the index names.
        """
        allowed = Allowed.of(cleartext=bool(self.cleartext))
        name = self.backend
        if name is None:
            name = trusted_name(metadata, allowed) if metadata else "exact"
        before = metadata if name == metadata.get("backend") else {}
        dtype = self.dtype or before.get("dtype") or _default_dtype(name, values)
        server = self._server(name, before, allowed)
        return BackendConfig(name, cast("DType", dtype), *server)  # it checks them

    def _server(self, name: str, before: Mapping[str, Any], allowed: Allowed) -> Server:
        url = before.get("url", "") if self.url is None else self.url
        if not url or self.url is not None:
            return Server(url, allowed.cleartext)
        kept = before.get("cleartext", False)
        location = Location(name, url, remote_name("0"), "", kept, is_ours(before))
        return location.server(allowed, load_backend(name).public_url)


def trusted_name(metadata: Mapping[str, Any], allowed: Allowed) -> str:
    """Return the name of the backend that an index names, if its word is enough.

    A backend of another package runs code that the user installed for something else, perhaps. So
    it is imported only for an index that this user made, or if the user names the backend.

    Raises:
        VectorIndexError: a backend of another package that only the index names.
    """
    name = str(metadata["backend"])
    known = name in BACKENDS or is_ours(metadata) or name in allowed.backends
    if not known and name in backend_names():
        raise VectorIndexError(
            f"backend {name!r}",
            expected="a backend of cl2cm, or one that you allow",
            found="one of another package, named by an index that you did not make",
            remedy=f"if you trust it, pass --backend {name} or list it in CL2CM_BACKENDS",
        )
    return name


def _default_dtype(name: str, values: int) -> str:
    default = "float32" if values <= SMALL else "float16"
    dtypes = load_backend(name).dtypes
    return default if default in dtypes else dtypes[0]


def _bad(subject: str, expected: str, found: str) -> ConfigError:
    return ConfigError(subject, expected=expected, found=found, remedy="choose another")
