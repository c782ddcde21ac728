"""The jackknife's closed form, its invariances, and a bootstrap that agrees with it where both are right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from redundancy_eval.statistics import covariance, cur, draws, gap, intervals
from tests.core.statistics.populations import many, one, population


@st.composite
def clustered(draw, masks=3, least=3):
    """Numerators (masks, clusters) and denominators (clusters,)."""
    count = draw(st.integers(least, 12))
    sizes = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    rows = [[draw(st.integers(0, size)) for size in sizes] for _ in range(masks)]
    return np.array(rows, float), np.array(sizes, float)


@given(clustered(), st.floats(0.1, 1))
def test_changes_are_those_of_leaving_a_cluster_out(data, weight):
    x, d = data
    count = len(d)
    psi = covariance.changes(x, d, weight)
    for c in range(count):
        kept = np.arange(count) != c
        without = weight * x[:, kept].sum(axis=1) / d[kept].sum()
        whole = weight * x.sum(axis=1) / d.sum()
        np.testing.assert_allclose(psi[:, c], -(without - whole) * np.sqrt((count - 1) / count), atol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=30))
def test_single_documents_give_the_standard_error_of_the_mean(values):
    found = covariance.linear(covariance.benchmark([values], np.ones(len(values))), [[1]], pseudo_unit=False)
    assert found.se[0] == pytest.approx(stats.sem(values), abs=1e-9)
    assert found.values[0] == pytest.approx(np.mean(values))


@given(clustered(), st.randoms(use_true_random=False))
def test_neither_row_nor_mask_order_matters(data, random):
    x, d = data
    rows, columns = list(range(len(x))), list(range(len(d)))
    random.shuffle(columns)
    random.shuffle(rows)
    one_way = covariance.benchmark(x, d)
    other = covariance.benchmark(x[rows][:, columns], d[columns])
    np.testing.assert_allclose(other.covariances[0], one_way.covariances[0][np.ix_(rows, rows)], atol=1e-14)
    np.testing.assert_allclose(other.values, one_way.values[rows])
    assert other.units == one_way.units and other.effective[0] == pytest.approx(one_way.effective[0])


@given(clustered(), st.floats(0.01, 100))
def test_points_and_fractions_give_one_cur(data, scale):
    x, d = data
    x = x + 0.5  # no full score of 0
    gradient = np.array([[0.3, -0.7, 0.1]])
    for weigh in (1, scale):
        scores = covariance.benchmark(x * weigh, d)
        found = covariance.estimates([0.0], [(scores, gradient / weigh)], pseudo_unit=False)
        if weigh == 1:
            first = found
    assert found.se[0] == pytest.approx(first.se[0], rel=1e-9, abs=1e-12)
    assert found.df[0] == pytest.approx(first.df[0]) or not np.isfinite(first.df[0])


@given(clustered())
def test_asking_every_document_twice_in_its_cluster_changes_the_pseudo_unit_only(data):
    x, d = data
    once, twice = covariance.benchmark(x, d), covariance.benchmark(2 * x, 2 * d)
    np.testing.assert_allclose(twice.covariances, once.covariances, atol=1e-14)
    assert twice.unit_variance == pytest.approx(once.unit_variance / 4)


@pytest.mark.parametrize("count", [50, 200])
def test_no_changed_answer_is_not_certainty(count):
    right = np.array([1.0] * (count * 3 // 5) + [0.0] * (count - count * 3 // 5))
    found = cur.curs(covariance.benchmark([right, right], np.ones(count)), 0, [1])
    low, high = intervals.t_interval(found)
    assert np.isinf(found.df[0])
    assert found.values[0] == 0
    assert high[0] == pytest.approx(stats.norm.ppf(0.975) * np.sqrt(2) / (count * right.mean())) == -low[0]


def test_all_right_is_an_interval_below_1():
    count = 60
    found, low, high = intervals.score_intervals(covariance.benchmark([np.ones(count)], np.ones(count)))
    square = stats.norm.ppf(0.975) ** 2
    assert low[0] == pytest.approx(1 / (1 + square / count)) and high[0] == pytest.approx(1)
    assert found.se[0] == 0


def test_a_mask_that_was_not_run_takes_nothing_from_the_others():
    rng = np.random.default_rng(0)
    x = (rng.random((4, 80)) < 0.6) * 1.0
    x[2] = np.nan
    some, without = covariance.benchmark(x, np.ones(80)), covariance.benchmark(x[[0, 1, 3]], np.ones(80))
    found, same = cur.curs(some, 0, [1, 2, 3]), cur.curs(without, 0, [1, 2])
    assert np.isnan(found.values).tolist() == [False, True, False] == np.isnan(found.df).tolist()
    np.testing.assert_array_equal(found.take([0, 2]).covariance, same.covariance)
    assert some.known.tolist() == [True, True, False, True]
    assert covariance.linear(some, [[1, -1, 0, 0]]).se[0] > 0


@pytest.mark.parametrize(
    ("strata", "weights"), [(["a", "a", "b"], {"a": 0.5, "b": 0.5}), (["a", "b", "b"], {"a": 0.5, "b": 0.5})]
)
def test_a_stratum_of_one_cluster_has_no_variance_to_tell(strata, weights):
    scores = covariance.benchmark([[1.0, 0, 1], [1, 1, 0]], np.ones(3), strata, weights)
    assert not scores.known.any() and np.isfinite(scores.values).all()
    assert np.isnan(cur.curs(scores, 0, [1]).se).all()
    assert not covariance.benchmark([[2.0, 0], [1, 0]], [3.0, 0.0]).known.any()  # one cluster holds it all


def test_a_full_score_near_0_has_no_cur_interval():
    x = np.zeros((2, 200))
    x[0, :4] = 1
    found = cur.curs(covariance.benchmark(x, np.ones(200)), 0, [1])
    assert found.values[0] == 1 and np.isnan(found.se[0])
    assert np.isnan(cur.curs(covariance.benchmark(np.zeros((2, 9)), np.ones(9)), 0, [1]).values).all()


def test_a_category_adds_up_independent_benchmarks_with_one_pseudo_unit():
    rng = np.random.default_rng(1)
    parts = [covariance.benchmark((rng.random((2, n)) < 0.6) * 1.0, np.ones(n)) for n in (50, 90)]
    both = covariance.linear(covariance.mean(parts), [[1, -1]])
    each = [covariance.linear(part, [[1, -1]], pseudo_unit=False).se[0] ** 2 for part in parts]
    unit = 2 * (1 / 50**2 + 1 / 90**2) / 4 / 2
    assert both.se[0] ** 2 == pytest.approx(sum(each) / 4 + unit)


def test_overall_curs_add_up_independent_categories():
    rng = np.random.default_rng(4)
    full = [(rng.random(n) < 0.6) * 1.0 for n in (300, 500)]
    parts = [covariance.benchmark([x, x * (rng.random(len(x)) < 0.9)], np.ones(len(x))) for x in full]
    each = [cur.curs(part, 0, [1]) for part in parts]
    found = cur.overall_curs(parts, 0, [1])
    assert found.values[0] == pytest.approx((each[0].values[0] + each[1].values[0]) / 2)
    # A little less: one pseudo unit for the statistic, not one for each category.
    assert found.se[0] == pytest.approx(np.sqrt(each[0].se[0] ** 2 + each[1].se[0] ** 2) / 2, rel=0.05)
    assert found.df[0] > max(each[0].df[0], each[1].df[0])


def test_binomials_are_wider_than_pairs():
    rng = np.random.default_rng(2)
    full = (rng.random(400) < 0.6) * 1.0
    without = np.where(rng.random(400) < 0.06, 1 - full, full)
    paired = cur.curs(covariance.benchmark([full, without], np.ones(400)), 0, [1])
    unpaired = cur.curs(covariance.binomial([full.mean(), without.mean()], 400), 0, [1])
    assert unpaired.values[0] == pytest.approx(paired.values[0])
    assert unpaired.se[0] > 2 * paired.se[0]
    assert covariance.binomial([0.5, np.nan], 30).known.tolist() == [True, False]
    assert not covariance.binomial([0.5], 1).known.any()


def bootstrap(numerators, denominators, rng, repeats=10_000):
    """CURs of a plain cluster bootstrap, all masks with the same weights: (repeats, masks - 1)."""
    count, found = len(denominators), []
    for _ in range(repeats // 500):
        weights = rng.multinomial(count, np.full(count, 1 / count), size=500).astype(float)
        scores = (weights @ numerators.T) / (weights @ denominators)[:, None]
        found.append(1 - scores[:, 1:] / scores[:, :1])
    return np.concatenate(found)


@pytest.mark.parametrize(("sizes", "clusters"), [(one, 1000), (many, 398)])
def test_a_bootstrap_agrees_where_it_is_right(sizes, clusters):
    rng = np.random.default_rng(17)
    x, d = population(rng, sizes, 0.65, [0.10, 0.05, 0.02, 0, 0], 0.06, 6000).draw(rng, clusters)
    curs = cur.curs(covariance.benchmark(x, d), 0, [1, 2, 3, 4, 5])
    resampled = bootstrap(x, d, rng)
    centred = resampled - resampled.mean(axis=0)
    null = np.quantile(centred.max(axis=1) - centred.min(axis=1), 0.95)
    np.testing.assert_allclose(curs.se, resampled.std(axis=0), rtol=0.05)
    assert gap.information_gap(curs, draws.generator(0, "IG")).null == pytest.approx(null, rel=0.05)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1), st.floats(0, 4), st.sampled_from([3.0, 20.0, np.inf]))
def test_the_gap_is_above_0_exactly_where_p_says_so(n, seed, size, df):
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(n, n))
    found = covariance.Estimates(size * rng.normal(size=n), half @ half.T + np.eye(n) * 0.1, np.full(n, df))
    ig = gap.information_gap(found, draws.generator(0, "IG"), count=2000)
    assert (ig.low > 0) == (ig.p <= 1 - 0.95)
    assert ig.low <= ig.value <= ig.high
    assert (ig.value > ig.null) == (ig.low > 0)
