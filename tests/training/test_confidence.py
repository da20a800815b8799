"""Confidence of translations by word-level transport."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn import functional as F

from cl2cm.data.pairs import Texts, caption_pairs
from cl2cm.training.confidence import (
    FEWEST,
    mean_token,
    posterior,
    with_confidence,
    word_costs,
)
from cl2cm.types import Example, Tokens

WORDS, WIDTH, LENGTH = 60, 24, 6


class States:
    """Texts of words whose states are the word, their language and some noise."""

    def __init__(self, items: int, *, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        meaning = torch.randn(WORDS, WIDTH, generator=rng)
        languages = 4 * torch.randn(2, WIDTH, generator=rng)
        words = torch.randint(WORDS, (items, LENGTH), generator=rng)
        self.texts = Texts()
        self.values = []
        self.examples = []
        for item in range(items):
            names = [f"{code}-{item}" for code in ("en", "xx")]
            for number, name in enumerate(names):
                assert self.texts.add(name) == len(self.values)
                order = torch.randperm(LENGTH, generator=rng)
                noise = 0.5 * torch.randn(LENGTH, WIDTH, generator=rng)
                self.values.append(meaning[words[item][order]] + languages[number] + noise)
            self.examples.append(
                Example(
                    id=str(item),
                    split="train",
                    captions={"en": (names[0],)},
                    translations={"xx": {"mt": (names[1],)}},
                )
            )

    def pairs(self, wrong=()):
        """Caption pairs; the translations of ``wrong`` items are those of the next of them."""
        given = dict(zip(wrong, np.roll(wrong, -1).tolist(), strict=True)) if len(wrong) else {}
        examples = [
            Example(
                id=example.id,
                split="train",
                captions=example.captions,
                translations=self.examples[given.get(row, row)].translations,
            )
            for row, example in enumerate(self.examples)
        ]
        return caption_pairs(examples, self.texts, source="en", languages=("xx",))

    def lengths(self, rows):
        return torch.full_like(rows, LENGTH)

    def gather(self, rows):
        values = torch.stack([self.values[row] for row in rows.tolist()])
        mask = torch.ones(values.shape[:2], dtype=torch.bool)
        content = mask.clone()
        content[:, 0] = rows % 2 == 0  # the first word of a translation is no word
        return Tokens(values, mask, content)


def confidence_of(states, wrong=()):
    return with_confidence(states.pairs(wrong), states).pairs.confidence


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_translations_of_other_captions_are_found(share):
    states = States(300)
    wrong = np.random.default_rng(0).permutation(300)[: int(300 * share)]
    confidence = confidence_of(states, wrong)
    assert confidence.dtype == np.float32
    assert confidence[wrong].mean() < 0.1
    assert np.delete(confidence, wrong).mean() > 0.9


def test_without_wrong_ones_all_are_trusted():
    states = States(200)
    assert confidence_of(states).min() > 0.9


def test_too_few_pairs_are_trusted(capfd):
    states = States(FEWEST - 1)
    wrong = np.arange(10)
    assert (confidence_of(states, wrong) == 1).all()
    assert "xx has too few translations to judge them" in capfd.readouterr().err


def test_each_language_is_judged_by_itself():
    states = States(100)
    examples = [
        Example(
            id=example.id,
            split="train",
            captions=example.captions,
            translations=example.translations
            if row < 50
            else {"yy": states.examples[(row - 50 + (row < 90)) % 50 + 50].translations["xx"]},
        )
        for row, example in enumerate(states.examples)
    ]
    pairs = caption_pairs(examples, states.texts, source="en", languages=("xx", "yy"))
    judged, means = with_confidence(pairs, states)
    confidence = judged.confidence
    assert means == {
        "xx": pytest.approx(confidence[:50].mean(), abs=1e-4),
        "yy": pytest.approx(confidence[50:].mean(), abs=1e-4),
    }
    assert confidence[:50].mean() > 0.9
    assert confidence[50:].mean() < 0.5


def test_costs_are_those_of_balanced_transport():
    states = States(3)
    rows = np.arange(0, 6, 2)
    centres = mean_token(states.gather, rows), mean_token(states.gather, rows + 1)
    costs = word_costs(states, rows, rows + 1, centres)
    ot = pytest.importorskip("ot")
    for item, cost in enumerate(costs):
        x, y = (
            F.normalize(F.normalize(states.values[2 * item + side], dim=-1) - centres[side], dim=-1)
            for side in (0, 1)
        )
        y = y[1:]  # its first is no word
        matrix = (1 - x @ y.T).double().numpy()
        plan = ot.sinkhorn(np.full(6, 1 / 6), np.full(5, 1 / 5), matrix, 0.05)
        assert_allclose(cost, (plan * matrix).sum(), atol=2e-3)


def test_mean_token_looks_at_each_text_once():
    states = States(4)
    rows = np.array([0, 2, 0, 0])
    expected = F.normalize(torch.cat([states.values[0], states.values[2]]), dim=-1).mean(0)
    assert_allclose(mean_token(states.gather, rows), expected, atol=1e-6)


def test_a_language_that_the_encoder_does_not_know_is_trusted(capfd):
    states = States(200)
    states.values = [torch.randn(LENGTH, WIDTH) for _ in states.values]  # words mean nothing
    pairs, means = with_confidence(states.pairs(), states)
    assert (pairs.confidence == 1).all()
    assert means == {}
    assert "cannot judge the translations into xx" in capfd.readouterr().err


def test_untranslated_copies_blunt_nothing():
    states = States(300)
    for item in range(30):  # their translation is the caption itself
        translations = {"xx": {"mt": (f"en-{item}",)}}
        states.examples[item] = dataclasses.replace(
            states.examples[item], translations=translations
        )
    wrong = 30 + np.random.default_rng(0).permutation(270)[:100]
    confidence = confidence_of(states, wrong)
    assert (confidence[:30] == 1).all()
    assert confidence[wrong].mean() < 0.1
    assert np.delete(confidence, wrong).mean() > 0.9


def test_captions_of_a_single_image_are_trusted(capfd):
    states = States(60)
    one = Example(
        id="one",
        split="train",
        captions={"en": tuple(f"en-{item}" for item in range(60))},
        translations={"xx": {"mt": tuple(f"xx-{item}" for item in range(60))}},
    )
    pairs = caption_pairs([one], states.texts, source="en", languages=("xx",))
    assert (with_confidence(pairs, states).pairs.confidence == 1).all()
    assert "too few" in capfd.readouterr().err


def test_texts_without_words_have_no_cost():
    states = States(3)
    rows = np.arange(0, 6, 2)
    centres = mean_token(states.gather, rows), mean_token(states.gather, rows + 1)
    plain = states.gather

    def wordless(asked):
        tokens = plain(asked)
        tokens.content[asked == 3] = False
        return tokens

    states.gather = wordless
    costs = word_costs(states, rows, rows + 1, centres)
    assert np.isnan(costs).tolist() == [False, True, False]
    found = posterior(np.append(np.linspace(0.3, 0.4, 50), np.nan).astype("f4"), WRONG)
    assert found[-1] == 1


WRONG = np.random.default_rng(1).normal(0.8, 0.1, 2000).astype("f4")


def test_narrow_costs_of_right_pairs_do_not_shut_out_the_cheapest():
    rng = np.random.default_rng(0)
    right = rng.normal(0.5, 0.03, 1999)
    assert posterior(np.append(right, 0.0).astype("f4"), WRONG).min() > 0.5
    mixed = np.concatenate([rng.normal(0.5, 0.03, 1200), rng.normal(0.8, 0.1, 800)])
    found = posterior(mixed.astype("f4"), WRONG)
    assert found[:1200].mean() > 0.9
    assert found[1200:].mean() < 0.1


@pytest.mark.parametrize("shift", [0.0, 0.05, -0.02])
def test_costs_that_are_not_apart_are_not_judged(shift):
    rng = np.random.default_rng(0)
    assert posterior(rng.normal(0.8 + shift, 0.1, 400).astype("f4"), WRONG) is None


def test_a_dearer_pair_is_never_more_likely():
    rng = np.random.default_rng(0)
    costs = np.concatenate([rng.normal(0.4, 0.1, 600), rng.normal(0.8, 0.02, 400)]).astype("f4")
    wrong = rng.normal(0.8, 0.02, 1000).astype("f4")
    found = posterior(np.append(costs, [0.0, 2.0]).astype("f4"), wrong)
    ordered = found[np.argsort(np.append(costs, [0.0, 2.0]))]
    assert (np.diff(ordered) <= 0).all()
    assert found[-2] > 0.99
    assert found[-1] < 0.01
    assert found[:600].mean() > 0.95
    assert found[600:-2].mean() < 0.05


def test_costs_that_are_all_alike():
    same = np.full(50, 0.5, dtype=np.float32)
    assert posterior(same, same) is None
    dearer = np.full(100, 0.8, dtype=np.float32)  # whose distribution is a single point
    cheap = np.random.default_rng(0).normal(0.4, 0.08, 100).astype("f4")
    assert posterior(cheap, dearer).min() > 0.9
