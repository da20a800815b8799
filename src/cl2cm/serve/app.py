"""The service, put together: routes, guard, and what an error looks like."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.routing import Match

from cl2cm import __version__
from cl2cm.errors import CL2CMError, MediaError, MissingExtraError, QueryError
from cl2cm.serve.access import Access
from cl2cm.serve.addresses import Addresses
from cl2cm.serve.guard import Door, Guard
from cl2cm.serve.headers import HEADERS, NEVER_KEPT
from cl2cm.serve.page_routes import page_routes, view_of
from cl2cm.serve.rendering import Page
from cl2cm.serve.rest import rest_routes
from cl2cm.serve.service import NotFoundError, Service

_PAGES = frozenset({"/", "/item", "/align", "/api", "/sign-in", "/sign-out", "/language"})
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
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # bad forms are no news
    access, addresses = Access(token), Addresses(door.root)
    page = Page(title, examples, addresses, private=access.needed)
    app.include_router(rest_routes(service, addresses))
    app.include_router(page_routes(service, page, access, addresses))
    _add_errors(app, service, page)
    app.add_middleware(
        Guard, door=door, access=access, limits=service.limits, metrics=service.metrics
    )
    return app


def _add_errors(app: FastAPI, service: Service, page: Page) -> None:
    def answer(request: Request, status: int, message: str) -> Response:
        path = request.scope["path"]
        if path not in _PAGES and (path, request.method) != ("/picture", "POST"):
            return JSONResponse({"error": message}, status)
        view = view_of(request, q=request.query_params.get("q", "")[:200])
        return HTMLResponse(page.refused(view, service.searcher.index, message), status)

    @app.exception_handler(CL2CMError)
    async def expected(request: Request, error: CL2CMError) -> Response:
        status = _STATUS.get(type(error), 500)
        if isinstance(error, MediaError) and request.method == "POST":
            status = 400
        return answer(request, status, str(error))

    @app.exception_handler(NotFoundError)
    async def absent(request: Request, error: NotFoundError) -> Response:
        return answer(request, 404, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return answer(request, 422, f"{where}: {first['msg'].lower()}")

    @app.exception_handler(AnyHTTPException)
    async def refused(request: Request, error: AnyHTTPException) -> Response:
        response = answer(request, error.status_code, str(error.detail).lower())
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(_methods(request))
        return response

    @app.exception_handler(Exception)
    async def unexpected(*_: object) -> Response:
        message = "an error of the service; its log says more"
        # answered outside of the guard
        return JSONResponse({"error": message}, 500, {**HEADERS, "Cache-Control": NEVER_KEPT})


def _methods(request: Request) -> list[str]:
    """Return the methods that a path has, by asking the routes for each."""
    found = []
    for method in ("GET", "HEAD", "POST"):
        scope = {**request.scope, "method": "GET" if method == "HEAD" else method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found.append(method)
    return found
