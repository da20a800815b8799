"""Confidence of translations by word-level transport."""

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

    def gather(self, rows):
        values = torch.stack([self.values[row] for row in rows.tolist()])
        mask = torch.ones(values.shape[:2], dtype=torch.bool)
        content = mask.clone()
        content[:, 0] = rows % 2 == 0  # the first word of a translation is no word
        return Tokens(values, mask, content)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_translations_of_other_captions_are_found(share):
    states = States(300)
    wrong = np.random.default_rng(0).permutation(300)[: int(300 * share)]
    confidence = with_confidence(states.pairs(wrong), states.gather).confidence
    assert confidence.dtype == np.float32
    assert confidence[wrong].mean() < 0.1
    assert np.delete(confidence, wrong).mean() > 0.9


def test_without_wrong_ones_all_are_trusted():
    states = States(200)
    assert with_confidence(states.pairs(), states.gather).confidence.min() > 0.9


def test_too_few_pairs_are_trusted():
    states = States(FEWEST - 1)
    wrong = np.arange(10)
    assert (with_confidence(states.pairs(wrong), states.gather).confidence == 1).all()


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
    confidence = with_confidence(pairs, states.gather).confidence
    assert confidence[:50].mean() > 0.9
    assert confidence[50:].mean() < 0.5


def test_costs_are_those_of_balanced_transport():
    states = States(3)
    rows = np.arange(0, 6, 2)
    centres = mean_token(states.gather, rows), mean_token(states.gather, rows + 1)
    costs = word_costs(states.gather, rows, rows + 1, centres)
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
    assert np.isfinite(posterior(same, same)).all()
