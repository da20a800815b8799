"""Machine translation: of a manifest's captions, and of queries for ``translate-test``."""

from cl2cm.translate.protocol import Translator
from cl2cm.translate.registry import (
    ENGINES,
    find_translator,
    find_translators,
    open_translator,
)

__all__ = ["ENGINES", "Translator", "find_translator", "find_translators", "open_translator"]
