"""Scores in a manifest, and what training makes of them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cl2cm.data.manifest import read_manifest, write_manifest
from cl2cm.data.pairs import Texts, caption_pairs
from cl2cm.errors import ConfigError, ManifestError
from cl2cm.model.settings import DataConfig
from cl2cm.types import Example

# --- the manifest's key ----------------------------------------------------------------------

GOOD = Example(
    "a",
    "train",
    features="f",
    captions={"en": ("a", "b")},
    translations={"zh": {"x": ("甲", None)}},
    quality={"zh": {"x": (0.25, None)}},
)


def test_scores_come_back_as_they_were(tmp_path):
    write_manifest(tmp_path / "m.jsonl", [GOOD])
    assert list(read_manifest(tmp_path / "m.jsonl")) == [GOOD]
    write_manifest(tmp_path / "n.jsonl", [replace(GOOD, quality={})])
    assert "quality" not in (tmp_path / "n.jsonl").read_text()


@pytest.mark.parametrize(
    ("quality", "word"),
    [
        ({"zh": {"x": [0.5]}}, "2 scores.*found 1"),
        ({"zh": {"x": [0.5, None, None]}}, "found 3"),
        ({"zh": {"x": [1.5, None]}}, r"quality\.zh\.x\[0\].*0 to 1"),
        ({"zh": {"x": [-0.1, None]}}, "0 to 1"),
        ({"zh": {"x": [True, None]}}, "0 to 1"),
        ({"zh": {"x": ["0.5", None]}}, "0 to 1"),
        ({"zh": {"x": [0.5, 0.5]}}, r"\[1\].*score of no text"),
        ({"zh": {"y": [0.5, None]}}, "no such translations"),
        ({"de": {"x": [0.5, None]}}, "no such translations"),
        ({"zh_CN": {"x": [0.5, None]}}, "zh-CN"),
        ({"zh": {"x": None}}, "scores"),
        ({"zh": [0.5]}, "object"),
        (None, "object"),
    ],
)
def test_a_bad_score_is_an_error_with_its_place(tmp_path, quality, word):
    write_manifest(tmp_path / "m.jsonl", [replace(GOOD, quality={})])
    value = json.loads((tmp_path / "m.jsonl").read_text())
    (tmp_path / "m.jsonl").write_text(json.dumps({**value, "quality": quality}) + "\n")
    with pytest.raises(ManifestError, match=word) as caught:
        list(read_manifest(tmp_path / "m.jsonl"))
    assert "m.jsonl:1: quality" in str(caught.value)


# --- training --------------------------------------------------------------------------------


def example(name, columns, quality):
    return Example(
        name,
        "train",
        captions={"en": tuple(f"{name}{i}" for i in range(len(next(iter(columns.values())))))},
        translations={"xx": columns},
        quality={"xx": quality} if quality else {},
    )


def paired(examples, **options):
    texts = Texts()
    pairs = caption_pairs(examples, texts, source="en", languages=("xx",), **options)
    return pairs, texts.all()


SCORED = [
    example("p", {"a": ("good", "bad"), "b": ("fair", "none")}, {"a": (0.8, 0.1), "b": (0.2, None)})
]


def test_translations_below_the_threshold_are_left_out():
    pairs, texts = paired(SCORED, min_quality=0.15)
    assert [texts[row] for row in pairs.target] == ["good", "fair", "none"]
    pairs, texts = paired(SCORED, min_quality=0.5)
    assert [texts[row] for row in pairs.target] == ["good", "none"]  # no score is no bad score


def test_a_pair_without_a_good_translation_is_no_pair():
    two = [example("p", {"a": ("good", "bad")}, {"a": (0.9, 0.1)})]
    pairs, texts = paired(two, min_quality=0.5)
    assert [texts[row] for row in pairs.source] == ["p0"]
    with pytest.raises(ManifestError):
        paired(two, min_quality=0.95)


@pytest.mark.parametrize("option", ["min_quality", "quality_weighting"])
def test_scores_that_are_asked_for_must_be_there(option):
    with pytest.raises(ConfigError, match="cl2cm translate MANIFEST --report"):
        paired([example("p", {"a": ("x",)}, {})], **{option: 0.5})


def test_translations_are_drawn_as_often_as_they_are_good():
    pairs, texts = paired(SCORED, quality_weighting=1.0)
    rng = np.random.default_rng(0)
    language, choices = pairs.draw(np.zeros(4000, dtype=np.int64), rng)
    assert set(language) == {0}
    share = np.mean([texts[row] == "good" for row in pairs.target[choices]])
    assert share == pytest.approx(0.8, abs=0.03)
    squared, texts = paired(SCORED, quality_weighting=2.0)
    _, choices = squared.draw(np.zeros(4000, dtype=np.int64), rng)
    share = np.mean([texts[row] == "good" for row in squared.target[choices]])
    assert share == pytest.approx(0.64 / 0.68, abs=0.03)


def test_pairs_are_seen_as_often_as_they_are_good():
    column = tuple(f"t{i}" for i in range(10))
    pairs, _ = paired(
        [example("p", {"a": column}, {"a": (0.9,) * 5 + (0.1,) * 5})], quality_weighting=1.0
    )
    counts = np.zeros(10)
    for seed in range(300):
        order = pairs.order(np.random.default_rng(seed))
        assert len(order) == len(pairs)
        counts += np.bincount(order, minlength=10)
    np.testing.assert_allclose(counts[:5] / 300, 1.8, atol=0.15)
    np.testing.assert_allclose(counts[5:] / 300, 0.2, atol=0.15)


def test_without_weighting_nothing_changes():
    pairs, _ = paired(SCORED, min_quality=0.01)
    assert pairs.weights is None
    np.testing.assert_array_equal(
        pairs.order(np.random.default_rng(3)), np.random.default_rng(3).permutation(len(pairs))
    )


def test_draws_stay_inside_their_pair():
    rng = np.random.default_rng(1)
    examples = []
    for i in range(20):
        columns = {e: (f"{e}{i}",) for e in "abc"}
        quality = {e: (float(rng.choice([0, 1e-9, 0.5, 1])),) for e in "abc"}
        examples.append(example(f"p{i}-", columns, quality))
    pairs, texts = paired(examples, quality_weighting=3.0)
    for pair in range(20):
        language, choices = pairs.draw(np.full(200, pair), rng)
        assert {texts[row][1:] for row in pairs.target[choices]} == {str(pair)}
        assert set(language) == {0}


@pytest.mark.parametrize(
    ("key", "value"), [("min_quality", -0.1), ("min_quality", 1.1), ("quality_weighting", -1)]
)
def test_settings_out_of_range_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"data.{key}"):
        DataConfig(**{key: value})


def test_a_run_trains_on_what_is_good(settings, small, tmp_path):
    from cl2cm.training.loop import train

    def scored(number, made):
        """Every third picture's translations are bad."""
        value = 0.1 if number % 3 == 0 else 0.9
        return {
            language: {e: tuple(text and value for text in column) for e, column in by.items()}
            for language, by in made.translations.items()
        }

    path = small.manifest.with_name("scored.jsonl")
    examples = [
        replace(one, quality=scored(i, one)) for i, one in enumerate(read_manifest(small.manifest))
    ]
    write_manifest(path, examples)
    data = {"manifest": str(path), "min_quality": 0.3, "quality_weighting": 1.0}
    config = settings("translate-train", data=data, train={"epochs": 1})
    counts = train(config, tmp_path / "run")["data"]["caption_pairs"]
    path.unlink()
    good = [e.translations for i, e in enumerate(examples) if i % 3 and e.split == "train"]
    captions = [zip(*(c for by in t.values() for c in by.values()), strict=True) for t in good]
    assert counts == sum(any(texts) for rows in captions for texts in rows)
