"""The origin of a request: host name, website and client."""

import ipaddress
import re
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from cl2cm.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_HOST = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:@/?#\s]*))(?::\d{0,5})?", re.ASCII)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_PAGES = frozenset({"document", ""})  # Sec-Fetch-Dest of a link that somebody follows
_STATEFUL = frozenset({"/language"})  # GET, but it sets a cookie


def host_name(header: str) -> str:
    """Return the name in a Host header, without port and brackets: ``[::1]:8000`` is ``::1``.

    A header of another form has no name.
    """
    found = _HOST.fullmatch(header)
    return (found[1] or found[2]).lower().removesuffix(".") if found else ""


def is_own_host(scope: Scope, header: str, hosts: Collection[str] | None) -> bool:
    """Return whether a Host header is one of ``hosts`` or the address connected to.

    A web page elsewhere can give its own name this machine's address; then Host has that name.
    """
    name = host_name(header)
    if hosts is None or name in hosts:
        return True
    server = scope.get("server")
    return bool(server and _is_address(name) and name == server[0])


def is_cross_site(scope: Scope, path: str, headers: Headers, hosts: Collection[str] | None) -> bool:
    """Return whether another site's page sent a request, except by a plain link.

    Browsers that say nothing in Sec-Fetch-Site (it is left out over plain HTTP) send Origin with
    every POST. A program sends neither.
    """
    method = scope["method"]
    site = headers.get("sec-fetch-site")
    if site is not None:
        if site in ("same-origin", "none"):
            return False
        followed = headers.get("sec-fetch-mode") == "navigate" and method in _SAFE
        page = headers.get("sec-fetch-dest", "") in _PAGES and path not in _STATEFUL
        return not (followed and page)
    source = headers.get("origin")
    if source is None and method not in _SAFE:
        source = headers.get("referer")
    return source is not None and not _is_own_origin(source, headers.get("host", ""), hosts)


def _is_own_origin(source: str, host: str, hosts: Collection[str] | None) -> bool:
    """Return whether an origin matches the Host header, or a name that the operator gave."""
    try:
        parts = urlsplit(source)
        given = (parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80))
    except ValueError:
        return False
    if parts.scheme not in ("http", "https"):
        return False
    name, port = host_name(host), host.rpartition("]")[2].partition(":")[2]
    # without a port in Host it is a default port; a proxy may have changed the scheme
    here = given[0] == name and (str(given[1]) == port if port else given[1] in (80, 443))
    return here or (given[0] in (hosts or ()) and not _is_loopback(given[0]))


def read_proxies(given: Sequence[str]) -> list[Network]:
    """Return the networks of trusted proxies.

    Raises:
        ConfigError: one that is not an address.
    """
    found = []
    for text in given:
        try:
            found.append(ipaddress.ip_network(text.strip(), strict=False))
        except ValueError as error:
            raise ConfigError(
                "--proxy",
                expected="an address or a network, such as 127.0.0.1 or 10.0.0.0/8",
                found=repr(text),
                remedy="give the address from which the proxy connects",
            ) from error
    return found


def client_of(scope: Scope, headers: Headers, proxies: Sequence[Network]) -> str:
    """Return the address of a client; of IPv6 the network of a subscriber.

    X-Forwarded-For is read only where the connection is from a proxy of the operator's, and from
    its end: what is before the proxies' own entries, anybody may have written.
    """
    client = scope.get("client")
    peer = client[0] if client else ""
    if not is_proxy(peer, proxies):
        return _shortened(peer)
    given = ",".join(headers.getlist("x-forwarded-for"))
    for entry in (part.strip() for part in reversed(given.split(","))):
        if not _is_address(entry):
            break
        peer = entry
        if not is_proxy(entry, proxies):
            break
    return _shortened(peer)


def is_proxy(peer: str, proxies: Sequence[Network]) -> bool:
    """Return whether a connection is from a proxy of the operator's."""
    if not proxies or not _is_address(peer):
        return False
    address = ipaddress.ip_address(peer)
    mapped = getattr(address, "ipv4_mapped", None) or address
    return any(mapped in network for network in proxies)


def _shortened(peer: str) -> str:
    if not _is_address(peer):
        return peer
    address = ipaddress.ip_address(peer)
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback:
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False).network_address)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)
