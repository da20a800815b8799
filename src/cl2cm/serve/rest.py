"""REST, version 1, as ``/api`` describes it.

GET  /api/v1/search      words, an item, or both; filters; pages
POST /api/v1/search      the same with an image, as a form
GET  /api/v1/similar     items like an item
GET  /api/v1/item        captions and addresses of an item
GET  /api/v1/thumbnail   a small copy of its image
GET  /api/v1/media       its file, in ranges if asked for
GET  /api/v1/align       a query and a caption, word by word
GET  /api/v1/health      that it answers
GET  /api/v1/metrics     counters for Prometheus
GET  /api/search, /api/health   the same as /api/v1/search with q and k, and /api/v1/health
"""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse

from cl2cm.search.query import MAX_DEPTH, MAX_K, MAX_QUERY, parse_query
from cl2cm.search.query import Query as SearchQuery
from cl2cm.serve.addresses import Addresses
from cl2cm.serve.files import MediaResponse
from cl2cm.serve.filters import FilterFields, filter_of
from cl2cm.serve.headers import ASK_AGAIN, FOREVER
from cl2cm.serve.media import SIZES
from cl2cm.serve.schemas import AlignmentAnswer, ErrorAnswer, HealthAnswer, ItemAnswer, SearchAnswer
from cl2cm.serve.service import NotFoundError, Service
from cl2cm.types import Floats

Q = Annotated[str, Query(description="Words in any language; -word leaves out.")]
K = Annotated[int, Query(json_schema_extra={"minimum": 1, "maximum": MAX_K})]
Offset = Annotated[int, Query(json_schema_extra={"minimum": 0, "maximum": MAX_DEPTH})]
Id = Annotated[str, Query(description="Id of an item.", max_length=4096)]
Size = Annotated[int, Query(json_schema_extra={"enum": list(SIZES)})]
Version = Annotated[str, Query(max_length=64, description="Generation of the index.")]
_LIKE = "Id of an item to be like."
_WITHOUT = "Terms that shall not be there."
_WEIGHT = "Of the picture against the words, 0 to 1."
_LITERAL = "Take the words as they stand, hyphens and all."
_FOLD = "Show near-duplicates, and parts of one film, once."
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in [
        (400, "A request that cannot be answered"),
        (401, "Without the token"),
        (404, "Nothing there"),
        (413, "Too large"),
        (422, "A value of the wrong kind"),
        (503, "Too busy, or too slow"),
    ]
}


def rest_routes(service: Service, addresses: Addresses) -> APIRouter:
    """Make the routes of the API."""
    router = APIRouter(responses=_ERRORS)
    _add_search(router, service, addresses)
    _add_likeness(router, service, addresses)
    _add_items(router, service, addresses)
    _add_files(router, service)
    _add_state(router, service)
    return router


def _add_search(router: APIRouter, service: Service, addresses: Addresses) -> None:
    @router.get("/api/v1/search", response_model=SearchAnswer, tags=["search"])
    async def search(
        fields: Annotated[FilterFields, Depends()],
        q: Q = "",
        k: K = 10,
        offset: Offset = 0,
        without: Annotated[list[str] | None, Query(description=_WITHOUT)] = None,
        like: Annotated[str, Query(description=_LIKE)] = "",
        weight: Annotated[float, Query(description=_WEIGHT)] = 0.5,
        literal: Annotated[bool, Query(description=_LITERAL)] = False,
        fold: Annotated[bool, Query(description=_FOLD)] = False,
    ) -> JSONResponse:
        """Search by text, by an item, or both."""
        text, unwanted = (q, ()) if literal else parse_query(q)
        query = SearchQuery(text, (*unwanted, *(without or ())), like or None, weight, k, offset)
        query = filter_of(query, fields, fold=fold)
        return await _answer(service, query, addresses)

    @router.get("/api/search", include_in_schema=False)
    async def plain_search(q: str, k: int = 10) -> JSONResponse:
        return await _answer(service, SearchQuery(*parse_query(q), k=k), addresses)


def _add_likeness(router: APIRouter, service: Service, addresses: Addresses) -> None:
    @router.post("/api/v1/search", response_model=SearchAnswer, tags=["search"])
    async def search_with_picture(
        fields: Annotated[FilterFields, Depends()],
        picture: Annotated[UploadFile, File(description="A picture.")],
        q: Annotated[str, Form(max_length=MAX_QUERY)] = "",
        k: Annotated[int, Form()] = 10,
        offset: Annotated[int, Form()] = 0,
        weight: Annotated[float, Form(description=_WEIGHT)] = 0.5,
        fold: Annotated[bool, Form(description=_FOLD)] = False,
    ) -> JSONResponse:
        """Search by an uploaded image, optionally with text."""
        vector: Floats = await service.vector_of(await picture.read())
        query = SearchQuery(*parse_query(q), vector, weight, k, offset)
        query = filter_of(query, fields, fold=fold)
        return await _answer(service, query, addresses)

    @router.get("/api/v1/similar", response_model=SearchAnswer, tags=["search"])
    async def similar(
        fields: Annotated[FilterFields, Depends()],
        id: Id,  # noqa: A002 - what the address says
        k: K = 10,
        offset: Offset = 0,
        fold: Annotated[bool, Query(description=_FOLD)] = False,
    ) -> JSONResponse:
        """Find items similar to an item; the item itself is not included."""
        await service.item(id)
        query = SearchQuery(like=id, k=k, offset=offset)
        query = filter_of(query, fields, fold=fold)
        return await _answer(service, query, addresses)


async def _answer(service: Service, query: SearchQuery, addresses: Addresses) -> JSONResponse:
    searcher = service.searcher
    result = await service.search(query, searcher)
    value, generation = result.to_json(), searcher.index.generation
    for found, hit in zip(value["hits"], result.hits, strict=True):
        del found["path"]  # of this machine: no business of a client
        found |= {"thumbnail": addresses.thumb(hit, generation), "media": addresses.media(hit)}
    return JSONResponse(value)


def _add_items(router: APIRouter, service: Service, addresses: Addresses) -> None:
    @router.get("/api/v1/item", response_model=ItemAnswer, tags=["items"])
    async def item(id: Id) -> JSONResponse:  # noqa: A002
        """Return the metadata of an item."""
        found = await service.item(id)
        return JSONResponse(
            {
                "id": found.id,
                "start": found.start,
                "end": found.end,
                "captions": {code: list(texts) for code, texts in found.captions.items()},
                "thumbnail": addresses.thumb(found, service.searcher.index.generation),
                "media": addresses.media(found),
            }
        )

    @router.get("/api/v1/align", response_model=AlignmentAnswer, tags=["items"])
    async def align(id: Id, q: Q, language: str = "en", number: int = 0) -> JSONResponse:  # noqa: A002
        """Compare a query with a caption of an item, word by word."""
        found = await service.item(id)
        return JSONResponse(dict(await service.align(q, found, language, number)))


def _add_files(router: APIRouter, service: Service) -> None:
    @router.get("/thumb", include_in_schema=False)
    @router.get("/api/v1/thumbnail", tags=["items"], response_class=Response)
    async def thumbnail(id: Id, size: Size = SIZES[0], v: Version = "") -> Response:  # noqa: A002
        """Return a small copy of an item's image, or of its video at the middle of its part."""
        if size not in SIZES:
            raise NotFoundError(f"expected a size of {SIZES[0]} or {SIZES[1]}, found {size}")
        content, kind = await service.thumbnail(id, size)
        caching = FOREVER if v == service.searcher.index.generation else ASK_AGAIN
        tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
        headers = {"Cache-Control": caching, "ETag": tag}
        return Response(content, media_type=kind, headers=headers)

    @router.get("/media", include_in_schema=False)
    @router.get("/api/v1/media", tags=["items"], response_class=Response)
    async def original(id: Id) -> Response:  # noqa: A002
        """Return an item's file, or a range of it."""
        return MediaResponse(await service.media(id), service.read)


def _add_state(router: APIRouter, service: Service) -> None:
    @router.get("/api/health", include_in_schema=False)
    @router.get("/api/v1/health", response_model=HealthAnswer, tags=["state"])
    async def health(request: Request) -> JSONResponse:
        """Return the status of the service; with access, also what it serves."""
        index = service.searcher.index
        if not request.state.known:
            return JSONResponse({"status": "ok"})
        return JSONResponse(
            {"status": "ok", "items": len(index), "dim": index.dim, "model": index.model}
        )

    @router.get("/api/v1/metrics", tags=["state"], response_class=Response)
    async def metrics() -> Response:
        """Return counters in the text format of Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")
