"""A query: text, an image or both, excluded terms, and the page of results.

A typed query may exclude terms: ``red heart -broken`` or ``heart -"birthday cake"``. A hyphen
counts only before a word, a number or an emoji and after a blank, so that ``black-and-white``, ``t
- shirt`` and ``:-)`` are words like any other. Dashes and minus signs are accepted as hyphens, and
the quotation marks of all languages.
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

from cl2cm.errors import QueryError
from cl2cm.index import Filter, Order
from cl2cm.text import is_blank, normalise
from cl2cm.types import Floats

MAX_QUERY = 2000  # characters
MAX_K = 1000
MAX_DEPTH = 10_000  # hits before the last one of a page, that one included
MAX_WITHOUT = 8
WITHOUT_WEIGHT = 0.5  # of a term that is not wanted, against 1 for what is

# What keyboards make of a hyphen: hyphens, figure, en and em dash, horizontal bar, minus signs,
# their small and full-width forms, the emoji, the Hebrew maqaf, and the long-vowel mark that a
# Japanese keyboard has on the key of the hyphen (no Japanese word starts with it).
_HYPHEN = "[-\u2010-\u2015\u2212\u02d7\ufe58\ufe63\uff0d\u2796\u05be\u30fc\uff70]\ufe0f?"
_QUOTES = '"\u201c-\u201f\u00ab\u00bb\u2039\u203a\u300c-\u300f\u301d-\u301f\uff02\uff62\uff63'
_SINGLE = "'\u2018-\u201b\uff07"
_WITHOUT = re.compile(
    rf"(?:^|(?<=\s)){_HYPHEN}"
    rf"(?:[{_QUOTES}]([^{_QUOTES}]*)[{_QUOTES}]"  # a phrase
    rf"|[{_SINGLE}](.*?)[{_SINGLE}](?=\s|$)"  # which may hold an apostrophe
    rf"|([^\s{_QUOTES}]+))"  # or what is before the next blank
)
_ENDS = ".,;:!?\u2026\u3001\u3002\uff0c\uff0e\uff1a\uff1b\uff01\uff1f\u060c\u061b\u061f\u06d4"


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """One search request.

    Attributes:
        text: in any language; empty where only an image is given.
        without: terms to exclude, at most 8.
        like: what it shall look like: the id of an item (``str``), the path of an image or video
            (``Path``), or an image that is encoded already, a unit vector float32 [D].
        weight: of ``like`` against ``text`` where both are given, 0 to 1.
        k: hits wanted, 1 to 1,000.
        offset: number of hits to skip; ``offset + k`` is at most 10,000.
        filter: which items may be hits; None: all.
        fold: show near-duplicates, and parts of one video, once.
        min_match: smallest match of a hit, 0 to 1; above 0, the best 1,000 hits are looked at.
            None: 0, but `FITS` where hits are sorted.
        sort: ``newest`` or ``oldest`` first, by the date of the file, among the best 1,000 hits
            that match at least ``min_match``; None: best first.

    A query without text and ``like`` lists the items of its filter, by id or by date.

    Example:
        >>> import cl2cm
        >>> from pathlib import Path
        >>> query = cl2cm.Query("blue", like=Path("images/red-square.png"), weight=0.3, k=5)
        >>> len(cl2cm.open("index").search(query))
        5
    """

    text: str = ""
    without: tuple[str, ...] = ()
    like: str | Path | Floats | None = None
    weight: float = 0.5
    k: int = 10
    offset: int = 0
    filter: Filter | None = None
    fold: bool = False
    min_match: float | None = None
    sort: Order | None = None

    @property
    def is_listing(self) -> bool:
        """Whether it asks for nothing but the items of a filter, or their order by date."""
        asks = self.text or self.without or self.like is not None
        return not asks and (bool(self.filter) or self.sort is not None)

    @property
    def texts(self) -> tuple[str, ...]:
        """What the text encoder has to read: the wanted, if any, then the unwanted."""
        return (*((self.text,) if self.text else ()), *self.without)

    def __str__(self) -> str:
        """Return the query as a person would type it."""
        alone = (parse_query(f"-{term}") == ("", (term,)) for term in self.without)
        terms = (
            f"-{term}" if one else f'-"{term}"'
            for term, one in zip(self.without, alone, strict=True)
        )
        return " ".join([self.text, *terms]).strip()


def parse_query(text: str) -> tuple[str, tuple[str, ...]]:
    """Split a typed query into its text and its excluded terms.

    Args:
        text: such as ``red heart -broken -"birthday cake"``.

    Returns:
        ``red heart`` and ``("broken", "birthday cake")``.
    """
    without: list[str] = []

    def take(found: re.Match[str]) -> str:
        *phrases, word = found.groups()
        phrase = phrases[0] if phrases[0] is not None else phrases[1]
        if phrase is None and not _may_be_excluded(word):
            return found[0]
        without.append((word.rstrip(_ENDS) if phrase is None else phrase).strip())
        return ""

    wanted = _WITHOUT.sub(take, normalise(text))
    return " ".join(wanted.split()), tuple(term for term in without if not is_blank(term))


def _may_be_excluded(word: str) -> bool:
    """Return whether a term follows a hyphen: in ``-5`` and ``-❤️``, not in ``-->`` and ``–so–``."""
    letter = unicodedata.category(word[0])[0] in "LN" or unicodedata.category(word[0]) == "So"
    return letter and re.fullmatch(_HYPHEN, word.rstrip(_ENDS)[-1:]) is None


def checked(query: Query) -> Query:
    """Return a query in its normal form: texts normalised, without the blanks around them.

    Raises:
        QueryError: nothing to look for; a text that is too long or not Unicode; a number out of
            its range.
    """
    empty = is_blank(query.text)
    if query.without and empty and query.like is None:
        raise QueryError(
            "query",
            expected="something to look for besides terms to exclude",
            found=f"{query}"[:60],
            remedy="add a word, or remove the hyphen",
        )
    listed = replace(query, text="" if empty else query.text).is_listing
    text = "" if empty and (query.like is not None or listed) else _checked_text(query.text)
    if len(query.without) > MAX_WITHOUT:
        raise QueryError(
            "query",
            expected=f"at most {MAX_WITHOUT} terms to exclude",
            found=f"{len(query.without)}",
            remedy="remove some",
        )
    check_numbers(query)
    return replace(query, text=text, without=tuple(_checked_text(term) for term in query.without))


def check_numbers(query: Query) -> None:
    """Refuse a number of a query that is out of its range.

    Raises:
        QueryError: there is one.
    """
    _check_range("k", query.k, 1, MAX_K)
    _check_range("offset", query.offset, 0, MAX_DEPTH - query.k)
    if not 0 <= query.weight <= 1:
        raise QueryError(
            "weight",
            expected="0 to 1",
            found=f"{query.weight}",
            remedy="choose a value in that range",
        )
    if query.min_match is not None and not 0 <= query.min_match <= 1:
        raise QueryError(
            "min_match",
            expected="0 to 1",
            found=f"{query.min_match}",
            remedy="choose a value in that range, such as 0.5 for 50 %",
        )
    if query.sort not in (None, "newest", "oldest"):
        raise QueryError(
            "sort",
            expected="newest or oldest",
            found=f"{query.sort!r}",
            remedy="choose one, or omit it to sort by match",
        )


def _checked_text(text: str) -> str:
    """Return a text normalised (``text.py``), without the blanks around it.

    Raises:
        QueryError: it is empty or invisible, longer than 2,000 characters, or not valid Unicode.
    """
    text = normalise(text).strip()
    if is_blank(text):
        raise QueryError(
            "query", expected="some words", found="none", remedy="say what to look for"
        )
    if len(text) > MAX_QUERY:
        raise QueryError(
            "query",
            expected=f"at most {MAX_QUERY:,} characters",
            found=f"{len(text):,}",
            remedy="shorten it",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(
            "query",
            expected="valid Unicode",
            found=ascii(text[error.start : error.end]),
            remedy="check the encoding of the terminal",
        ) from error
    return text


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise QueryError(
            name,
            expected=f"a number of hits from {least} to {most:,}",
            found=f"{value}",
            remedy="ask for another number of hits",
        )
