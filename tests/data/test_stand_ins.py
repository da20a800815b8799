from cl2cm.data.stand_ins import with_stand_ins
from cl2cm.types import Example


def example(name, **captions):
    return Example(
        name,
        "val",
        features=name,
        captions={"en": ("a dog", "a cat"), **captions},
        translations={
            "de": {"x": (None, "Katze"), "y": ("Hund", "Kater")},
            "fr": {"x": ("chien", None)},
        },
        quality={"de": {"x": (None, 0.2)}},
    )


def test_translations_stand_where_nobody_captioned():
    filled, languages = with_stand_ins([example("a")], ["de", "fr", "zh"])
    assert languages == ["de", "fr"]
    assert filled[0].captions == {
        "en": ("a dog", "a cat"),
        "de": ("Hund", "Katze"),  # of the first engine that has one
        "fr": ("chien",),
    }


def test_engines_and_quality_choose_among_them():
    assert with_stand_ins([example("a")], ["de"], engines=["x"])[0][0].captions["de"] == ("Katze",)
    filled, _ = with_stand_ins([example("a")], ["de"], min_quality=0.5)
    assert filled[0].captions["de"] == ("Hund", "Kater")


def test_one_human_caption_keeps_translations_away():
    examples = [example("a", de=("ein Hund",)), example("b")]
    filled, languages = with_stand_ins(examples, ["de"])
    assert filled == examples
    assert languages == []
