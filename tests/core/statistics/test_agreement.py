"""Rank correlations of few numbers, against scipy's, and the share of orders that agree by chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from redundancy_eval.statistics import agreement

VALUES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=7)


@given(VALUES)
def test_they_are_scipy_s(pairs):
    one, other = np.array(pairs, dtype=float).T
    for ours, theirs in ((agreement.kendall, stats.kendalltau), (agreement.spearman, stats.spearmanr)):
        if len(set(one)) > 1 and len(set(other)) > 1:
            assert float(ours(one, other)) == pytest.approx(theirs(one, other)[0])
        else:
            assert np.isnan(ours(one, other))


def test_many_draws_at_once():
    one, other = np.random.default_rng(0).normal(size=(2, 20, 5))
    for of in (agreement.kendall, agreement.spearman):
        assert of(one, other) == pytest.approx([float(of(a, b)) for a, b in zip(one, other, strict=True)])


def test_the_share_of_orders_that_agree_as_well():
    assert agreement.chance([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1 / 24)
    assert agreement.chance([1, 2], [2, 1]) == 1
    assert agreement.chance([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(4 / 24)
    assert np.isnan(agreement.chance([1, 1], [1, 2]))
    ordered = np.arange(10)
    assert agreement.chance(ordered, ordered) == 0 and 0.3 < agreement.chance(ordered, np.roll(ordered, 5)) < 1
