import sys
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl2cm.errors import MissingExtraError
from cl2cm.translate import quality
from cl2cm.translate.quality import (
    Parts,
    Strangers,
    chrf,
    copied_share,
    language_share,
    length_ratio,
    score,
)
from cl2cm.translate.scoring import Sentence, asked_pairs, score_sentences, stranger_pairs

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
needs_identifier = pytest.mark.skipif(
    find_spec("py3langid") is None, reason="pip install 'cl2cm[translate]'"
)


# --- chrF ------------------------------------------------------------------------------------


def test_chrf_by_hand():
    # Orders 1 and 2 of "ab" against "abc": precision 1, 1; recall 2/3, 1/2.
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    assert chrf("ab", "abc") == pytest.approx(5 * precision * recall / (4 * precision + recall))
    assert chrf("a dog", "a dog") == pytest.approx(1)
    assert chrf("a b c", "abc") == pytest.approx(1)  # white space does not count
    assert chrf("abc", "xyz") == chrf("", "abc") == chrf("abc", "") == 0


@given(texts, texts)
def test_chrf_is_that_of_sacrebleu(hypothesis, reference):
    metrics = pytest.importorskip("sacrebleu.metrics")
    oracle = metrics.CHRF()
    expected = oracle.sentence_score(hypothesis, [reference]).score / 100
    assert chrf(hypothesis, reference) == pytest.approx(expected, abs=1e-9)


# --- parts -----------------------------------------------------------------------------------


def test_lengths_are_counted_in_letters():
    assert length_ratio("a dog", "ein Hund") == pytest.approx(7 / 4)
    assert length_ratio("", "x") == 1


@pytest.mark.parametrize(
    ("translation", "share"),
    [
        ("a dog on a boat", 1),
        ("A DOG", 1),
        ("ein Hund auf a boat", 1 / 4),
        ("狗在船上", 0),
        ("ein Hund", 0),
        ("!", 0),
    ],
)
def test_words_that_stand_in_the_source_are_copied(translation, share):
    assert copied_share("A dog on a boat", translation) == pytest.approx(share)


def test_a_text_without_words_is_a_copy_of_itself():
    assert copied_share("7", "7") == 1
    assert copied_share("7", "8") == 0


@needs_identifier
@pytest.mark.parametrize(
    ("text", "target", "low", "high"),
    [
        ("Ein schwarzer Hund rennt durch den Schnee.", "de", 0.95, 1),
        ("A black dog runs through the snow.", "de", 0, 0.05),
        ("Un chien noir court dans la neige.", "de", 0, 0.05),
        ("一只黑狗在雪地里奔跑", "zh-Hans", 0.95, 1),
        ("En svart hund løper gjennom snøen.", "nb", 0.5, 1),
    ],
)
def test_the_language_is_seen(text, target, low, high):
    assert low <= language_share(text, target, "en") <= high


@needs_identifier
def test_an_unknown_language_says_nothing():
    assert language_share("nuqneH", "tlh", "en") is None
    assert score(Parts(1, 0, None)) == 1


def test_a_missing_identifier_names_the_install_line(monkeypatch):
    quality._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(MissingExtraError, match=r"cl2cm\[translate\]"):
        language_share("a", "de", "en")


# --- score -----------------------------------------------------------------------------------

shares = st.floats(0, 1)
parts = st.builds(
    Parts,
    st.floats(0, 100),
    shares,
    st.none() | shares,
    st.none() | st.floats(-1, 1),
    st.none() | shares,
)


@given(parts)
def test_a_score_is_from_0_to_1(given_parts):
    assert 0 <= score(given_parts) <= 1


@given(parts, st.floats(0, 0.5))
def test_a_better_part_never_makes_a_worse_score(these, more):
    before = score(these)
    if these.cosine is not None:
        assert score(these._replace(cosine=these.cosine + more)) >= before
    if these.chrf is not None:
        assert score(these._replace(chrf=these.chrf + more)) >= before
    if these.language is not None:
        assert score(these._replace(language=min(1, these.language + more))) >= before
    assert score(these._replace(copied=max(0, these.copied - more))) >= before
    assert score(these._replace(length=1)) >= before


def test_a_score_by_hand():
    strangers = Strangers(0.7, 0.1)
    assert strangers.likeness(0.9) == pytest.approx(0.5)
    assert strangers.likeness(0.7) == pytest.approx(0.1192, abs=1e-4)
    assert score(Parts(1, 0, 1, 0.9), strangers) == pytest.approx(0.5)
    assert score(Parts(2, 0.75, 0.5, 0.9), strangers) == pytest.approx(
        0.5 * 0.60653 * 0.5 * 0.5, abs=1e-5
    )
    assert score(Parts(1, 1, 1, 1.0)) == 0  # a copy


def test_few_strangers_say_nothing():
    usual = Strangers(0.5, 0.1)
    assert Strangers.of([0.9] * 19, usual) == usual
    assert Strangers.of([0.8, 0.9] * 10, usual) == pytest.approx((0.85, 0.05))


# --- columns ---------------------------------------------------------------------------------


@given(st.lists(st.builds(Sentence, texts, texts), max_size=30))
def test_strangers_do_not_belong_together(sentences):
    pairs = stranger_pairs(sentences)
    assert pairs == stranger_pairs(sentences)
    assert len(set(pairs)) == len(pairs) <= 500
    for i, j in pairs:
        assert sentences[i].source != sentences[j].source
        assert sentences[i].translation != sentences[j].translation
    assert len(asked_pairs(sentences)) == len(sentences) + len(pairs)


WORDS = ["Hund", "Katze", "Boot", "Haus", "Kind", "Ball", "Schnee", "Wasser", "Fahrrad", "Baum"]


@needs_identifier
def test_wrong_translations_score_below_right_ones():
    right = [
        Sentence(f"the {a} and the {b}", f"Das ist {a} und dort ist {b}", f"the {a} and the {b}")
        for a in WORDS
        for b in WORDS
        if a != b
    ]
    sentences = [
        one if i % 5 else one._replace(translation=right[-i].translation, back=right[-i].back)
        for i, one in enumerate(right, start=1)
    ]
    found = [one.score for one in score_sentences(sentences, source="en", target="de")]
    wrong = [x for i, x in enumerate(found, start=1) if i % 5 == 0]
    good = [x for i, x in enumerate(found, start=1) if i % 5]
    above = sum(g > w for g in good for w in wrong) / (len(good) * len(wrong))
    assert above > 0.9


@needs_identifier
def test_a_column_of_nothing_has_no_scores():
    assert score_sentences([], source="en", target="de") == []
    [alone] = score_sentences([Sentence("a dog", "ein Hund")], source="en", target="de")
    assert 0 <= alone.score <= 1
