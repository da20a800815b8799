"""What the parts of a page consist of."""

from typing import NamedTuple

from cl2cm.evaluation.report.svg import Figure
from cl2cm.evaluation.report.tables import Table


class Drawn(NamedTuple):
    """A figure that is made elsewhere, whole: its name, its title and its SVG."""

    name: str
    title: str
    svg: str


class Html(NamedTuple):
    """A piece of the page itself."""

    text: str


Block = str | Html | Figure | Drawn | Table  # a str is a paragraph


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        name: of its anchor, and of what is missing.
        title: its heading.
        blocks: its content.
    """

    name: str
    title: str
    blocks: list[Block]


def slug(text: str) -> str:
    """Return a text as a part of a file's name."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text)[:60]
