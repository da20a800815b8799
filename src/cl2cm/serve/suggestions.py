"""Queries to try in a collection without captions: everyday things of which it seems to have some.

A short list of things that are often photographed or drawn is compared with the index; those whose
best hit matches best are offered, each in another language.
"""

import tomllib
from importlib import resources

from cl2cm.search.match import FITS
from cl2cm.search.query import Query
from cl2cm.search.searcher import Searcher

_SHOWN = 6


def suggest(searcher: Searcher) -> list[tuple[str, str]]:
    """Return queries that the collection can probably answer, each with its language."""
    things = _things()
    answers = searcher.search_texts([thing["en"] for thing in things], Query(k=1))
    ranked = sorted(
        ((matches[0] if matches else 0.0, number) for number, (_, matches) in enumerate(answers)),
        key=lambda pair: (-pair[0], pair[1]),
    )
    good = [number for match, number in ranked if match >= FITS] or [ranked[0][1]]
    languages = list(things[0])
    chosen = zip(languages, good[:_SHOWN], strict=False)
    return [(language, things[number][language]) for language, number in chosen]


def _things() -> list[dict[str, str]]:
    file = resources.files("cl2cm.serve") / "things.toml"
    found: list[dict[str, str]] = tomllib.loads(file.read_text("utf-8"))["things"]
    return found
