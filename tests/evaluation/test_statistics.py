import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from cl2cm.errors import ConfigError
from cl2cm.evaluation.bootstrap import Block, bootstrap, holm_intervals
from cl2cm.evaluation.holm import holm, holm_levels, simultaneous_level
from cl2cm.evaluation.statistics import (
    Hits,
    bootstrap_sum_of_recalls,
    gap_closed,
    mean_rank_variance,
    paired_bootstrap,
    recall_hits,
    reciprocal_ranks,
    sum_of_recalls_blocks,
)
from cl2cm.metrics import metrics, text_to_vision, vision_to_text


def sample(seed=0, pictures=12, effect=0.0, noise=1.0):
    """Values of A and B with 1 to 5 captions a picture; labels are neither sorted nor dense."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(pictures) * 7 - 3, rng.integers(1, 6, pictures))
    rng.shuffle(clusters)
    shared = dict(zip(np.unique(clusters), rng.normal(0, noise, pictures), strict=True))
    b = rng.normal(size=len(clusters))
    own = rng.normal(0, 0.3, len(clusters))
    return b + effect + own + [shared[c] for c in clusters], b, clusters


def in_loops(blocks, level, resamples, seed):
    """The same, one resample and one picture at a time."""
    labels = sorted({c for block in blocks for c in block.clusters})
    difference = sum(s * (np.mean(a) - np.mean(b)) for a, b, _, s in blocks)
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        chosen = [labels[i] for i in rng.integers(len(labels), size=len(labels))]
        total = 0.0
        for a, b, clusters, scale in blocks:
            values = [
                x - y
                for label in chosen
                for x, y, c in zip(a, b, clusters, strict=True)
                if c == label
            ]
            total += scale * sum(values) / len(values)
        draws.append(total)
    draws.sort()
    k = round((1 - level) * (resamples + 1) / 2)
    below, above = sum(d <= 0 for d in draws), sum(d >= 0 for d in draws)
    p = min(1, 2 * (1 + min(below, above)) / (1 + resamples))
    return difference, draws[k - 1], draws[resamples - k], p


@pytest.mark.parametrize("effect", [0.0, 0.4, -0.8])
def test_equals_its_loop(effect):
    a, b, clusters = sample(effect=effect)
    found = paired_bootstrap(a, b, clusters, scale=3.0, level=0.9, resamples=199, seed=5)
    assert_allclose(found, in_loops([Block(a, b, clusters, 3.0)], 0.9, 199, 5))


def test_several_blocks_equal_their_loop():
    a, b, clusters = sample(1)
    pictures = np.unique(clusters)[::-1]
    second = np.random.default_rng(2).normal(size=(2, len(pictures)))
    blocks = [Block(a, b, clusters, 2.0), Block(*second, pictures, 0.5)]
    assert_allclose(
        bootstrap(blocks, level=0.8, resamples=99, seed=1), in_loops(blocks, 0.8, 99, 1)
    )


def test_by_hand():
    # two pictures of differences +3 and +1: a resample is 3, 2 or 1, and never 0 or below
    found = paired_bootstrap([3.0, 1.0], [0.0, 0.0], [0, 1], resamples=999)
    assert found == (2.0, 1.0, 3.0, 2 / 1000)


def test_a_picture_counts_by_its_captions():
    # pictures of one and three captions: (4 + 3 · 0) / 4
    found = paired_bootstrap([4.0, 0, 0, 0], [0.0] * 4, [0, 1, 1, 1], resamples=99)
    assert found.difference == pytest.approx(1.0)
    assert (found.low, found.high) == (0.0, 4.0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), effect=st.floats(-1, 1))
def test_swapping_sides_turns_the_sign(seed, effect):
    a, b, clusters = sample(seed, effect=effect)
    one = paired_bootstrap(a, b, clusters, resamples=199)
    other = paired_bootstrap(b, a, clusters, resamples=199)
    assert other == pytest.approx((-one.difference, -one.high, -one.low, one.p))


def test_the_order_of_queries_and_names_of_pictures_do_not_matter():
    a, b, clusters = sample(3, effect=0.3)
    order = np.random.default_rng(0).permutation(len(a))
    expected = paired_bootstrap(a, b, clusters, resamples=199)
    found = paired_bootstrap(a[order], b[order], clusters[order] * 2 + 100, resamples=199)
    assert_allclose(found, expected)


def test_the_same_seed_gives_the_same_answer():
    a, b, clusters = sample(4)
    first = paired_bootstrap(a, b, clusters, seed=1)
    assert paired_bootstrap(a, b, clusters, seed=1) == first
    assert paired_bootstrap(a, b, clusters, seed=2)[1:] != first[1:]


def test_equal_methods_do_not_differ():
    a, _, clusters = sample(5)
    assert paired_bootstrap(a, a, clusters, resamples=99) == (0, 0, 0, 1)


def test_ties_are_ties_in_spite_of_rounding():
    # each resample sums to zero, but for rounding: 0.1 + 0.2 - 0.3 and the like
    a = np.tile([0.1, 0.2, -0.3], 20)
    assert a.reshape(20, 3).sum(1).any()
    found = paired_bootstrap(a, np.zeros(60), np.repeat(np.arange(20), 3), resamples=99)
    assert found[1:] == (0, 0, 1)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    effect=st.floats(-1, 1),
    level=st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.98]),
)
def test_the_interval_excludes_zero_exactly_if_the_p_value_says_so(seed, effect, level):
    a, b, clusters = sample(seed, effect=effect)
    _, low, high, p = paired_bootstrap(a, b, clusters, level=level, resamples=399)
    assert low <= high
    assert (low > 0 or high < 0) == (p <= (1 - level) * (1 + 1e-9))


def rejected(seed, *, together, pictures=50, captions=5):
    """Whether a true null hypothesis is rejected at 5 %."""
    rng = np.random.default_rng([seed, 7])
    clusters = np.repeat(np.arange(pictures), captions)
    a = rng.exponential(size=pictures)[clusters] - 1 + rng.normal(0, 0.5, len(clusters))
    labels = clusters if together else np.arange(len(clusters))
    return paired_bootstrap(a, np.zeros(len(a)), labels, resamples=399, seed=seed).p <= 0.05


def test_a_true_null_hypothesis_is_rejected_about_once_in_twenty():
    share = np.mean([rejected(seed, together=True) for seed in range(800)])
    assert 0.03 < share < 0.085  # sd of the simulation 0.008; 50 skewed pictures make it 0.06
    naive = np.mean([rejected(seed, together=False) for seed in range(200)])
    assert naive > 0.2, "captions of one picture are not independent"


def test_the_interval_is_that_of_the_normal_distribution_for_many_pictures():
    rng = np.random.default_rng(0)
    a = rng.normal(0.05, 1, 2000)
    found = paired_bootstrap(a, np.zeros(2000), np.arange(2000))
    half = 1.96 * a.std() / math.sqrt(2000)
    assert_allclose(found[:3], [a.mean(), a.mean() - half, a.mean() + half], atol=0.003)


def unit(rng, rows, width):
    values = rng.normal(size=(rows, width)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def run(seed, rows, count, noise):
    """Ranks in both directions, and SumR, of one made-up run."""
    rng = np.random.default_rng(seed)
    base = unit(np.random.default_rng(99), count, 8)
    text = base[rows] + noise * unit(rng, len(rows), 8)
    both = text / np.linalg.norm(text, axis=1, keepdims=True), base
    ranks = (text_to_vision(*both, rows).best, vision_to_text(*both, rows).best)
    return ranks, metrics(*both, rows)["SumR"]


def test_sum_of_recalls_is_that_of_the_evaluation():
    rows = np.repeat(np.arange(40), 3)
    made = {
        name: [run(seed, rows, 40, noise) for seed in (1, 2, 3)]
        for name, noise in (("a", 0.7), ("b", 1.0))
    }
    hits = {
        name: Hits(*(recall_hits([ranks[side] for ranks, _ in runs]) for side in (0, 1)))
        for name, runs in made.items()
    }
    found = bootstrap_sum_of_recalls(hits["a"], hits["b"], rows, resamples=999)
    means = {name: np.mean([total for _, total in runs]) for name, runs in made.items()}
    assert found.difference == pytest.approx(means["a"] - means["b"])
    assert 0 < found.low < found.difference < found.high < 600
    blocks = sum_of_recalls_blocks(hits["a"], hits["b"], rows)
    assert bootstrap(blocks, resamples=999) == found


def test_hits_and_reciprocal_ranks_by_hand():
    assert_allclose(recall_hits([1, 3, 10, 11]), [3, 2, 1, 0])
    assert_allclose(recall_hits([[1, 3], [2, 30]]), [2.5, 1])
    assert_allclose(recall_hits([1, 3], cutoffs=[1]), [1, 0])
    assert_allclose(reciprocal_ranks([[1, 4], [2, 4]]), [0.75, 0.25])


def family(seed, effects, pictures=30):
    return [[Block(*sample(seed + i, pictures, effect))] for i, effect in enumerate(effects)]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), effects=st.lists(st.floats(0, 0.8), min_size=1, max_size=5))
def test_corrected_intervals_exclude_zero_exactly_if_holm_rejects(seed, effects):
    tests = family(seed, effects)
    found = holm_intervals(tests, level=0.9, resamples=399)
    plain = [bootstrap(blocks, level=0.9, resamples=399) for blocks in tests]
    assert_allclose([one.p for one in found], holm([one.p for one in plain]))
    levels = holm_levels([one.p for one in plain], level=0.9)
    wide = simultaneous_level(0.9, len(tests))
    for blocks, one, level in zip(tests, found, levels, strict=True):
        alone = bootstrap(blocks, level=float(level), resamples=399)
        assert one[:3] == alone[:3]
        assert (one.low > 0 or one.high < 0) == (one.p <= 0.1 * (1 + 1e-9))
        widest = bootstrap(blocks, level=wide, resamples=399)
        assert widest.low <= one.low <= one.high <= widest.high


def test_ten_thousand_resamples_are_quick():
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(970), 5)
    a, b = rng.random((2, 4850))
    started = time.perf_counter()
    paired_bootstrap(a, b, rows)
    assert time.perf_counter() - started < 6


def test_bad_arguments_are_refused():
    a, b, clusters = sample()
    with pytest.raises(ConfigError, match="level"):
        paired_bootstrap(a, b, clusters, level=95)
    with pytest.raises(ConfigError, match=r"resamples: expected at least 199 for the level 0\.99"):
        paired_bootstrap(a, b, clusters, level=0.99, resamples=198)
    assert paired_bootstrap(a, b, clusters, level=0.99, resamples=199).p <= 1
    with pytest.raises(ConfigError, match="resamples"):
        paired_bootstrap(a, b, clusters, resamples=0)
    with pytest.raises(ValueError, match="equal length"):
        paired_bootstrap(a, b[:-1], clusters)
    with pytest.raises(ValueError, match="two clusters"):
        paired_bootstrap(a, b, np.zeros(len(a), dtype=np.int64))
    with pytest.raises(ValueError, match="finite"):
        paired_bootstrap(np.where(np.arange(len(a)) == 2, np.nan, a), b, clusters)
    with pytest.raises(ValueError, match="every block"):
        bootstrap([Block(a, b, clusters), Block([1.0, 2.0], [0.0, 0.0], [0, 1])])


def test_mean_rank_variance_equals_its_loop_and_a_hand():
    # variances of (1, 3), (2, 2) and (5, 1): 1, 0 and 4
    assert mean_rank_variance([[1, 2, 5], [3, 2, 1]]) == pytest.approx(5 / 3)
    ranks = np.random.default_rng(0).integers(1, 50, (4, 9))
    total = 0.0
    for column in ranks.T:
        middle = sum(column) / 4
        total += sum((rank - middle) ** 2 for rank in column) / 4
    assert mean_rank_variance(ranks) == pytest.approx(total / 9)


@given(seed=st.integers(0, 1000), shift=st.integers(0, 50))
def test_mean_rank_variance_invariances(seed, shift):
    rng = np.random.default_rng(seed)
    ranks = rng.integers(1, 50, (3, 7))
    expected = mean_rank_variance(ranks)
    assert mean_rank_variance(ranks[::-1]) == pytest.approx(expected)
    assert mean_rank_variance(ranks[:, rng.permutation(7)]) == pytest.approx(expected)
    # a caption that is harder in all languages alike is no less consistent
    assert mean_rank_variance(ranks + shift * np.arange(7)) == pytest.approx(expected)
    assert mean_rank_variance(np.concatenate([ranks, ranks])) == pytest.approx(expected)
    assert mean_rank_variance(np.repeat(ranks[:1], 4, 0)) == 0
    assert mean_rank_variance(ranks * 2) == pytest.approx(4 * expected)


def test_mean_rank_variance_refuses_what_has_no_languages():
    for bad in ([1, 2, 3], np.empty((0, 3)), np.empty((2, 0))):
        with pytest.raises(ValueError, match="ranks"):
            mean_rank_variance(bad)


def test_gap_closed():
    assert gap_closed(190, 150, 200) == pytest.approx(0.8)
    assert gap_closed(150, 150, 200) == 0
    assert gap_closed(200, 150, 200) == 1
    assert gap_closed(140, 150, 200) == pytest.approx(-0.2)
    assert math.isnan(gap_closed(190, 200, 200))
    assert math.isnan(gap_closed(190, 200, 150))
    assert math.isnan(gap_closed(190, math.nan, 150))


def simulated(rng, seeds, spread, pictures=120, effect=0.0):
    """Values [seeds, Q] of A and B: pictures, seeds and both together differ, two queries each."""
    clusters = np.repeat(np.arange(pictures), 2)
    of_pictures = rng.normal(scale=1.0, size=pictures)[clusters]
    sides = []
    for side in range(2):
        of_seeds = rng.normal(scale=spread, size=(seeds, 1))
        noise = rng.normal(scale=1.0, size=(seeds, len(clusters)))
        sides.append(side * -effect + of_pictures * (1 - 0.4 * side) + of_seeds + noise)
    return *sides, clusters


def coverage(seeds, spread, *, averaged=False, trials=250):
    """How often a 95 % interval holds the true difference, which is 0."""
    rng = np.random.default_rng(11)
    held = 0
    for trial in range(trials):
        a, b, clusters = simulated(rng, seeds, spread)
        if averaged:
            a, b = a.mean(0), b.mean(0)
        found = paired_bootstrap(a, b, clusters, resamples=399, seed=trial)
        held += found.low <= 0 <= found.high
    return held / trials


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.02, 0.1, 0.5])
def test_intervals_over_pictures_and_seeds_cover_what_they_promise(seeds, spread):
    assert coverage(seeds, spread) >= 0.92


def test_intervals_over_pictures_alone_do_not_where_seeds_differ():
    assert coverage(5, 0.1, averaged=True) < 0.85


def test_seeds_that_agree_change_nothing():
    a, b, clusters = simulated(np.random.default_rng(0), 1, 0.0)
    once = paired_bootstrap(a, b, clusters, resamples=199)
    assert paired_bootstrap(a[0], b[0], clusters, resamples=199) == once
    thrice = paired_bootstrap(np.repeat(a, 3, 0), np.repeat(b, 3, 0), clusters, resamples=199)
    assert_allclose(thrice, once)


def test_seeds_make_an_interval_longer_by_their_error():
    """Without differences between pictures the interval is Student's."""
    a = np.array([1.0, 2.0, 4.0])[:, None] * np.ones((1, 50))
    found = paired_bootstrap(a, np.zeros(50), np.arange(50), resamples=20_000)
    mean, error = 7 / 3, np.std([1, 2, 4], ddof=1) / 3**0.5
    quantile = 4.3027  # of Student's distribution with two degrees of freedom, 97.5 %
    assert found.difference == pytest.approx(mean)
    assert_allclose(
        [found.low, found.high], [mean - quantile * error, mean + quantile * error], rtol=0.1
    )


def test_equal_seeds_of_both_sides_are_compared_pair_by_pair():
    rng = np.random.default_rng(3)
    a, b, clusters = simulated(rng, 4, 0.0)
    shared = np.array([[5.0], [-5.0], [3.0], [-3.0]])
    found = paired_bootstrap(a + shared, b + shared, clusters, resamples=999)
    assert_allclose(found, paired_bootstrap(a, b, clusters, resamples=999))
    other = paired_bootstrap((a + shared)[:3], b + shared, clusters, resamples=999)
    assert other.high - other.low > 3 * (found.high - found.low)
