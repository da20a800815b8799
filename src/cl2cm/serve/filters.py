"""The filters of a request, parsed from its URL; empty form fields are ignored."""

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from fastapi import Query
from pydantic import BeforeValidator, Field

from cl2cm.index import Filter, Order
from cl2cm.index.filter import Media, media_kind
from cl2cm.search.query import Query as SearchQuery

_MOST = 2**62  # what a database holds in a whole number
_EMPTY = BeforeValidator(lambda value: None if value == "" else value)
_Bytes = Annotated[
    Annotated[int, Field(ge=0, le=_MOST)] | None, _EMPTY, Query(description="Of the file.")
]
_Day = Annotated[
    Annotated[str, Field(max_length=10)] | None,
    _EMPTY,
    Query(
        description="When the image was taken (EXIF DateTimeOriginal), else when the file was "
        "changed; such as 2024-01-31, in the local time of the service."
    ),
]
_Folder = Annotated[
    Annotated[str, Field(max_length=4096)] | None,
    _EMPTY,
    Query(description="It and what is below it."),
]
_Name = Annotated[
    Annotated[str, Field(max_length=4096)] | None,
    _EMPTY,
    Query(description="A part of the id: the name of the file or of a folder above it."),
]
_Match = Annotated[
    Annotated[float, Field(ge=0, le=1)] | None,
    _EMPTY,
    Query(description="Smallest match of a hit; the best 1,000 hits are looked at."),
]


@dataclass
class FilterFields:
    """The filters of a request; empty ones let everything through."""

    folder: _Folder = None
    media: Annotated[
        Media | None,
        _EMPTY,
        Query(description="image or video; picture and film are accepted as older names."),
    ] = None
    since: _Day = None
    until: _Day = None
    min_bytes: _Bytes = None
    max_bytes: _Bytes = None
    name: _Name = None
    min_match: _Match = None
    sort: Annotated[
        Order | None,
        _EMPTY,
        Query(description="By the file's date, among the best 1,000 hits; default: by match."),
    ] = None

    def __post_init__(self) -> None:
        self.media = media_kind(self.media) if self.media else None

    def values(self) -> dict[str, Any]:
        """Return those that are set, as an address has them."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def filter_of(query: SearchQuery, fields: FilterFields, *, fold: bool) -> SearchQuery:
    """Return a query with the filters of a request.

    Raises:
        QueryError: a value that cannot be.
    """
    values = fields.values()
    sort, least = values.pop("sort", None), values.pop("min_match", None)
    among = Filter(**values) if values else None
    return replace(query, fold=fold, filter=among, sort=sort, min_match=least)
