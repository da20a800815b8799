"""Normal form of text: one spelling for what a reader cannot tell apart.

Unicode writes "é" as one character or as two, and allows characters that nobody sees within a
word. A tokenizer gives each spelling tokens of its own, so captions, translations, queries and
names to compare pass through here first.
"""

import re
import unicodedata

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
