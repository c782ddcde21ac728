"""Definitions of CUR and IG, checked against the paper's own numbers (arXiv 2507.03262)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from redundancy_eval import metrics

# Table 3 as quoted: General, Knowledge, OCR & Chart, Vision-Centric -> Overall.
TABLE_3 = {
    "Eagle-X5 7B": ([70.77, 54.79, 66.60, 67.55], 64.93),
    "Eagle-X5 7B, X3": ([69.87, 53.64, 66.02, 67.29], 64.20),
    "Eagle-X5 7B, X2": ([69.04, 52.77, 62.04, 66.05], 62.48),
    "Eagle-X5 7B, X1": ([64.60, 47.70, 10.68, 62.83], 46.45),
    "Eagle-X4 8B Plus": ([66.49, 61.88, 71.92, 70.62], 67.73),
    "Eagle-X4 8B Plus, X2": ([67.28, 59.83, 70.57, 69.60], 66.82),
}
# CUR in % by category, read off the paper's figure by pixel measurement, and the overall IG as quoted.
CUR = {
    "Eagle-X4 8B Plus": (
        [[1.18, 0.51, -0.02, 0.16], [1.29, 7.15, 26.41, 3.20], [-1.88, 2.04, 1.27, 1.43], [83.50, 56.35, 92.84, 50.33]],
        70.27,
    ),
    "Cambrian-1 13B": (
        [[2.82, 5.77, 2.93, 0.42], [0.96, 1.24, 1.86, 1.51], [10.60, 16.13, 77.50, 12.66], [1.07, 2.04, 1.27, 3.79]],
        27.82,
    ),
    "DeepSeek-VL 7B": ([[12.02, 10.95, 48.47, 7.17], [13.22, 11.46, 48.94, 9.62]], 1.15),
}


@pytest.mark.parametrize("row", TABLE_3)
def test_overall_scores_of_table_3(row):
    categories, overall = TABLE_3[row]
    assert metrics.overall_scores(categories) == pytest.approx(overall, abs=0.005 + 1e-9)


@pytest.mark.parametrize("model", CUR)
def test_quoted_overall_information_gaps(model):
    curs, quoted = CUR[model]
    assert metrics.information_gap(metrics.overall_cur(curs)) == pytest.approx(quoted, abs=0.1)


def test_the_other_definition_misses_the_quoted_gap():
    curs, quoted = CUR["Eagle-X4 8B Plus"]
    assert abs(metrics.information_gap(curs).mean() - quoted) > 0.5


def test_cur_is_a_relative_drop():
    assert metrics.cur(63.04, 65.31) == pytest.approx(-0.0360, abs=5e-5)  # Cambrian-1 8B without SigLIP


def test_undefined_is_nan_never_zero():
    assert np.isnan(metrics.cur(0.0, 0.0))
    assert np.isnan(metrics.cur(50.0, np.nan))
    assert np.isnan(metrics.information_gap([0.1, np.nan]))
    assert np.isnan(metrics.overall_scores([50.0, np.nan]))
    assert np.isnan(metrics.category_scores([1.0, 2.0], [[0, 1], []])).tolist() == [False, True]
    assert np.isnan(metrics.category_scores([1.0, np.nan], [[0, 1]])).all()


points = st.floats(1, 100)


@given(arrays(float, (4, 3), elements=points), st.floats(0.01, 100))
def test_cur_does_not_depend_on_the_scale_of_the_score(scores, scale):
    full = scores[0]
    np.testing.assert_allclose(metrics.cur(full, scores), metrics.cur(full * scale, scores * scale), atol=1e-9)
    np.testing.assert_allclose(metrics.cur(full, full), 0)


@given(arrays(float, (5, 3), elements=st.floats(-1, 1)), st.permutations(range(5)))
def test_gap_is_not_negative_and_blind_to_order(curs, order):
    gap = metrics.information_gap(curs)
    assert (gap >= 0).all()
    np.testing.assert_array_equal(gap, metrics.information_gap(curs[order]))
    np.testing.assert_allclose(metrics.information_gap(np.repeat(curs[:1], 4, axis=0)), 0)


@given(arrays(float, (2, 4), elements=points))
def test_category_score_is_the_plain_mean(scores):
    groups = [[0, 1, 2], [3]]
    expected = np.stack([scores[:, :3].sum(-1) / 3, scores[:, 3]], -1)
    np.testing.assert_allclose(metrics.category_scores(scores, groups), expected)


ITEMS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.3, 0.6, 1.0]), st.integers(0, 4), st.sampled_from("ab")), min_size=1, max_size=30
)


@given(ITEMS, st.sampled_from(sorted(metrics.RULES)), st.booleans())
def test_benchmark_score_is_what_its_words_say(items, rule, weighted):
    weights = {"a": 0.25, "b": 0.75} if weighted else {}
    want = 0.0
    for name, weight in (weights or {"": 1.0}).items():
        groups = {}
        for score, cluster, stratum in items:
            if not weights or stratum == name:
                groups.setdefault((stratum, cluster), []).append(score)
        if not groups:
            want = np.nan
            break
        if rule == "items":
            numbers = [(sum(group), len(group)) for group in groups.values()]
        else:
            right = [float(all(score == 1 for score in group)) for group in groups.values()]
            mean = [sum(group) / len(group) for group in groups.values()]
            numbers = [(r if rule == "all" else (m + r) / 2, 1) for r, m in zip(right, mean, strict=True)]
        want += weight * sum(n for n, _ in numbers) / sum(d for _, d in numbers)
    scores, clusters, strata = zip(*items, strict=True)
    got = metrics.benchmark_score(metrics.cluster_sums(scores, clusters, strata, rule), weights)
    np.testing.assert_allclose(got, want, atol=1e-12)
    # Several masks at once, and one shuffled: the same number.
    order = np.argsort(np.random.default_rng(0).random(len(scores)))
    twice = metrics.cluster_sums(
        np.array([scores, scores])[:, order], np.array(clusters)[order], np.array(strata)[order], rule
    )
    np.testing.assert_allclose(metrics.benchmark_score(twice, weights), [want, want], atol=1e-12)


def test_mme_points_are_its_own_formula():
    """Accuracy plus accuracy-plus of each subtask, summed, over 20 (the paper's scale)."""
    from redundancy_eval import taxonomy

    benchmark = taxonomy.benchmark("MME")
    chance = np.random.default_rng(3)
    strata = np.repeat(sorted(benchmark.weights), 8)
    clusters = np.tile(np.repeat(np.arange(4), 2), 10)
    scores = chance.integers(0, 2, len(strata)).astype(float)
    points = 0.0
    for name in benchmark.weights:
        pairs = scores[strata == name].reshape(4, 2)
        points += 100 * pairs.mean() + 100 * (pairs.sum(axis=1) == 2).mean()
    got = 100 * metrics.benchmark_score(
        metrics.cluster_sums(scores, clusters, strata, benchmark.rule), benchmark.weights
    )
    assert got == pytest.approx(points / 20)


def test_a_missing_item_or_stratum_leaves_no_score():
    sums = metrics.cluster_sums([1.0, np.nan], ["a", "b"], ["x", "x"], "items")
    assert np.isnan(metrics.benchmark_score(sums)) and np.isnan(metrics.benchmark_score(sums, {"x": 0.5, "y": 0.5}))
    sums = metrics.cluster_sums([1.0, np.nan], ["a", "a"], ["x", "x"], "all")
    assert np.isnan(metrics.benchmark_score(sums))
