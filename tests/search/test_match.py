"""Match: it rises with the score, is low for nonsense, and is what the fit of known data gives."""

import math

import numpy as np
import pytest

from cl2cm.search.match import FITS, MIXED, PLAIN, PROBES, SURE, Background, word_count


class Probed:
    """A model whose probes point nowhere in particular."""

    fingerprint, dim = "probed", 64

    def encode_text(self, texts):
        return unit(np.random.default_rng(1).standard_normal((len(texts), self.dim)))

    def encode_visual(self, paths):
        raise AssertionError(paths)


def unit(vectors):
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def vectors():
    return unit(np.random.default_rng(0).standard_normal((3000, 64)))


@pytest.fixture(scope="module")
def background(vectors):
    return Background(vectors[:1024], Probed())


@pytest.mark.parametrize("text", [None, "dog", "a dog that runs through deep snow"])
def test_a_match_rises_with_the_score(background, vectors, text):
    query = vectors[0]
    scores = np.sort(vectors @ query)[::-1]
    matches = background.matches(query, scores.tolist(), text)
    assert (np.diff(matches) <= 0).all()
    assert all(0.01 <= match <= 0.99 for match in matches)


def test_nonsense_is_low_and_a_clear_hit_high(background, vectors):
    rng = np.random.default_rng(2)
    best = [
        background.matches(query, [float((vectors @ query).max())], "xq vbn")[0]
        for query in unit(rng.standard_normal((100, 64)))
    ]
    assert np.mean([match < FITS for match in best]) > 0.9
    for row in range(0, 300, 30):
        assert background.matches(vectors[row], [1.0], "dog")[0] > SURE
        assert background.matches(vectors[row], [1.0])[0] > SURE


def test_a_longer_text_asks_for_more(background, vectors):
    short = background.matches(vectors[0], [0.6], "dog")[0]
    assert background.matches(vectors[0], [0.6], "a dog that runs through the snow")[0] < short


def test_a_match_is_the_formula(background, vectors):
    query = vectors[5]
    z, u = background.scales(query, [0.5])[0]
    odds = PLAIN[0] * u + PLAIN[1] * math.log(3) + PLAIN[2]
    assert background.matches(query, [0.5], "red heart")[0] == pytest.approx(
        1 / (1 + math.exp(-odds))
    )
    odds = MIXED[0] * z + MIXED[1]
    assert background.matches(query, [0.5])[0] == pytest.approx(1 / (1 + math.exp(-odds)))
    sample = vectors[:1024] @ query
    assert z == pytest.approx((0.5 - sample.mean()) / sample.std(), rel=1e-4)
    best = (Probed().encode_text(PROBES) @ vectors[:1024].T).max(axis=1)
    assert u == pytest.approx(np.arcsinh((0.5 - best.mean()) / (3 * best.std())), rel=1e-4)


def test_an_index_of_equal_items_has_a_match():
    same = np.repeat(unit([[1.0] + [0.0] * 63]), 5, axis=0)
    matches = Background(same, Probed()).matches(same[0], [1.0, 0.2], "x")
    assert all(0.01 <= match <= 0.99 for match in matches)


@pytest.mark.parametrize(
    ("text", "words"), [("dog", 1), ("red heart", 2), ("红心", 1), ("一只狗在跑", 2.5), ("", 1)]
)
def test_words_are_counted_in_scripts_without_blanks(text, words):
    assert word_count(text) == words
