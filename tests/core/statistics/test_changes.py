"""Changed answers, confidence x change and resamples, as arrays."""

import numpy as np
import pytest

from redundancy_eval.statistics import changes, covariance


def test_an_answer_that_is_not_known_has_not_changed_nor_stayed():
    answers = np.array([[5, 5, 0, 7], [5, 6, 6, 0]], dtype=np.uint64)
    np.testing.assert_array_equal(changes.changed(answers), [[0, 0, np.nan, 0], [0, 1, np.nan, np.nan]])


def test_expected_loss_is_the_probability_of_what_changed():
    found = changes.expected_loss([[0, 1, 1, np.nan]], np.log([0.9, 0.25, np.nan, 0.5]))
    np.testing.assert_allclose(found, [[0, 0.25, np.nan, np.nan]])


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
