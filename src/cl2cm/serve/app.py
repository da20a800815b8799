"""The routes of the service.

    GET /                 the page, with the hits of ?q= if there is one
    GET /item/{row}       one picture, its captions, and those most like it
    GET /api/search       ?q= and ?k=, the JSON of ``cl2cm search --json``
    GET /api/health       that it answers, and what it searches
    GET /thumb/{row}      a small copy of a picture
    GET /media/{row}      the file itself

Items are addressed by row number: no path and no name from a request reaches the file system.
Encoding is work for the processor, so it runs on a thread, one query at a time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException

from cl2cm import __version__
from cl2cm.errors import CL2CMError, MediaError, QueryError
from cl2cm.search import Searcher
from cl2cm.serve.guard import HEADERS, Guard
from cl2cm.serve.media import SIZES, Thumbnails, media_type
from cl2cm.serve.page import Page
from cl2cm.types import Item

_PAGE_HITS = 24
_PAGE_MOST = 384
_SIMILAR = 12
_FOREVER = "private, max-age=31536000, immutable"
_ASK_AGAIN = "private, no-cache"

Version = Annotated[str, Query(max_length=64)]


def make_app(
    searcher: Searcher,
    *,
    title: str,
    examples: Sequence[tuple[str, str]],
    hosts: Sequence[str] | None,
) -> FastAPI:
    """Make the service; see `cl2cm.serve.create_app`."""
    app = FastAPI(
        title=title,
        version=__version__,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.add_middleware(Guard, hosts=hosts)
    page = Page(title, examples)
    _add_errors(app, searcher, page)
    _add_api(app, searcher)
    _add_media(app, searcher)
    _add_pages(app, searcher, page)
    return app


def _add_api(app: FastAPI, searcher: Searcher) -> None:
    @app.get("/api/search")
    def search(q: str, k: int = 10) -> JSONResponse:
        return JSONResponse(searcher.search_timed(q, k).to_json())

    @app.get("/api/health")
    def health() -> JSONResponse:
        index = searcher.index
        return JSONResponse(
            {"status": "ok", "items": len(index), "dim": index.dim, "model": index.model}
        )


def _add_media(app: FastAPI, searcher: Searcher) -> None:
    thumbnails = Thumbnails()

    @app.get("/thumb/{row}")
    def thumb(row: int, size: int = SIZES[0], v: Version = "") -> Response:
        if size not in SIZES:
            raise HTTPException(404, f"expected a size of {SIZES[0]} or {SIZES[1]}, found {size}")
        index = searcher.index
        content, kind = thumbnails.get(_path(searcher, row), size)
        caching = _FOREVER if v == index.generation else _ASK_AGAIN
        return Response(content, media_type=kind, headers={"Cache-Control": caching})

    @app.get("/media/{row}")
    def media(row: int) -> Response:
        path = _path(searcher, row)
        kind = media_type(path)
        return FileResponse(path, media_type=kind, headers={"Cache-Control": _ASK_AGAIN})


def _add_pages(app: FastAPI, searcher: Searcher, page: Page) -> None:
    @app.get("/", response_class=HTMLResponse)
    def home(q: str = "", k: int = _PAGE_HITS) -> HTMLResponse:
        if not q.strip():
            return HTMLResponse(page.home(searcher.index))
        result = searcher.search_timed(q, k)
        more = min(2 * k, _PAGE_MOST, len(searcher.index))
        return HTMLResponse(page.results(searcher.index, result, more=more if more > k else None))

    @app.get("/item/{row}", response_class=HTMLResponse)
    def item(row: int) -> HTMLResponse:
        found = _item(searcher, row)
        similar = searcher.similar(found.id, _SIMILAR)
        return HTMLResponse(page.item(searcher.index, row, found, similar))

    @app.get("/static/{name}")
    def static(name: str, v: Version = "") -> Response:
        if name not in page.assets:
            raise HTTPException(404, "no such file of the page")
        asset = page.assets[name]
        caching = _FOREVER if v == asset.version else _ASK_AGAIN
        return Response(
            asset.content, media_type=asset.media_type, headers={"Cache-Control": caching}
        )


def _item(searcher: Searcher, row: int) -> Item:
    if not 0 <= row < len(searcher.index):
        raise HTTPException(404, f"expected a row from 0 to {len(searcher.index) - 1}, found {row}")
    return searcher.index.item(row)


def _path(searcher: Searcher, row: int) -> Path:
    item = _item(searcher, row)
    if not item.path:
        raise HTTPException(404, "this item was indexed from features, without a file")
    return searcher.index.media_path(item)


def _add_errors(app: FastAPI, searcher: Searcher, page: Page) -> None:
    def answer(request: Request, status: int, message: str) -> Response:
        path = request.url.path
        if path == "/" or path.startswith("/item/"):
            query = request.query_params.get("q", "")
            return HTMLResponse(page.refused(searcher.index, query, message), status)
        return JSONResponse({"error": message}, status)

    @app.exception_handler(CL2CMError)
    def expected(request: Request, error: CL2CMError) -> Response:
        status = {QueryError: 400, MediaError: 404}.get(type(error), 500)
        return answer(request, status, str(error))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return answer(request, 422, f"{where}: {first['msg'].lower()}")

    @app.exception_handler(AnyHTTPException)
    def refused(request: Request, error: AnyHTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail).lower())

    @app.exception_handler(Exception)
    def unexpected(*_: object) -> Response:
        message = "an error of the service; its log says more"
        return JSONResponse({"error": message}, 500, HEADERS)  # answered outside of the guard
