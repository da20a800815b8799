"""The process that listens: its socket is opened first, so that a taken port is known."""

import contextlib
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from cl2cm.errors import ConfigError

_CONCURRENT = 256  # connections; beyond them a client is told to come back


def serve(app: FastAPI, *, host: str, port: int, on_ready: Callable[[str], None] | None) -> None:
    """Serve an app until interrupted; see `cl2cm.serve.run`."""
    with listen(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listener.getsockname()[1]}/"
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_CONCURRENT,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=5,
        )
        with contextlib.suppress(KeyboardInterrupt):
            _Server(config, address, on_ready).run(sockets=[listener])


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
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
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
            remedy="choose another with --port, or stop what listens there",
        ) from error
    return listener
