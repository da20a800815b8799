"""What a person types, what it means, and near-duplicates shown once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl2cm.errors import QueryError
from cl2cm.search.folding import fold
from cl2cm.search.language import identify
from cl2cm.search.query import MAX_WITHOUT, Query, checked, parse_query
from cl2cm.text import one_line
from cl2cm.types import Hit


@pytest.mark.parametrize(
    ("typed", "wanted", "unwanted"),
    [
        ("red heart", "red heart", ()),
        ("red heart -broken", "red heart", ("broken",)),
        ('heart -"birthday cake" big -red', "heart big", ("birthday cake", "red")),
        ("قلب -أحمر", "قلب", ("أحمر",)),
        ("心 -红色", "心", ("红色",)),
        ("-snow dog", "dog", ("snow",)),
        ("black-and-white t - shirt --", "black-and-white t - shirt --", ()),
        ("-5 degrees", "degrees", ("5",)),
        ('a -"" b -"open', 'a b -"open', ()),
        ("", "", ()),
    ],
)
def test_a_hyphen_before_a_word_leaves_it_out(typed, wanted, unwanted):
    assert parse_query(typed) == (wanted, unwanted)


HYPHENS = "-\u2010\u2011\u2012\u2013\u2014\u2212\uff0d\ufe63\ufe58\u2796\u05be\u30fc"


@pytest.mark.parametrize("hyphen", [*HYPHENS, "\u2796\ufe0f"])
@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u202f", "\u3000", "\t"])
def test_every_hyphen_of_a_keyboard_excludes(hyphen, blank):
    assert parse_query(f"heart{blank}{hyphen}red") == ("heart", ("red",))
    assert parse_query(f"{hyphen}red{blank}heart") == ("heart", ("red",))
    assert parse_query(f"T{hyphen}shirt 5{hyphen}10 a {hyphen} b") == (
        f"T{hyphen}shirt 5{hyphen}10 a {hyphen} b",
        (),
    )


@pytest.mark.parametrize(
    "quoted",
    [
        '"a cake"', "“a cake”", "„a cake“", "”a cake”", "«a cake»", "«\u00a0a cake\u00a0»", "»a cake«",
        "‹a cake›", "「a cake」", "『a cake』", "＂a cake＂", "‘a cake’", "'a cake'", "‚a cake‘", '“a cake"',
    ],
)  # fmt: skip
@pytest.mark.parametrize("hyphen", "-–－")
def test_every_quotation_mark_holds_a_phrase(quoted, hyphen):
    assert parse_query(f"heart {hyphen}{quoted} big") == ("heart big", ("a cake",))


@pytest.mark.parametrize(
    ("typed", "wanted", "unwanted"),
    [
        ("heart -❤️", "heart", ("❤️",)),
        ("flag –🇩🇪 −👩‍🚀", "flag", ("🇩🇪", "👩‍🚀")),
        ("heart -red, big -blue.", "heart big", ("red", "blue")),
        ("heart -‘dog’s tail’", "heart", ("dog’s tail",)),
        ("black-and-white well–known 5-10 T‑shirt", "black-and-white well–known 5-10 T‑shirt", ()),
        ("so –big– a", "so –big– a", ()),
        ("a --> b <-- c ->d :-) -_-", "a --> b <-- c ->d :-) -_-", ()),
        ("red --broken", "red --broken", ()),
        ("heart -T-shirt", "heart", ("T-shirt",)),
        ("- red", "- red", ()),
        ("ラーメン", "ラーメン", ()),
        ("心 ー赤", "心", ("赤",)),
    ],
)
def test_what_else_stands_beside_a_hyphen(typed, wanted, unwanted):
    assert parse_query(typed) == (wanted, unwanted)


@given(st.text(max_size=60))
def test_whatever_is_typed_is_understood_once(typed):
    wanted, unwanted = parse_query(typed)
    assert all(term.strip() == term and term for term in unwanted)
    again = parse_query(str(Query(wanted, unwanted)))
    if not any(mark in typed for mark in '"-'):
        assert again == (one_line(typed), ())


@pytest.mark.parametrize("typed", ["\u200b", "\u200e \ufeff", "\u00ad", "\0", "\u0640", "\u200c"])
def test_a_query_that_nobody_sees_is_no_query(typed):
    with pytest.raises(QueryError, match="some words"):
        checked(Query(typed))
    assert checked(Query(typed, like="x")).texts == ()


def test_a_query_is_normalised():
    assert checked(Query("he\u00adart\u200e", ("cafe\u0301",))).texts == ("heart", "caf\u00e9")
    assert parse_query("\u200e-ro\u200bt Ka\u0308fer") == ("K\u00e4fer", ("rot",))
    assert checked(Query("می\u200cخواهم")).text == "می\u200cخواهم"


def test_a_query_is_checked_whole():
    assert checked(Query("  a ", (" b",))).texts == ("a", "b")
    assert checked(Query("", like="x")).texts == ()
    assert checked(Query(" ", ("b",), like="x")).texts == ("b",)
    for bad in (
        Query(""), Query("", ("b",)), Query("a", ("",)), Query("a", ("b",) * (MAX_WITHOUT + 1)),
        Query("a", k=0), Query("a", k=1001), Query("a", k=1000, offset=9001),
        Query("a", weight=1.1), Query("a", ("b" * 2001,)),
    ):  # fmt: skip
        with pytest.raises(QueryError):
            checked(bad)


def unit(*values):
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def test_near_duplicates_and_moments_of_a_film_are_shown_once():
    hits = [
        Hit("a", 0.9, "/a.png"), Hit("a copy", 0.89, "/b.png"), Hit("f1", 0.8, "/f.mp4", 0.0, 2.0),
        Hit("c", 0.7, "/c.png"), Hit("f2", 0.6, "/f.mp4", 2.0, 4.0), Hit("a2", 0.5, "/d.png"),
        Hit("same file, whole", 0.4, "/c.png"),
    ]  # fmt: skip
    vectors = np.stack(
        [unit(1, 0, 0), unit(1, 0.05, 0), unit(0, 1, 0), unit(0, 0, 1), unit(1, 1, 1),
         unit(1, 0, 0.01), unit(1, -1, 0)]
    )  # fmt: skip
    groups = [[hit.id for hit in group] for group in fold(hits, vectors)]
    assert groups == [["a", "a copy", "a2"], ["f1", "f2"], ["c"], ["same file, whole"]]
    assert fold([], np.empty((0, 3), np.float32)) == []


def test_a_group_that_began_stays_when_more_hits_come():
    rng = np.random.default_rng(1)
    base = rng.standard_normal((6, 16))
    vectors = np.stack([unit(*(base[i % 6] + 0.02 * rng.standard_normal(16))) for i in range(40)])
    hits = [Hit(str(i), 1 - i / 50, f"/{i}.png") for i in range(40)]
    whole = [group[0].id for group in fold(hits, vectors)]
    for count in (1, 5, 17, 39):
        part = [group[0].id for group in fold(hits[:count], vectors[:count])]
        assert whole[: len(part)] == part


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Ein Hund läuft durch den Schnee", "de"), ("a dog runs through the snow", "en"),
        ("un chien court dans la neige", "fr"), ("un perro corre por la nieve", "es"),
        ("一只狗在雪地里奔跑", "zh"), ("كلب يركض في الثلج", "ar"), ("雪の中を走る犬", "ja"),
        ("Мальчик и собака бегут по снегу", "ru"), ("눈 속을 달리는 개", "ko"), ("??", None), ("x", None),
    ],
)  # fmt: skip
def test_the_language_of_a_query(text, language):
    assert identify(text) == language
