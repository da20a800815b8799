"""The answers of the service as its OpenAPI page describes them."""

from pydantic import BaseModel, Field


class HitAnswer(BaseModel):
    """One answer to a query."""

    id: str
    score: float | None = Field(
        description="Dot product of unit vectors, -1 to 1; null where there was nothing to compare."
    )
    match: float | None = Field(
        description="0 to 1: estimated probability that the item fits the query. It rises with "
        "the score."
    )
    start: float | None = Field(None, description="Seconds, for a part of a film.")
    end: float | None = None
    thumbnail: str | None = Field(None, description="Address of a small picture.")
    media: str | None = Field(None, description="Address of the file, at the right second.")
    folded: list[str] | None = Field(None, description="Near-duplicates that it stands for.")


class Milliseconds(BaseModel):
    """How long each part took."""

    encode: float
    search: float


class SearchAnswer(BaseModel):
    """Hits, the best first."""

    query: str
    language: str | None = Field(description="Of the query, where it is clear: ISO 639-1.")
    hits: list[HitAnswer]
    offset: int
    more: bool = Field(description="Whether there are further hits.")
    total: int | None = Field(description="Number of hits on all pages, where it is known.")
    ms: Milliseconds


class ItemAnswer(BaseModel):
    """What the index knows of an item."""

    id: str
    start: float | None
    end: float | None
    captions: dict[str, list[str]]
    thumbnail: str | None
    media: str | None


class HealthAnswer(BaseModel):
    """That the service answers, and what it searches; the latter only to whoever may search."""

    status: str
    items: int | None = None
    dim: int | None = None
    model: str | None = None


class LinkAnswer(BaseModel):
    """Two words that mean the same, by number and by name."""

    source: int
    target: int
    words: list[str]
    strength: float


class AlignmentAnswer(BaseModel):
    """A query and a caption, word by word."""

    side: str
    source: list[str]
    target: list[str]
    links: list[LinkAnswer]
    strength: list[list[float]] = Field(description="Of each pair of words, 0 to 1.")


class ErrorAnswer(BaseModel):
    """What was expected, what was found, what to do."""

    error: str
