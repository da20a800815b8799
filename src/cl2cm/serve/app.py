"""The application: routes, guard and error handlers."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.routing import Match
from starlette.types import Scope

from cl2cm import __version__
from cl2cm.errors import CL2CMError, MediaError, MissingExtraError, QueryError
from cl2cm.serve.access import Access
from cl2cm.serve.addresses import Addresses
from cl2cm.serve.cookies import own_cookies, with_cookies
from cl2cm.serve.errors import key_of, key_of_status, wants_page
from cl2cm.serve.guard import Door, Guard
from cl2cm.serve.headers import HEADERS, NEVER_KEPT
from cl2cm.serve.page_routes import page_routes, view_of
from cl2cm.serve.rendering import Page
from cl2cm.serve.rest import rest_routes
from cl2cm.serve.service import NotFoundError, Service

_STATUS: dict[type[Exception], int] = {QueryError: 400, MediaError: 404, MissingExtraError: 404}


def make_app(
    service: Service,
    *,
    title: str,
    examples: Sequence[tuple[str, str]],
    door: Door,
    token: str | None,
) -> FastAPI:
    """Make the service; see `cl2cm.serve.create_app`."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title=title,
        version=__version__,
        docs_url=None,  # their pages load scripts from elsewhere; ours is /api
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        redirect_slashes=False,  # the redirect would lead to wherever Host says
        servers=[{"url": door.root}] if door.root else None,
    )
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # bad forms are not news
    access, addresses = Access(token), Addresses(door.root)
    page = Page(
        title, examples, addresses, private=access.needed, suggested=lambda: service.suggested
    )
    app.include_router(rest_routes(service, addresses))
    app.include_router(page_routes(service, page, access, addresses))
    refused = Refusals(service, page)
    _add_errors(app, refused)
    app.add_middleware(
        Guard,
        door=door,
        access=access,
        limits=service.limits,
        metrics=service.metrics,
        refuse=refused.of_scope,
    )
    return app


class Refusals:
    """Answers to requests that fail.

    Args:
        service: what is searched.
        page: renders them for browsers.
    """

    def __init__(self, service: Service, page: Page) -> None:
        self._service, self._page = service, page

    def answer(self, request: Request, status: int, message: str, key: str) -> Response:
        """Return a page with the text of ``key``, or ``message`` as JSON."""
        if not wants_page(request.scope):
            return JSONResponse({"error": message}, status)
        view = view_of(request, q=request.query_params.get("q", "")[:200])
        return HTMLResponse(self._page.refused(view, self._service.searcher.index, key), status)

    def of_scope(self, scope: Scope, status: int, message: str) -> Response:
        """Return the response to a request that matches no route."""
        if "text/html" not in Headers(scope=scope).get("accept", ""):
            return JSONResponse({"error": message}, status)
        headers = with_cookies(scope["headers"], own_cookies(scope["headers"]))
        request = Request({**scope, "headers": headers})
        return self.answer(request, status, message, key_of_status(status))


def _add_errors(app: FastAPI, refused: Refusals) -> None:
    def answer(request: Request, status: int, message: str, error: Exception) -> Response:
        key = key_of(error, status, request.scope["path"])
        return refused.answer(request, status, message, key)

    @app.exception_handler(CL2CMError)
    async def expected(request: Request, error: CL2CMError) -> Response:
        status = _STATUS.get(type(error), 500)
        if isinstance(error, MediaError) and request.method == "POST":
            status = 400
        return answer(request, status, str(error), error)

    @app.exception_handler(NotFoundError)
    async def absent(request: Request, error: NotFoundError) -> Response:
        return refused.answer(request, 404, str(error), "error_item")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return answer(request, 422, f"{where}: {first['msg'].lower()}", error)

    @app.exception_handler(AnyHTTPException)
    async def stopped(request: Request, error: AnyHTTPException) -> Response:
        response = answer(request, error.status_code, str(error.detail).lower(), error)
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(_methods(request))
        return response

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        response = answer(request, 500, "an error of the service; its log says more", error)
        # answered outside of the guard
        response.headers.update({**HEADERS, "Cache-Control": NEVER_KEPT})
        return response


def _methods(request: Request) -> list[str]:
    """Return the methods that a path has, by asking the routes for each."""
    found = []
    for method in ("GET", "HEAD", "POST"):
        scope = {**request.scope, "method": "GET" if method == "HEAD" else method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found.append(method)
    return found
