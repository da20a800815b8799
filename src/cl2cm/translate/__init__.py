"""Machine translation of queries, for the baseline ``translate-test`` of method.md.

One file for each engine. Importing this loads none of them; `find_translator` does, and says what
to install if the engine of a direction is not there.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from cl2cm.translate import bergamot

__all__ = ["Translator", "find_translator", "find_translators"]


class Translator(Protocol):
    """An engine for one direction; equal texts always get equal translations.

    Attributes:
        name: of the engine.
        source: language that it reads.
        target: language that it writes.
    """

    name: str
    source: str
    target: str

    def translate(self, texts: Sequence[str]) -> list[str]:
        """One translation of each text, in order; never an empty one of a text that has words."""
        ...


def find_translator(source: str, target: str) -> Translator | None:
    """The engine from one language into another; None where there is none for the direction.

    Raises:
        MissingExtraError: there is one, but the extra ``translate`` is not installed.
    """
    if (source, target) in bergamot.MODELS:
        return bergamot.BergamotTranslator(source, target)
    return None


def find_translators(sources: Iterable[str], target: str) -> dict[str, Translator]:
    """Engines into one language, of those source languages that have one.

    Raises:
        MissingExtraError: the extra ``translate`` is not installed, and one needs it.
    """
    found = {source: find_translator(source, target) for source in sources}
    return {source: engine for source, engine in found.items() if engine is not None}
