import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from cl2cm.errors import ConfigError
from cl2cm.evaluation.holm import holm, holm_levels, simultaneous_level

some = st.lists(st.integers(0, 200).map(lambda n: n / 1000), min_size=1, max_size=9)


def step_down(p_values, alpha):
    """Holm's procedure as it was written: go up from the smallest until one is kept."""
    rejected = [False] * len(p_values)
    for tested, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] > alpha / (len(p_values) - tested):
            break
        rejected[i] = True
    return rejected


def test_by_hand():
    # sorted: 4 · 0.005, 3 · 0.01, 2 · 0.03, and 1 · 0.04, which may not fall below its predecessor
    assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    # two are rejected, at 0.05 / 4 and 0.05 / 3; two are kept, and keep the 0.05 / 2 of the third
    expected = [1 - 0.05 / 3, 0.975, 0.975, 1 - 0.05 / 4]
    assert_allclose(holm_levels([0.01, 0.04, 0.03, 0.005]), expected)


@given(p=some)
def test_rejections_are_those_of_the_step_down_procedure(p):
    alpha = 0.0501  # no multiple of 1 / 1000 divided by 1 to 9 meets it
    rejected = step_down(p, alpha)
    assert list(holm(p) <= alpha) == rejected
    assert list(np.asarray(p) <= 1 - holm_levels(p, level=1 - alpha)) == rejected


@given(p=some, data=st.data())
def test_order_does_not_matter(p, data):
    order = data.draw(st.permutations(range(len(p))))
    moved = [p[i] for i in order]
    assert_allclose(holm(moved), holm(p)[order])
    kept = holm(p) > 0.05 * (1 + 1e-6)  # among rejected ties, the order decides the level
    assert_allclose(np.sort(holm_levels(moved)), np.sort(holm_levels(p)))
    assert_allclose(holm_levels(moved)[kept[order]], holm_levels(p)[kept][:1].repeat(kept.sum()))


@given(p=some)
def test_bounds(p):
    adjusted, levels = holm(p), holm_levels(p)
    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()
    assert (levels >= 0.95 - 1e-12).all()
    assert (levels <= simultaneous_level(0.95, len(p)) + 1e-12).all()


def test_one_comparison_needs_no_correction():
    assert_allclose(holm([0.03]), [0.03])
    assert_allclose(holm_levels([0.03], level=0.9), [0.9])
    assert simultaneous_level(0.95, 1) == pytest.approx(0.95)
    assert simultaneous_level(0.95, 5) == pytest.approx(0.99)


def test_bad_arguments_are_refused():
    for bad in ([0.1, 1.5], [-0.1], [np.nan], [[0.1]]):
        with pytest.raises(ValueError, match="p-values"):
            holm(bad)
    for bad in (0.0, 1.0, 95.0):
        with pytest.raises(ConfigError, match="level"):
            holm_levels([0.1], level=bad)
    with pytest.raises(ConfigError, match="m: expected 1 or more"):
        simultaneous_level(0.95, 0)
