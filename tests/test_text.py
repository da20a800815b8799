"""The normal form of text: one spelling, nothing invisible, nothing else lost."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl2cm.text import case_rule, in_case, is_blank, name_form, normalise, one_line, spellings

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


@pytest.mark.parametrize(
    ("texts", "rule"),
    [
        (["red heart", "rotes herz", "红心"] * 20, "lower"),
        (["A dog.", "Ein Hund im Schnee."], "capitals"),
        (["A DOG", "A CAT"], "keep"),
        (["红心", "كلب"], "lower"),
        ([], "lower"),
        (["a dog"] * 30 + ["a TV"], "lower"),
    ],
)
def test_the_rule_of_capitals_follows_the_training_texts(texts, rule):
    assert case_rule(texts) == rule


@pytest.mark.parametrize(
    ("text", "capitals", "lower"),
    [
        ("ROTES HERZ", "rotes herz", "rotes herz"),
        ("Rotes Herz", "Rotes Herz", "rotes Herz"),
        ("rotes Herz", "rotes Herz", "rotes Herz"),
        ("«Haus»", "«Haus»", "«haus»"),
        ("red heart", "red heart", "red heart"),
        ("КРАСНОЕ СЕРДЦЕ!", "красное сердце!", "красное сердце!"),
        ("KIRMIZI ÇİÇEK", "kırmızı çiçek", "kırmızı çiçek"),
        ("İstanbul", "İstanbul", "istanbul"),
        ("Işık", "Işık", "ışık"),
        ("SUMMER IN PARIS", "summer in paris", "summer in paris"),
        ("STRASSE ẞ", "strasse ß", "strasse ß"),
        ("A", "A", "a"),
        ("红心 كلب", "红心 كلب", "红心 كلب"),
        ("", "", ""),
    ],
)
def test_capitals_of_a_query(text, capitals, lower):
    assert in_case(text, "keep") == text
    assert in_case(text, "capitals") == capitals
    assert in_case(text, "lower") == lower


@given(st.text())
def test_the_case_of_a_text_does_not_change_its_length(text):
    for rule in ("keep", "capitals", "lower"):
        assert len(in_case(text, rule)) == len(text)
        assert in_case(in_case(text, rule), rule) == in_case(text, rule)
