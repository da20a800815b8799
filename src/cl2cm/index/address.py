"""Server addresses: allowed parts, and when credentials may be sent without TLS.

An address is taken apart and put together again from the parts that are known, so that two parsers
never see two servers in it, and nothing in it points to a further file or service.
"""

import ipaddress
import os
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from cl2cm.errors import ConfigError, MissingExtraError

_KEYS = frozenset(  # of libpq; others point to files, to services or to further servers
    {"host", "port", "dbname", "user", "password", "sslmode", "connect_timeout"}
    | {"application_name", "channel_binding"}
)
_ENCRYPTED = ("require", "verify-ca", "verify-full")
_ELSEWHERE = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE")  # where no host is named


class Server(NamedTuple):
    """A server that the user allowed; no other address is contacted.

    url: with its password, if the user gave one; empty for Qdrant within this process.
    cleartext: whether credentials may go to another machine without TLS.
    """

    url: str
    cleartext: bool = False


def public_http(url: str) -> str:
    """Return an address of HTTP without user, password and query.

    Raises:
        ConfigError: it is not an address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    plain = all(letter.isalnum() or letter in ".-_:%" for letter in host)
    if not host or not plain or parts.scheme not in ("http", "https"):
        raise ConfigError(
            "--url", expected="http://HOST:PORT", found=repr(host or url), remedy="correct it"
        )
    host = f"[{host}]" if ":" in host else host
    netloc = host if port is None else f"{host}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))


def public_postgres(url: str) -> str:
    """Return an address of PostgreSQL without its password.

    Raises:
        ConfigError: it is not an address, or says more than where a server is.
        MissingExtraError: the driver is not installed.
    """
    parts = postgres_parts(url)
    parts.pop("password", None)
    return _joined(parts)


def postgres_parts(url: str) -> dict[str, Any]:
    """Return the parts of an address of PostgreSQL, by libpq's keywords.

    Raises:
        ConfigError: it is not an address, names several servers, or sets what is not known here.
        MissingExtraError: the driver is not installed.
    """
    psycopg = _psycopg()
    try:
        parts: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:  # its text may hold the password
        raise _bad("postgresql://USER@HOST/DATABASE", "no such address", "correct it") from None
    for key in sorted(parts.keys() - _KEYS):
        expected = f"no more than {', '.join(sorted(_KEYS))}"
        raise _bad(
            expected, f"{key}=", "set it in libpq's environment variables, such as PGSERVICE"
        )
    for key in ("host", "port"):
        if "," in str(parts.get(key, "")):
            raise _bad("one server", "several", "name one")
    if "=" in (name := str(parts.get("dbname", ""))) or "://" in name:  # libpq would expand it
        raise _bad("the name of a database", repr(name), "correct it")
    return parts


def postgres_address(server: Server) -> str:
    """Return the address for libpq; credentials go to another machine only with TLS.

    Raises:
        ConfigError: it is not an address, or TLS is needed and refused.
        MissingExtraError: the driver is not installed.
    """
    parts = postgres_parts(server.url)
    if server.cleartext or _is_here(parts):
        return _joined(parts)
    mode = parts.get("sslmode") or os.environ.get("PGSSLMODE") or "require"
    if mode not in _ENCRYPTED:
        raise _bad(
            f"sslmode {', '.join(_ENCRYPTED)} for a server on another machine",
            repr(mode),
            "allow it with --allow-cleartext",
        )
    return _joined({**parts, "sslmode": mode})


def qdrant_address(server: Server, *, key: bool) -> str:
    """Return the address for Qdrant; a key is sent to another machine only with TLS.

    Args:
        server: of HTTP.
        key: whether one would be sent.

    Raises:
        ConfigError: it is not an address, or TLS is needed.
    """
    url = public_http(server.url)
    parts = urlsplit(url)
    plain = parts.scheme != "https" and not is_loopback(parts.hostname or "")
    if key and plain and not server.cleartext:
        raise ConfigError(
            f"QDRANT_API_KEY for {url}",
            expected="https for a server on another machine",
            found="http, which shows the key to the network",
            remedy="use https, or allow it with --allow-cleartext",
        )
    return url


def is_loopback(host: str) -> bool:
    """Return whether a host name or number is this machine's own."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_here(parts: Mapping[str, Any]) -> bool:
    """Return whether the server is on this machine, by its address and the environment."""
    host = str(parts.get("host", ""))
    if os.environ.get("PGHOSTADDR"):  # it is what libpq connects to, whatever the host's name
        return False
    if not host:
        return not any(os.environ.get(name) for name in _ELSEWHERE)
    return host.startswith("/") or is_loopback(host)


def _joined(parts: Mapping[str, Any]) -> str:
    return str(_psycopg().conninfo.make_conninfo("", **parts))


def _psycopg() -> Any:  # noqa: ANN401 - a module
    try:
        import psycopg  # noqa: PLC0415 - an extra
        import psycopg.conninfo  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("psycopg and pgvector", "pgvector") from error
    return psycopg


def _bad(expected: str, found: str, remedy: str) -> ConfigError:
    return ConfigError("--url", expected=expected, found=found, remedy=remedy)
