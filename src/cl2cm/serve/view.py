"""The state of a page: values of its URL, and links that change them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cl2cm.serve.addresses import Addresses
from cl2cm.serve.messages import Messages

SIZES = [(10**n, text) for n, text in
         ((4, "10 kB"), (5, "100 kB"), (6, "1 MB"), (7, "10 MB"), (8, "100 MB"))]  # fmt: skip


@dataclass(frozen=True, slots=True)
class View:
    """The values of an address, as they were given.

    Attributes:
        messages: the texts of the page's language.
        here: path and values of the address, to come back to.
        q: what was typed.
        like: id of an item to compare with.
        image: name of an image that was sent.
        page: from 1.
        fold: whether near-duplicates are shown once.
        filters: the values of the filters that are set, the order and the smallest match.
        known: whether the visitor may see the collection.
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
    def asks(self) -> bool:
        """Whether there are words or an image to search with."""
        return bool(self.q.strip() or self.like or self.picture)

    @property
    def bare(self) -> str:
        """The same search without filters."""
        return replace(self, filters={}, fold=False).link()

    @property
    def active(self) -> list[tuple[str, str]]:
        """Each filter that is set: what it says, and the address of the search without it."""
        found = [(self._label(name, value), name) for name, value in self.filters.items()]
        found += [(self.messages("fold"), "fold")] if self.fold else []
        return [(label, self.link(**{name: ""})) for label, name in found]

    def _label(self, name: str, value: Any) -> str:  # noqa: ANN401 - as in the address
        t = self.messages
        if name in ("min_bytes", "max_bytes"):
            size = dict(SIZES).get(value, f"{t.number(value)} B")
            return t("filter_larger" if name == "min_bytes" else "filter_smaller", size=size)
        if name == "min_match":
            return t("match_least", match=round(100 * value))
        if name == "media":
            return t("kind_film" if value == "video" else "kind_picture")
        if name == "sort":
            return t(f"sort_{value}")
        return t(f"filter_{name}", value=value)
