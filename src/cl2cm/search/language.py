"""In which language a query is, as far as its letters tell; for display, never for the search.

py3langid reads 139 languages; those that search is asked in most are told apart here, and a guess
that is not likely enough is none: one or two words may be right in several languages.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

from cl2cm.text import new_identifier

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

TOLD_APART = (
    *("ar", "bg", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu"),
    *("id", "it", "ja", "ko", "nl", "no", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "vi"),
    "zh",
)
SURE = 0.5  # such guesses: 98 % right on names of 16 letters or more, 99.9 % on sentences
SURE_SHORT = 0.8  # such guesses: all right on 2,152 names of up to 15 letters
_SHORT = 16  # letters


@lru_cache(maxsize=4096)
def identify(text: str) -> str | None:
    """Return the language of a text, as an ISO 639-1 code; None where it is not clear.

    It is never clear without py3langid, which the extra ``serve`` brings.
    """
    identifier = _identifier()
    if identifier is None:
        return None
    language, probability = identifier.rank(text)[0]
    short = sum(letter.isalpha() for letter in text) < _SHORT
    return str(language) if probability >= (SURE_SHORT if short else SURE) else None


@lru_cache(maxsize=1)
def _identifier() -> "LanguageIdentifier | None":
    made = new_identifier()
    if made is not None:
        made.set_languages(TOLD_APART)
    return made
