from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl2cm.data.noise import plant_noise
from cl2cm.types import Example

WORDS = {
    "de": ["ein", "roter", "Hund", "läuft", "über", "die", "grüne", "Wiese", "und", "springt"],
    "zh": list("一只红色的狗跑过绿草地"),
    "hi": ["एक", "लाल", "कुत्ता", "घास", "पर", "दौड़ता", "है"],
}


def example(number, split="train", captions=2):
    """An item with captions of its own, translated by two engines, with scores."""

    def text(code, i):
        words = WORDS[code]
        told = [words[(number + i * k) % len(words)] for k in range(1, 5)]
        return ("" if code == "zh" else " ").join([*told, str(number * 10 + i)])

    columns = {
        code: {name: tuple(text(code, i) for i in range(captions)) for name in ("x", "y")}
        for code in WORDS
    }
    return Example(
        id=f"i{number}",
        split=split,
        features=f"i{number}",
        captions={"en": tuple(f"dog {number} {i}" for i in range(captions)), "de": ("Hund",)},
        translations=columns | {"en": {"back": tuple(f"back {number}" for _ in range(captions))}},
        quality={"de": {"x": tuple(0.5 for _ in range(captions))}},
    )


EXAMPLES = [example(i) for i in range(30)] + [
    example(i, split) for i, split in ((40, "val"), (41, "test"))
]
kinds = pytest.mark.parametrize("kind", ["sentence", "word"])


def plant(examples=EXAMPLES, **changes):
    settings = {"share": 0.4, "kind": "sentence", "seed": 0, "source": "en"} | changes
    return plant_noise(examples, **settings)


def column(examples, code="de", engine="x", split="train"):
    return [
        (e.id, text)
        for e in examples
        if e.split == split
        for text in e.translations.get(code, {}).get(engine, ())
    ]


@kinds
@given(st.floats(0, 1), st.integers(0, 2**62))
def test_only_training_translations_change_and_as_many_as_wanted(kind, share, seed):
    spoilt, changed = plant(share=share, kind=kind, seed=seed)
    assert set(changed) == {f"{code}/{engine}" for code in WORDS for engine in "xy"}
    for before, after in zip(EXAMPLES, spoilt, strict=True):
        assert after.captions == before.captions
        assert after.translations["en"] == before.translations["en"]  # back-translations
        if before.split != "train":
            assert after is before
        for code in WORDS:
            for engine in "xy":
                assert len(after.translations[code][engine]) == 2
    for count, of in changed.values():
        assert abs(count - share * of) <= 2.5  # rounding; and places of one item alone stay


@given(st.floats(0, 1), st.integers(0, 2**62))
def test_sentences_move_to_other_items_and_none_is_lost(share, seed):
    spoilt, _ = plant(share=share, seed=seed)
    for code in WORDS:
        before, after = column(EXAMPLES, code), column(spoilt, code)
        assert Counter(text for _, text in before) == Counter(text for _, text in after)
        owner = {text: name for name, text in before}
        for (name, old), (_, new) in zip(before, after, strict=True):
            assert new == old or owner[new] != name


@given(st.floats(0, 1), st.integers(0, 2**62))
def test_words_are_drawn_from_the_language_and_the_rest_of_a_text_stays(share, seed):
    spoilt, changed = plant(share=share, kind="word", seed=seed)
    before, after = column(EXAMPLES), column(spoilt)
    known = {word for _, text in before for word in text.split()}
    different = 0
    for (_, old), (_, new) in zip(before, after, strict=True):
        assert len(new.split()) == len(old.split())
        assert set(new.split()) <= known
        different += sum(a != b for a, b in zip(old.split(), new.split(), strict=True))
    assert different == changed["de/x"][0] == round(share * changed["de/x"][1])


@kinds
def test_it_is_deterministic_and_each_language_is_on_its_own(kind):
    assert plant(kind=kind) == plant(kind=kind)
    assert plant(kind=kind) != plant(kind=kind, seed=1)
    german = [
        Example(e.id, e.split, features=e.id, captions=e.captions, translations={"de": {"x": e.translations["de"]["x"]}})
        for e in EXAMPLES
    ]  # fmt: skip
    assert column(plant(german, kind=kind)[0]) == column(plant(kind=kind)[0])
    spoilt = plant(kind=kind).examples
    assert column(spoilt, engine="x") != column(spoilt, engine="y")  # engines err on their own


def test_none_is_none_and_all_is_all():
    assert plant(share=0).examples == EXAMPLES
    whole = plant(share=1).changed
    assert set(whole.values()) == {(60, 60)}


@pytest.mark.parametrize("code", ["zh", "hi"])
def test_words_of_other_scripts(code):
    spoilt, changed = plant(kind="word", share=0.5)
    words = [text for _, text in column(EXAMPLES, code)]
    units = sum(len(text) if code == "zh" else len(text.split()) for text in words)
    if code == "zh":
        units = sum(sum(not c.isascii() for c in text) + 1 for text in words)
    assert changed[f"{code}/x"] == (round(units / 2), units)
    if code == "hi":
        known = {word for text in words for word in text.split()}
        assert {word for _, text in column(spoilt, code) for word in text.split()} <= known


def test_punctuation_and_spaces_stay():
    items = [
        Example(f"i{i}", "train", features="f", captions={"en": ("a",)}, translations={"fr": {"x": (text,)}})
        for i, text in enumerate(["«Un chien,  rouge!»", "un chat (noir)…"])
    ]  # fmt: skip
    text = plant(items, kind="word", share=1).examples[0].translations["fr"]["x"][0]
    assert text.startswith("«")
    assert text.endswith("!»")
    assert ",  " in text


def test_a_changed_translation_has_no_score():
    spoilt = plant().examples
    for before, after in zip(EXAMPLES, spoilt, strict=True):
        for i in range(2):
            same = after.translations["de"]["x"][i] == before.translations["de"]["x"][i]
            assert after.quality["de"]["x"][i] == (0.5 if same else None)


@kinds
@pytest.mark.parametrize("texts", [["a"], ["a", "a"], ["a", "a", "b"], ["a", None]])
def test_what_cannot_be_changed_stays_and_is_not_counted(kind, texts):
    items = [
        Example(f"i{i}", "train", features="f", captions={"en": ("x",)}, translations={"de": {"x": (text,)}})
        for i, text in enumerate(texts)
    ]  # fmt: skip
    spoilt, changed = plant(items, kind=kind, share=1)
    found = [e.translations["de"]["x"][0] for e in spoilt]
    assert changed["de/x"][0] == sum(a != b for a, b in zip(texts, found, strict=True))
    assert [text is None for text in found] == [text is None for text in texts]
