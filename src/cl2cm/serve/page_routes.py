"""Routes of the pages and their assets.

GET  /           the first page, the hits of ?q=, ?like= and ?image=, or the items of a filter
POST /image    takes an image to search with, and leads to its hits
GET  /image    a small copy of it
GET  /item       one image, its captions, similar images, the moments of its video
GET  /align      the query and a caption, word by word
GET  /language   the page in another language
GET  /sign-in    asks for the token; POST takes it
POST /sign-out   ends the session
GET  /api        what the API can do
GET  /static/…   style, script and icons
"""

from typing import Annotated

from fastapi import (
    APIRouter,
    Depends,
    File,
    Form,
    HTTPException,
    Query,
    Request,
    Response,
    UploadFile,
)
from fastapi.responses import HTMLResponse, RedirectResponse

from cl2cm.search.query import Query as SearchQuery
from cl2cm.search.query import parse_query
from cl2cm.serve.access import SESSION_SECONDS, Access, Verdict
from cl2cm.serve.addresses import Addresses
from cl2cm.serve.alignment_drawing import draw
from cl2cm.serve.cookies import LANGUAGE, SESSION
from cl2cm.serve.filters import FilterFields, filter_of
from cl2cm.serve.headers import FOREVER, NEVER_KEPT, PUBLIC
from cl2cm.serve.messages import all_messages, choose
from cl2cm.serve.rendering import Page, name_of
from cl2cm.serve.rest import Id, Version
from cl2cm.serve.service import Service
from cl2cm.serve.view import View
from cl2cm.text import is_blank

PAGE_HITS = 24
SIMILAR = 12
_LONGEST = 6000  # characters of an address to come back to
_YEAR = 365 * 24 * 3600

Text = Annotated[str, Query(max_length=4096)]


def page_routes(service: Service, page: Page, access: Access, addresses: Addresses) -> APIRouter:
    """Make the routes of the page."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    _add_search(router, service, page)
    _add_picture(router, service, addresses)
    _add_item(router, service, page)
    _add_around(router, service, page, addresses)
    _add_sign_in(router, page, access, addresses)
    return router


def view_of(request: Request, **values: object) -> View:
    """Return the view of a request, in the visitor's language."""
    messages = choose(request.cookies.get(LANGUAGE), request.headers.get("accept-language", ""))
    query = request.scope["query_string"].decode("latin-1")
    here = request.scope["path"] + (f"?{query}" if query else "")  # request.url follows the Host
    here = here if request.method == "GET" and len(here) <= _LONGEST else "/"
    return View(messages, here, known=request.state.known, **values)  # type: ignore[arg-type]


def _add_search(router: APIRouter, service: Service, page: Page) -> None:
    @router.get("/")
    async def home(
        request: Request,
        fields: Annotated[FilterFields, Depends()],
        q: str = "",
        like: Text = "",
        picture: Text = "",
        page_number: Annotated[int, Query(alias="page")] = 1,
        fold: bool = False,
    ) -> HTMLResponse:
        searcher = service.searcher
        view = view_of(
            request, q=q, like=like, picture=picture, page=page_number, fold=fold,
            filters=fields.values(),
        )  # fmt: skip
        if is_blank(q) and not (like or picture or set(view.filters) - {"min_match"}):
            return HTMLResponse(await service.run(page.home, view, searcher.index))
        vector = service.uploaded(picture).vector if picture else None
        query = SearchQuery(
            *parse_query(q),
            like=vector if vector is not None else like or None,
            k=PAGE_HITS,
            offset=(max(page_number, 1) - 1) * PAGE_HITS,
        )
        result = await service.search(filter_of(query, fields, fold=fold), searcher)
        name = None
        if like:
            item = await service.item(like)
            name = name_of(item)[1]
        return HTMLResponse(page.results(view, searcher.index, result, name))


def _add_picture(router: APIRouter, service: Service, addresses: Addresses) -> None:
    @router.post("/picture")
    async def send(
        picture: Annotated[UploadFile, File()], q: Annotated[str, Form(max_length=4096)] = ""
    ) -> RedirectResponse:
        name = await service.upload(await picture.read())
        return RedirectResponse(addresses("/", q=q, picture=name), 303)

    @router.get("/picture")
    async def sent(name: Text) -> Response:
        upload = service.uploaded(name)
        return Response(
            upload.thumbnail, media_type=upload.media_type, headers={"Cache-Control": FOREVER}
        )


def _add_item(router: APIRouter, service: Service, page: Page) -> None:
    @router.get("/item")
    async def item(request: Request, id: Id, q: str = "") -> HTMLResponse:  # noqa: A002
        searcher = service.searcher
        found = await service.item(id)
        similar = await service.search(SearchQuery(like=id, k=SIMILAR, fold=True), searcher)
        html = page.item(
            view_of(request, q=q),
            searcher.index,
            found,
            similar,
            moments=await service.moments(found, q),
            aligns=service.aligns,
        )
        return HTMLResponse(html)

    @router.get("/align")
    async def align(
        request: Request,
        id: Id,  # noqa: A002
        q: str,
        language: Text = "en",
        number: int = 0,
    ) -> HTMLResponse:
        found = await service.item(id)
        aligned = await service.align(parse_query(q)[0], found, language, number)
        match = await service.match_of(q, found)
        view, drawing = view_of(request, q=q), draw(aligned, match)
        return HTMLResponse(page.alignment(view, service.searcher.index, found, drawing, match))


def _add_around(router: APIRouter, service: Service, page: Page, addresses: Addresses) -> None:
    @router.get("/api")
    async def api(request: Request) -> HTMLResponse:
        routes = described(request.app.openapi())
        return HTMLResponse(page.api(view_of(request), service.searcher.index, routes))

    @router.get("/language")
    async def language(request: Request, to: Text, back: Text = "/") -> RedirectResponse:
        if to not in all_messages():
            raise HTTPException(404, "the page does not speak this language")
        answer = RedirectResponse(addresses(_local(back)), 303)
        answer.set_cookie(
            LANGUAGE, to, max_age=_YEAR, path=addresses.root or "/",
            httponly=True, samesite="lax", secure=_is_secure(request),
        )  # fmt: skip
        return answer

    @router.get("/static/{name}")
    async def static(name: str, v: Version = "") -> Response:
        if name not in page.assets:
            raise HTTPException(404, "no such file of the page")
        asset = page.assets[name]
        caching = PUBLIC if v == asset.version else "public, no-cache"
        headers = {"Cache-Control": caching, "ETag": f'"{asset.version}"'}
        return Response(asset.content, media_type=asset.media_type, headers=headers)


def _add_sign_in(router: APIRouter, page: Page, access: Access, addresses: Addresses) -> None:
    def ask(request: Request, *, wrong: bool, status: int = 200) -> Response:
        html = page.sign_in(view_of(request), wrong=wrong)
        return HTMLResponse(html, status, headers={"Cache-Control": NEVER_KEPT})

    @router.get("/sign-in")
    async def form(request: Request) -> Response:
        if access.needed:
            return ask(request, wrong=False)
        return RedirectResponse(addresses("/"), 303)

    @router.post("/sign-in")
    async def sign_in(
        request: Request, token: Annotated[str, Form(max_length=1000)] = ""
    ) -> Response:
        session = access.sign_in(token, request.state.client)
        if isinstance(session, Verdict):
            status = 429 if session is Verdict.TOO_MANY else 403
            return ask(request, wrong=True, status=status)
        answer = RedirectResponse(addresses("/"), 303)
        answer.set_cookie(
            SESSION, session, max_age=SESSION_SECONDS, path=addresses.root or "/",
            httponly=True, samesite="strict", secure=_is_secure(request),
        )  # fmt: skip
        return answer

    @router.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        access.sign_out(request.cookies.get(SESSION))
        answer = RedirectResponse(addresses("/sign-in"), 303)
        answer.delete_cookie(
            SESSION, path=addresses.root or "/", httponly=True, samesite="strict",
            secure=_is_secure(request),
        )  # fmt: skip
        answer.headers["Clear-Site-Data"] = '"cache"'  # thumbnails, and pages to go back to
        return answer


def _is_secure(request: Request) -> bool:
    """Return whether a browser uses TLS; a false claim only restricts the client's own cookie."""
    told = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return "https" in (request.scope["scheme"], told)


def _local(back: str) -> str:
    """Return an address of this service, whatever was asked for."""
    # one slash begins a path of this service; two, or a backslash after it, another host
    plain = back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable()
    return back if plain else "/"


def described(schema: dict[str, object]) -> list[dict[str, object]]:
    """Return the routes of an OpenAPI document, as the page shows them."""
    paths: dict[str, dict[str, dict[str, object]]] = schema["paths"]  # type: ignore[assignment]
    return [
        {"path": path, "method": method.upper(), **operation}
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]
