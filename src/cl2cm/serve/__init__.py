"""The search service and its web page: a REST API and HTML that works without JavaScript.

Importing this loads no web framework; `create_app` and `run` do, and say what to install if it is
not there.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cl2cm.errors import MissingExtraError
from cl2cm.search.searcher import Searcher
from cl2cm.serve.access import read_token
from cl2cm.serve.limits import Limits
from cl2cm.types import SearchModel, StrPath

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["LOOPBACK", "Limits", "create_app", "read_token", "run"]

Suggestion = tuple[str, str]  # language, query
Align = Callable[[str, str], Mapping[str, Any]]
LoadModel = Callable[[StrPath], SearchModel]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def create_app(
    searcher: Searcher,
    *,
    title: str = "cl2cm",
    examples: Sequence[Suggestion] = (),
    hosts: Sequence[str] | None = None,
    token: str | None = None,
    proxies: Sequence[str] = (),
    root_path: str = "",
    limits: Limits | None = None,
    align: Align | None = None,
    load_model: LoadModel | None = None,
) -> "FastAPI":
    """Make the service for one index.

    Args:
        searcher: a model and its index.
        title: name of the collection, shown on the page.
        examples: queries to try, each with its language, as ``("de", "rotes Herz")``.
        hosts: names under which the service may be addressed; any, if None. A service on
            loopback should name its own, or a web page elsewhere can reach it by a name that it
            points at 127.0.0.1.
        token: what a client has to know; None lets everybody in. See `read_token`.
        proxies: addresses or networks of proxies before the service. From them alone
            X-Forwarded-For is read, so that limits hold for each client and not for the proxy.
        root_path: path below which a proxy shows the service, such as ``/photos``, whether or not
            it passes that path on.
        limits: of size, time and number; by default `Limits()`.
        align: aligns two texts word by word, for the view of one image; gives the object of
            ``cl2cm align --json``.
        load_model: gives the model of a run, for when the index is replaced by one of another
            model while the service runs; without it such an index is not taken.

    Raises:
        MissingExtraError: the extra ``serve`` is not installed.
        ConfigError: a proxy that is not an address, or an unusable root path.
    """
    _require()
    from cl2cm.serve.addresses import read_root  # noqa: PLC0415 - an extra
    from cl2cm.serve.app import make_app  # noqa: PLC0415 - an extra
    from cl2cm.serve.guard import Door  # noqa: PLC0415 - an extra
    from cl2cm.serve.origin import read_proxies  # noqa: PLC0415 - an extra
    from cl2cm.serve.service import Service  # noqa: PLC0415 - an extra

    door = Door(hosts, read_proxies(proxies), read_root(root_path))
    service = Service(searcher, limits=limits or Limits(), load_model=load_model, align=align)
    return make_app(service, title=title, examples=examples, door=door, token=token)


def run(
    searcher: Searcher,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    names: Sequence[str] = (),
    proxies: Sequence[str] = (),
    on_ready: Callable[[str], None] | None = None,
    limits: Limits | None = None,
    **settings: Any,  # noqa: ANN401 - handed on
) -> None:
    """Serve until interrupted.

    Args:
        searcher: a model and its index.
        host: address to listen on; only this machine by default.
        port: TCP port; 0 takes a free one.
        names: further host names under which the service may be addressed, such as the name of a
            proxy before it. Without them: loopback, ``host``, this machine's name, and the
            address to which a client connected.
        proxies: as for `create_app`.
        on_ready: called with the page's address once it answers.
        limits: as for `create_app`.
        settings: as for `create_app`.

    Raises:
        MissingExtraError: the extra ``serve`` is not installed.
        ConfigError: the port is taken, or the address is not one of this machine.
    """
    _require()
    from cl2cm.serve.origin import host_name, read_proxies  # noqa: PLC0415 - an extra
    from cl2cm.serve.server import serve  # noqa: PLC0415 - an extra

    limits = limits or Limits()
    machine = socket.gethostname()
    given = [host, *names] if host in LOOPBACK else [host, machine, f"{machine}.local", *names]
    hosts = {*LOOPBACK, *(host_name(name.strip()) for name in given if name.strip(": "))}
    app = create_app(searcher, hosts=sorted(hosts), proxies=proxies, limits=limits, **settings)
    trusted = read_proxies(proxies)
    serve(app, host=host, port=port, on_ready=on_ready, limits=limits, proxies=trusted)


def _require() -> None:
    try:
        import fastapi  # noqa: F401, PLC0415
        import jinja2  # noqa: F401, PLC0415
        import prometheus_client  # noqa: F401, PLC0415
        import python_multipart  # noqa: F401, PLC0415
        import uvicorn  # noqa: F401, PLC0415
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from error
