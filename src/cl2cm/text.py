"""Text normalisation: one spelling for texts that look the same.

Unicode can write "é" as one character or as two, and allows invisible characters within words. A
tokenizer gives each spelling tokens of its own, so captions, translations, queries and names to
compare pass through here first. The identifier of languages is loaded here, too.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# Characters without an appearance of their own, which change no word: controls other than white
# space, soft hyphen, combining grapheme joiner, Arabic tatweel (which only stretches a word),
# Arabic letter mark, zero-width space, direction marks, embeddings and isolates, word joiner and
# invisible operators, byte order mark, interlinear annotation, language tag. The zero-width
# non-joiner (U+200C) and joiner (U+200D) stay: Persian words and emoji are spelt with them.
INVISIBLE = (
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u0640\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0001]"
)
NORMAL_FORM = {"form": "NFC", "remove": INVISIBLE}  # what `normalise` does, for a model's contract
_INVISIBLE = re.compile(INVISIBLE)
# What stays in a text but shows nothing when alone: joiners, variation selectors, Mongolian and
# Khmer marks, Hangul fillers, the blank Braille pattern, tags.
_BLANK = re.compile(
    "[\\s\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c\u200d\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0020-\U000e007f\U000e0100-\U000e01ef]*"
)


def normalise(text: str) -> str:
    """Return a text in Unicode's composed form (NFC), without invisible characters.

    White space, U+200C and U+200D stay as they are; normalising twice changes nothing.
    """
    if text.isascii() and text.isprintable():
        return text
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", text))


Case = Literal["keep", "capitals", "lower"]
CASES: tuple[str, ...] = get_args(Case)
_FEW = 0.05  # of the training texts
_TURKISH = re.compile("[\u0130\u011e\u015e\u011f\u015f\u0131]")  # İĞŞğşı: beside them, I is dotless


def case_rule(texts: Iterable[str]) -> Case:
    """Return how queries are to be written for a model that was trained on some texts.

    ``lower``: next to no training text holds a capital. A query in capitals alone is lower-cased,
    and the first letter of any other. ``capitals``: only a query in capitals alone is lower-cased.
    Other capitals are kept in both, since they carry meaning, as in German nouns. ``keep``:
    many training texts are in capitals alone.
    """
    cased = capital = alone = 0
    for text in texts:
        upper, lower = text != text.lower(), text != text.upper()
        cased += upper or lower
        capital += upper
        alone += upper and not lower
    if capital <= _FEW * cased:
        return "lower"
    return "keep" if alone > _FEW * cased else "capitals"


def in_case(text: str, rule: Case) -> str:
    """Return a query in the case that a rule asks for, of the same length.

    Two letters or more without a lower-case one are capitals alone. The dotted capital I of Turkish
    becomes i, and the one without a dot becomes ı where a letter of Turkish is beside it.
    """
    if rule == "keep" or (rule == "capitals" and not _is_capitals(text)):
        return text
    lowered = text.replace("I", "ı") if _TURKISH.search(text) else text
    lowered = lowered.replace("\u0130", "i").lower()
    if _is_capitals(text):
        return lowered
    first = next((place for place, letter in enumerate(text) if letter.isalpha()), 0)
    return text[:first] + lowered[first : first + 1] + text[first + 1 :]


def _is_capitals(text: str) -> bool:
    letters = [letter for letter in text if letter.lower() != letter.upper()]
    return len(letters) > 1 and not any(letter != letter.upper() for letter in letters)


def one_line(text: str) -> str:
    """Return a normalised text whose white space, of any kind, is single blanks between words."""
    return " ".join(normalise(text).split())


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing: it is empty, or all white space and invisible."""
    return _BLANK.fullmatch(normalise(text)) is not None


def name_form(name: str) -> str:
    """Return the form in which names of files, folders and ids are compared.

    Names are composed (NFC) and otherwise left alone: macOS hands names over decomposed.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def spellings(name: str) -> tuple[str, ...]:
    """Return the forms under which a name may be stored: as given, composed, decomposed."""
    if name.isascii():
        return (name,)
    forms = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    return tuple(dict.fromkeys(forms))


def new_identifier() -> "LanguageIdentifier | None":
    """Return an identifier of languages, whose probabilities sum to 1; None without py3langid."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415 - 0.7 s
    except ImportError:
        return None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
