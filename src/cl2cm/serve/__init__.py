"""The search service and its web page: REST, pictures, and HTML that works without JavaScript.

Importing this loads no web framework; `create_app` and `run` do, and say what to install if it is
not there.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cl2cm.errors import MissingExtraError
from cl2cm.search import Searcher

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["create_app", "run"]

Suggestion = tuple[str, str]  # language, query


def create_app(
    searcher: Searcher,
    *,
    title: str = "cl2cm",
    examples: Sequence[Suggestion] = (),
    hosts: Sequence[str] | None = None,
) -> "FastAPI":
    """Make the service for one index.

    Args:
        searcher: a model and its index.
        title: name of the collection, shown on the page.
        examples: queries to try, each with its language, as ``("de", "rotes Herz")``.
        hosts: names under which the service may be addressed; any, if None. A service on
            loopback should name its own, or a web page elsewhere can reach it by a name that it
            points at 127.0.0.1.

    Raises:
        MissingExtraError: the extra ``serve`` is not installed.
    """
    _require()
    from cl2cm.serve.app import make_app  # noqa: PLC0415 - an extra

    return make_app(searcher, title=title, examples=examples, hosts=hosts)


def run(
    searcher: Searcher,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    title: str = "cl2cm",
    examples: Sequence[Suggestion] = (),
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until interrupted.

    Args:
        searcher: a model and its index.
        host: address to listen on; only this machine by default.
        port: TCP port; 0 takes a free one.
        title: as for `create_app`.
        examples: as for `create_app`.
        on_ready: called with the page's address once it answers.

    Raises:
        MissingExtraError: the extra ``serve`` is not installed.
        ConfigError: the port is taken, or the address is not one of this machine.
    """
    _require()
    from cl2cm.serve.server import serve  # noqa: PLC0415 - an extra

    hosts = ("127.0.0.1", "localhost", "::1") if host in ("127.0.0.1", "localhost", "::1") else None
    app = create_app(searcher, title=title, examples=examples, hosts=hosts)
    serve(app, host=host, port=port, on_ready=on_ready)


def _require() -> None:
    try:
        import fastapi  # noqa: F401, PLC0415
        import jinja2  # noqa: F401, PLC0415
        import uvicorn  # noqa: F401, PLC0415
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from error
