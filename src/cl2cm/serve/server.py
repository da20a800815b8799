"""The server process; its socket is opened first, so that a port in use is an early error."""

import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Sequence

import uvicorn
from fastapi import FastAPI

from cl2cm.errors import ConfigError
from cl2cm.serve.limits import Limits
from cl2cm.serve.origin import Network
from cl2cm.serve.protocol import protocol_of

_BACKLOG = 512
_FILES = 256  # descriptors for everything but connections and the files that they read


def serve(
    app: FastAPI,
    *,
    host: str,
    port: int,
    on_ready: Callable[[str], None] | None,
    limits: Limits,
    proxies: Sequence[Network] = (),
) -> None:
    """Serve an app until interrupted; see `cl2cm.serve.run`."""
    _allow_files(4 * limits.connections + _BACKLOG + _FILES)
    with listen(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listener.getsockname()[1]}/"
        with contextlib.suppress(KeyboardInterrupt):
            _Server(configure(app, limits, proxies), address, on_ready).run(sockets=[listener])


def configure(app: FastAPI, limits: Limits, proxies: Sequence[Network] = ()) -> uvicorn.Config:
    """Return the settings of the server."""
    errors = logging.getLogger("uvicorn.error")
    if not errors.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Harmless("%(levelname)s: %(message)s"))
        errors.addHandler(handler)
        errors.propagate = False
    return uvicorn.Config(
        app,
        http=protocol_of(limits, proxies),
        ws="none",
        log_config=None,
        log_level="error",  # what is not HTTP is not news, and anybody can send it
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        h11_max_incomplete_event_size=limits.head,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
    )


class _Harmless(logging.Formatter):
    """Writes what clients may have sent so that it looks like no record of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text."""
        first, *others = super().format(record).splitlines() or [""]
        return "\n".join(_visible(line) for line in (first, *(f"  | {line}" for line in others)))


def _visible(line: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in line)


def _allow_files(wanted: int) -> None:
    """Raise this process's own limit of open files, as far as the system lets it."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not of every system

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, address: str, on_ready: Callable[[str], None] | None
    ) -> None:
        super().__init__(config)
        self._address = address
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_ready:
            self._on_ready(self._address)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        ConfigError: the port is taken, or the address is not one of this machine.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(
            "port", expected="0 to 65535", found=str(port), remedy="choose another port"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # by its protocol asyncio knows that answers must not wait for more to send (TCP_NODELAY)
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"address {host}, port {port}",
            expected="a free port of this machine",
            found=(error.strerror or str(error)).lower(),
            remedy="choose another with --port, or stop the program that uses it",
        ) from error
    return listener
