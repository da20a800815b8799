"""The normal form of text: one spelling, nothing invisible, nothing else lost."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl2cm.text import is_blank, name_form, normalise, one_line, spellings

WORDS = ("빨간 하트", "りんご", "ガラス", "கோழி", "Käfer", "الأحمر", "Tiếng Việt", "naïve café")


@pytest.mark.parametrize("word", WORDS)
def test_a_word_has_one_spelling(word):
    assert normalise(unicodedata.normalize("NFD", word)) == unicodedata.normalize("NFC", word)


INVISIBLE = "\u00ad\u200b\u200e\u200f\ufeff\u0640\u2060\u061c\u202a\u202e\u2066\u2069\u034f\x00\x07"


@pytest.mark.parametrize("character", INVISIBLE)
def test_invisible_characters_go(character):
    assert normalise(f"he{character}art") == "heart"
    assert is_blank(f" {character}")


@pytest.mark.parametrize(
    "text", ["می\u200cخواهم", "क्\u200dष", "👩\u200d🚀", "❤\ufe0f", "a\tb\nc", "ﬁ ½ Ａ"]
)
def test_what_spells_a_word_stays(text):
    assert normalise(text) == text
    assert not is_blank(text)


@pytest.mark.parametrize(
    "text", ["", " \t\n", "\u200c", "\u200d \ufe0f", "\u3164", "\u2800", "\u3000"]
)
def test_what_nobody_sees_is_blank(text):
    assert is_blank(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_twice_is_once(text):
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert one_line(one_line(text)) == one_line(text) == " ".join(once.split())
    assert is_blank(text) == is_blank(once)


def test_names_are_compared_in_one_form():
    composed, decomposed = "Ka\u0308fer/e\u0301.jpg", "K\u00e4fer/\u00e9.jpg"
    assert name_form(composed) == name_form(decomposed)
    assert set(spellings(composed)) == set(spellings(decomposed)) == {composed, decomposed}
    assert spellings("plain/a.jpg") == ("plain/a.jpg",)
    assert name_form("a\u200bb") == "a\u200bb"  # another file
