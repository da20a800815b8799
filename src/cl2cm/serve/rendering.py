"""What the web page shows: templates filled with plain values, everything escaped by default."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

import jinja2
from markupsafe import Markup, escape

from cl2cm.index import Index
from cl2cm.search.query import MAX_DEPTH
from cl2cm.search.result import SearchResult
from cl2cm.serve.addresses import Addresses, fragment
from cl2cm.serve.alignment_drawing import Drawing
from cl2cm.serve.media import SIZES
from cl2cm.serve.messages import AUTONYMS, Messages, all_messages
from cl2cm.types import Captions, Hit, Item

_STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MOSAIC = 24  # pictures on the first page
_FOLDERS = 300  # offered to choose from
_SIZES = [(10**n, text) for n, text in
          ((4, "10 kB"), (5, "100 kB"), (6, "1 MB"), (7, "10 MB"), (8, "100 MB"))]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page itself, in memory."""

    content: bytes
    media_type: str
    version: str


@dataclass(frozen=True, slots=True)
class View:
    """What somebody looks at: the values of the address, as they were given.

    Attributes:
        messages: the texts of the page's language.
        here: path and values of the address, to come back to.
        q: what was typed.
        like: id of an item to be like.
        picture: name of a picture that was sent.
        page: from 1.
        fold: whether near-duplicates are shown once.
        filters: the values of the filters that are set.
        known: whether somebody looks who may see the collection.
    """

    messages: Messages
    here: str = "/"
    q: str = ""
    like: str = ""
    picture: str = ""
    page: int = 1
    fold: bool = False
    filters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    known: bool = False

    def link(self, **changes: object) -> str:
        """Return the address of the same search with some values changed, below the root path."""
        values: dict[str, object] = {"q": self.q, "like": self.like, "picture": self.picture}
        values |= {**self.filters, "fold": int(self.fold), **changes}
        kept = {k: v for k, v in values.items() if v != 0 and (k, v) != ("page", 1)}
        return Addresses()("/", **kept)

    @property
    def bare(self) -> str:
        """The same search without filters."""
        return replace(self, filters={}, fold=False).link()


@dataclass(frozen=True, slots=True)
class Card:
    """One picture of the grid.

    ``match`` is None outside a search; ``moment`` is the time of a film's part, empty for a whole
    film, None for a picture.
    """

    id: str
    name: str
    language: str | None
    thumb: str | None
    large: str | None
    moment: str | None = None
    score: float | None = None
    match: float | None = None
    folded: int = 0


class Page:
    """Renders the HTML of one collection.

    Args:
        title: name of the collection.
        examples: queries to try, each with its language; where there are none, captions of the
            collection are.
        addresses: where things are.
        private: whether a token is needed, so that somebody who signed in can sign out.
    """

    def __init__(
        self,
        title: str,
        examples: Sequence[tuple[str, str]],
        addresses: Addresses | None = None,
        *,
        private: bool = False,
    ) -> None:
        self.assets = _read_assets()
        self._addresses = addresses or Addresses()
        self._examples = list(examples)
        self._known: tuple[str, list[str], list[tuple[str, str]]] = ("", [], [])
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("cl2cm.serve", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(
            title=title, asset=self._address, address=self._addresses, root=self._addresses.root,
            media=self._addresses.media, fragment=fragment, private=private, clock=clock,
            emphasise=emphasise, autonym=lambda code: AUTONYMS.get(code, code),
        )  # fmt: skip
        self._environment = environment

    def _address(self, name: str) -> str:
        return self._addresses(f"/static/{name}", v=self.assets[name].version)

    def home(self, view: View, index: Index) -> str:
        """Render the first page, with pictures from the whole of the collection."""
        rows = sorted({int(i * len(index) / _MOSAIC) for i in range(_MOSAIC)})
        cards = [self._card(item, index.generation) for item in index.items(rows)]
        return self._render("home.html", view, index, cards=cards)

    def results(self, view: View, index: Index, result: SearchResult, like: str | None) -> str:
        """Render the hits of a query; ``like`` is the name of the item that they are to be like."""
        cards = [
            self._card(hit, index.generation, hit.score, match, len(folded))
            for hit, match, folded in zip(result.hits, result.matches, result.folded, strict=True)
        ]
        asked = result.request
        further = result.more and asked.offset + 2 * asked.k <= MAX_DEPTH
        return self._render(
            "results.html", view, index, cards=cards, result=result, like=like, further=further
        )

    def refused(self, view: View, index: Index, message: str) -> str:
        """Render an error about a request; to a stranger without anything of the collection."""
        if not view.known:
            return self._render_outside("refused.html", view, message=message)
        return self._render("refused.html", view, index, message=message)

    def item(
        self,
        view: View,
        index: Index,
        item: Item,
        similar: SearchResult,
        *,
        moments: Sequence[Item | Hit],
        film: bool,
        aligns: bool,
    ) -> str:
        """Render one picture with its captions and those most like it."""
        return self._render(
            "item.html",
            view,
            index,
            card=self._card(item, index.generation),
            item=item,
            film=film,
            aligns=aligns and bool(view.q),
            moments=moments,
            cards=[self._card(hit, index.generation) for hit in similar.hits],
        )

    def alignment(self, view: View, index: Index, item: Item, drawing: Drawing) -> str:
        """Render the words of a query and of a caption, and what binds them."""
        name = name_of(item.id, item.captions)[1]
        return self._render("align.html", view, index, item=item, name=name, drawing=drawing)

    def sign_in(self, view: View, *, wrong: bool) -> str:
        """Render the page that asks for the token."""
        return self._render_outside("sign_in.html", replace(view, known=False), wrong=wrong)

    def api(self, view: View, index: Index, routes: Sequence[Mapping[str, Any]]) -> str:
        """Render the description of the API."""
        return self._render("api.html", view, index, routes=routes)

    def _render(self, template: str, view: View, index: Index, **values: object) -> str:
        if self._known[0] != index.generation:
            self._known = (index.generation, index.folders()[:_FOLDERS], _suggestions(index))
        _, folders, suggestions = self._known
        shared = {
            "count": len(index), "examples": self._examples or suggestions, "folders": folders,
            "sizes": _SIZES,
        }  # fmt: skip
        return self._fill(template, view, shared | values)

    def _render_outside(self, template: str, view: View, **values: object) -> str:
        """Render for somebody who has not signed in: neither index nor title comes in here."""
        return self._fill(template, view, {"title": "cl2cm", "examples": [], **values})

    def _fill(self, template: str, view: View, values: Mapping[str, object]) -> str:
        shared = {"view": view, "t": view.messages, "languages": all_messages()}
        return self._environment.get_template(template).render({**shared, **values})

    def _card(
        self,
        item: Item | Hit,
        generation: str,
        score: float | None = None,
        match: float | None = None,
        folded: int = 0,
    ) -> Card:
        """Return the card of an item; its name is a caption, else its file's name."""
        language, name = name_of(item.id, item.captions)
        part = item.start is not None or item.end is not None
        film = part or item.kind == "video"
        return Card(
            id=item.id,
            name=name,
            language=language,
            thumb=self._addresses.thumb(item, generation),
            large=self._addresses.thumb(item, generation, SIZES[1]),
            moment=clock(item.start or 0.0) if part else "" if film else None,
            score=score,
            match=match,
            folded=folded,
        )


def _suggestions(index: Index) -> list[tuple[str, str]]:
    """Short captions of the collection, one for each of its languages, each of its own item."""
    rows = sorted({int(i * len(index) / 97) for i in range(97)})
    found: dict[str, str] = {}
    for item in index.items(rows):
        for language, texts in item.captions.items():
            if language not in found and texts and 2 < len(texts[0]) <= 32:
                found[language] = texts[0]
                break
    return list(found.items())[:8]


def name_of(
    item_id: str, captions: Captions | Mapping[str, Sequence[str]]
) -> tuple[str | None, str]:
    """Give what to call an item, with its language: the English caption, another, or its id."""
    for language in ("en", *captions):
        texts = captions.get(language) or ()
        if texts and texts[0].strip():
            return language, texts[0]
    return None, PurePosixPath(item_id).stem or item_id


def clock(seconds: float) -> str:
    """Write a time in a film, such as 1:02:03 or 0:12."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def emphasise(text: str) -> Markup:
    """Give a text of ours with its part between asterisks emphasised."""
    before, mark, rest = text.partition("*")
    middle, _, after = rest.partition("*")
    if not mark:
        return escape(text)
    return Markup("{}<em>{}</em>{}").format(before, middle, after)


def _read_assets() -> dict[str, Asset]:
    assets = {}
    for file in (resources.files("cl2cm.serve") / "static").iterdir():
        suffix = PurePosixPath(file.name).suffix
        if suffix in _STATIC_TYPES:
            content = file.read_bytes()
            version = hashlib.sha256(content).hexdigest()[:12]
            assets[file.name] = Asset(content, _STATIC_TYPES[suffix], version)
    return assets
