"""What the web page shows: templates filled with plain values, everything escaped by default."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath

import jinja2

from cl2cm.index import Index
from cl2cm.search import SearchResult
from cl2cm.types import Captions, Hit, Item

_STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MOSAIC = 24  # pictures on the first page


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page itself, in memory."""

    content: bytes
    media_type: str
    version: str


@dataclass(frozen=True, slots=True)
class Card:
    """One picture of the grid; ``score`` is None outside a search."""

    row: int
    name: str
    language: str | None
    score: float | None = None


class Page:
    """Renders the HTML of one collection.

    Args:
        title: name of the collection.
        examples: queries to try, each with its language.
    """

    def __init__(self, title: str, examples: Sequence[tuple[str, str]]) -> None:
        self.assets = _read_assets()
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("cl2cm.serve", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(title=title, examples=list(examples), asset=self._address)
        self._environment = environment

    def _address(self, name: str) -> str:
        return f"/static/{name}?v={self.assets[name].version}"

    def home(self, index: Index) -> str:
        """Render the first page, with pictures from the whole of the collection."""
        rows = [int(i * len(index) / _MOSAIC) for i in range(_MOSAIC)]
        rows = sorted(set(rows))
        cards = [card(row, item) for row, item in zip(rows, index.items(rows), strict=True)]
        return self._render("home.html", index, cards=cards, query="")

    def results(self, index: Index, result: SearchResult, *, more: int | None) -> str:
        """Render the hits of a query; ``more`` is the next number of hits to offer."""
        cards = cards_of(index, result.hits)
        return self._render(
            "results.html", index, cards=cards, query=result.query, result=result, more=more
        )

    def refused(self, index: Index, query: str, message: str) -> str:
        """Render an error about a query."""
        return self._render("refused.html", index, query=query[:200], message=message)

    def item(self, index: Index, row: int, item: Item, similar: Sequence[Hit]) -> str:
        """Render one picture with its captions and those most like it."""
        return self._render(
            "item.html",
            index,
            query="",
            card=card(row, item),
            item=item,
            cards=cards_of(index, similar),
        )

    def _render(self, template: str, index: Index, **values: object) -> str:
        values |= {"count": len(index), "version": index.generation}
        return self._environment.get_template(template).render(**values)


def cards_of(index: Index, hits: Sequence[Hit]) -> list[Card]:
    """Give a card for each hit."""
    return [card(index.row_of(hit.id), hit, hit.score) for hit in hits]


def card(row: int, item: Item | Hit, score: float | None = None) -> Card:
    """Give the card of an item; its name is a caption, else its file's name."""
    language, name = name_of(item.id, item.captions)
    return Card(row, name, language, score)


def name_of(
    item_id: str, captions: Captions | Mapping[str, Sequence[str]]
) -> tuple[str | None, str]:
    """Give what to call an item, with its language: the English caption, another, or its id."""
    for language in ("en", *captions):
        texts = captions.get(language) or ()
        if texts and texts[0].strip():
            return language, texts[0]
    return None, PurePosixPath(item_id).stem or item_id


def _read_assets() -> dict[str, Asset]:
    assets = {}
    for file in (resources.files("cl2cm.serve") / "static").iterdir():
        suffix = PurePosixPath(file.name).suffix
        if suffix in _STATIC_TYPES:
            content = file.read_bytes()
            version = hashlib.sha256(content).hexdigest()[:12]
            assets[file.name] = Asset(content, _STATIC_TYPES[suffix], version)
    return assets
