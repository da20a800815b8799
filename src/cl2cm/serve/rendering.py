"""The web page: templates filled with plain values, everything escaped by default."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

import jinja2
from markupsafe import Markup, escape

from cl2cm.index import Index
from cl2cm.media.kinds import plays_in_browsers
from cl2cm.search.match import FITS, SURE
from cl2cm.search.query import MAX_DEPTH
from cl2cm.search.result import SearchResult
from cl2cm.serve.addresses import Addresses, fragment
from cl2cm.serve.alignment_drawing import Drawing
from cl2cm.serve.media import SIZES
from cl2cm.serve.messages import AUTONYMS, all_messages
from cl2cm.serve.view import SIZES as FILE_SIZES
from cl2cm.serve.view import View
from cl2cm.types import Hit, Item

_STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MOSAIC = 24  # images on the first page
_FOLDERS = 500  # offered to choose from


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page itself, in memory."""

    content: bytes
    media_type: str
    version: str


@dataclass(frozen=True, slots=True)
class Card:
    """One image or video of the grid.

    ``match`` is None outside a search; ``moment`` is the time of a video's part, empty for a whole
    video, None for an image.
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

    @property
    def fits(self) -> bool:
        """Whether it probably fits the query."""
        return self.match is None or self.match >= FITS


class Page:
    """Renders the HTML of one collection.

    Args:
        title: name of the collection.
        examples: queries to try, each with its language; if there are none, captions of the
            collection are.
        addresses: where things are.
        suggested: gives queries to try for an index without captions, once they are known.
        private: whether a token is needed, so that somebody who signed in can sign out.
    """

    def __init__(
        self,
        title: str,
        examples: Sequence[tuple[str, str]],
        addresses: Addresses | None = None,
        *,
        suggested: Callable[[], Sequence[tuple[str, str]]] = tuple,
        private: bool = False,
    ) -> None:
        self._suggested = suggested
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
            levels=(0.25, 0.5, 0.75),
            title=title, asset=self._address, address=self._addresses, root=self._addresses.root,
            media=self._addresses.media, fragment=fragment, private=private, clock=clock,
            emphasise=emphasise, autonym=lambda code: AUTONYMS.get(code, code),
        )  # fmt: skip
        self._environment = environment

    def _address(self, name: str) -> str:
        return self._addresses(f"/static/{name}", v=self.assets[name].version)

    def home(self, view: View, index: Index) -> str:
        """Render the first page, with images from the whole of the collection."""
        rows = sorted({int(i * len(index) / _MOSAIC) for i in range(_MOSAIC)})
        cards = [self._card(item, index.generation) for item in index.items(rows)]
        return self._render("home.html", view, index, cards=cards)

    def results(self, view: View, index: Index, result: SearchResult, like: str | None) -> str:
        """Render the hits of a query; ``like`` is the name of the item that they resemble."""
        listing = result.request.is_listing
        cards = [
            self._card(hit, index.generation, None if listing else match, len(folded))
            for hit, match, folded in zip(result.hits, result.matches, result.folded, strict=True)
        ]
        asked = result.request
        further = result.more and asked.offset + 2 * asked.k <= MAX_DEPTH
        best = max(result.matches, default=0.0)
        first = view.page <= 1 and asked.sort is None
        return self._render(
            "results.html", view, index, cards=cards, result=result, like=like, further=further,
            featured=first and not listing and best >= SURE, unsure=first and best < FITS,
        )  # fmt: skip

    def refused(self, view: View, index: Index, key: str) -> str:
        """Render an error about a request; without a token it shows nothing of the collection.

        Args:
            view: the request.
            index: the collection.
            key: of the text that says what to do.
        """
        if not view.known:
            return self._render_outside("refused.html", view, key=key)
        return self._render("refused.html", view, index, key=key)

    def item(
        self,
        view: View,
        index: Index,
        item: Item,
        similar: SearchResult,
        *,
        moments: Sequence[Item | Hit],
        aligns: bool,
    ) -> str:
        """Render one image or video with its captions and similar ones."""
        return self._render(
            "item.html",
            view,
            index,
            card=self._card(item, index.generation),
            item=item,
            plays=plays_in_browsers(item.path),
            file_name=PurePosixPath(_file_of(item)).name,
            aligns=aligns and bool(view.q),
            moments=moments,
            cards=[self._card(hit, index.generation) for hit in similar.hits],
        )

    def alignment(
        self, view: View, index: Index, item: Item, drawing: Drawing, match: float
    ) -> str:
        """Render the words of a query and of a caption, and the links between them."""
        values = {"item": item, "name": name_of(item)[1], "drawing": drawing}
        return self._render("align.html", view, index, unsure=match < FITS, **values)

    def sign_in(self, view: View, *, wrong: bool) -> str:
        """Render the sign-in page."""
        return self._render_outside("sign_in.html", replace(view, known=False), wrong=wrong)

    def api(self, view: View, index: Index, routes: Sequence[Mapping[str, Any]]) -> str:
        """Render the description of the API."""
        return self._render("api.html", view, index, routes=routes)

    def _render(self, template: str, view: View, index: Index, **values: object) -> str:
        if self._known[0] != index.generation:
            self._known = (index.generation, _folders(index), _suggestions(index))
        _, folders, suggestions = self._known
        chosen = view.filters.get("folder")
        shared = {
            "count": len(index), "sizes": FILE_SIZES,
            "examples": self._examples or suggestions or list(self._suggested()),
            "folders": folders if chosen in (None, *folders) else [chosen, *folders],
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
        match: float | None = None,
        folded: int = 0,
    ) -> Card:
        """Return the card of an item; its name is a caption, else its file's name."""
        language, name = name_of(item)
        part = item.start is not None or item.end is not None
        film = part or item.kind == "video"
        return Card(
            id=item.id,
            name=name,
            language=language,
            thumb=self._addresses.thumb(item, generation),
            large=self._addresses.thumb(item, generation, SIZES[1]),
            moment=clock(item.start or 0.0) if part else "" if film else None,
            score=None if match is None or not isinstance(item, Hit) else item.score,
            match=match,
            folded=folded,
        )


def _suggestions(index: Index) -> list[tuple[str, str]]:
    """Return short captions of the collection, one per language, each of another item."""
    rows = sorted({int(i * len(index) / 97) for i in range(97)})
    found: dict[str, str] = {}
    for item in index.items(rows):
        for language, texts in item.captions.items():
            if language not in found and texts and 2 < len(texts[0]) <= 32:
                found[language] = texts[0]
                break
    return list(found.items())[:8]


def _folders(index: Index) -> list[str]:
    """Return the folders of an index and those above them, in the order of names."""
    inner = index.folders()
    outer = (str(above) for folder in inner for above in PurePosixPath(folder).parents)
    return sorted({*inner, *outer} - {".", "/", ""})[:_FOLDERS]


def name_of(item: Item | Hit) -> tuple[str | None, str]:
    """Return a title of an item, with its language: the English caption, another, or its file.

    A part of a video is called ``holiday.mp4, 0:12–0:15``.
    """
    for language in ("en", *item.captions):
        texts = item.captions.get(language) or ()
        if texts and texts[0].strip():
            return language, texts[0]
    name = PurePosixPath(_file_of(item))
    if item.start is None and item.end is None:
        return None, name.stem or item.id
    end = "" if item.end is None else clock(item.end)
    return None, f"{name.name}, {clock(item.start or 0.0)}–{end}"


def _file_of(item: Item | Hit) -> str:
    """Return the id without the part of a video that it may name, as ``#t=12,15`` or ``#3``."""
    part = item.start is not None or item.end is not None
    return item.id.rpartition("#")[0] or item.id if part else item.id


def clock(seconds: float) -> str:
    """Write a time in a video, such as 1:02:03 or 0:12."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def emphasise(text: str) -> Markup:
    """Return a page text with its part between asterisks emphasised."""
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
