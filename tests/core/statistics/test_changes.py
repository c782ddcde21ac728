"""Changed answers, confidence x change, rank correlations and resamples, as arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from redundancy_eval.statistics import changes, covariance


def test_an_answer_that_is_not_known_has_not_changed_nor_stayed():
    answers = np.array([[5, 5, 0, 7], [5, 6, 6, 0]], dtype=np.uint64)
    np.testing.assert_array_equal(changes.changed(answers), [[0, 0, np.nan, 0], [0, 1, np.nan, np.nan]])


def test_expected_loss_is_the_probability_of_what_changed():
    found = changes.expected_loss([[0, 1, 1, np.nan]], np.log([0.9, 0.25, np.nan, 0.5]))
    np.testing.assert_allclose(found, [[0, 0.25, np.nan, np.nan]])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=8))
def test_rank_correlations_are_scipy_s(pairs):
    a, b = np.array(pairs, dtype=float).T
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert np.isnan(changes.spearman(a, b)) and np.isnan(changes.kendall(a, b))
        return
    assert changes.spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert changes.kendall(a, b) == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-12)
    stacked = changes.kendall(np.stack([a, -a]), np.stack([b, b]))
    np.testing.assert_allclose(stacked, [changes.kendall(a, b), -changes.kendall(a, b)], atol=1e-12)


def test_resamples_vary_as_the_jackknife_says():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, 300).astype(float)
    x = rng.binomial(sizes.astype(int), [[0.7], [0.5]]).astype(float)
    strata = np.where(np.arange(300) < 100, "a", "b")
    weights = {"a": 0.25, "b": 0.75}
    drawn = changes.resampled(
        changes.Part(x, np.broadcast_to(sizes, x.shape), strata, weights), np.random.default_rng(1), 4000
    )
    known = covariance.benchmark(x, sizes, strata, weights)
    np.testing.assert_allclose(drawn.mean(axis=0), known.values, atol=0.003)
    np.testing.assert_allclose(np.cov(drawn.T), known.covariances.sum(axis=0), rtol=0.1, atol=2e-5)


def test_percentiles_leave_out_a_few_unknown_draws_and_no_more():
    draws = np.arange(1000.0)
    draws[:40] = np.nan
    assert changes.percentiles(draws, 0.9) == pytest.approx(tuple(np.quantile(draws[40:], [0.05, 0.95])))
    draws[:60] = np.nan
    assert np.isnan(changes.percentiles(draws, 0.9)).all()
