"""The protocol of translation engines."""

from collections.abc import Sequence
from typing import Protocol


class Translator(Protocol):
    """An engine for one direction; equal texts always get equal translations.

    Attributes:
        name: of its columns in a manifest.
        version: changes whenever its translations may change.
        licence: of the engine and its data.
        source: language that it reads.
        target: language that it writes.
        batch: texts that one call is best given.
        own_threads: one call uses all cores; where False, calls may run side by side.
    """

    name: str
    version: str
    licence: str
    source: str
    target: str
    batch: int
    own_threads: bool

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Return one translation per text, in order; ``""`` if there is none. Thread-safe.

        Raises:
            WeightsError: the model is damaged or not there.
        """
        ...
