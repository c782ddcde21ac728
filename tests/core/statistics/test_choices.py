"""Numbers after a choice: best subsets, draws, routers, floors and the second run."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redundancy_eval.statistics import covariance, draws, floor, noise, router, selection
from redundancy_eval.statistics.covariance import Estimates


def told(values, covariance_, df=np.inf):
    return Estimates(np.asarray(values, float), np.asarray(covariance_, float), np.full(len(values), df))


def rng(label="test"):
    return draws.generator(0, label)


def test_draws_do_not_depend_on_the_pieces(monkeypatch):
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    whole = draws.of_draws(matrix, 7.0, rng(), lambda z: z, 1000)
    monkeypatch.setattr(draws, "_PIECE", 64)
    np.testing.assert_allclose(draws.of_draws(matrix, 7.0, rng(), lambda z: z, 1000), whole, atol=1e-12)


def test_draws_follow_the_law():
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    np.testing.assert_allclose(np.cov(draws.of_draws(matrix, np.inf, rng(), lambda z: z).T), matrix, atol=0.03)
    t = draws.of_draws(np.eye(1), 5.0, rng(), lambda z: np.abs(z[:, 0]))
    assert draws.upper(t) == pytest.approx(2.571, rel=0.02)


def test_labels_have_their_own_numbers():
    assert draws.generator(0, "a").random() != draws.generator(0, "b").random()
    assert draws.generator(0, "a").random() != draws.generator(1, "a").random()
    assert draws.generator(0, "a").random() == draws.generator(0, "a").random()


@given(st.lists(st.integers(0, 30), min_size=20, max_size=200), st.integers(0, 31), st.sampled_from([0.9, 0.95]))
def test_p_and_its_limit_agree_with_ties_too(values, value, level):
    sample = np.array(values, float)
    limit = draws.upper(sample, level)
    if len(values) + 1 >= 1 / (1 - level):
        assert (value > limit) == (draws.p_value(sample, value) <= 1 - level + 1e-12)


def test_the_best_of_one_needs_no_correction():
    found = selection.best(told([0.5], [[0.01]]), rng())
    assert found.corrected == pytest.approx(0.5, abs=2e-3)
    assert found.quantile == pytest.approx(1.96, abs=0.03)
    assert selection.not_told_apart(told([0.5], [[0.01]]), rng()).tolist() == [True]


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10**6))
def test_the_best_is_never_told_from_itself(n, seed):
    r = np.random.default_rng(seed)
    half = r.normal(size=(n, n))
    found = told(r.normal(size=n), half @ half.T + np.eye(n))
    kept = selection.not_told_apart(found, rng(), count=2000)
    assert kept[found.values.argmax()]
    best = selection.best(found, rng(), count=2000)
    assert best.index == found.values.argmax() and best.corrected <= best.value + 0.2


def test_bonferroni_sorts_out_nothing_that_draws_would_keep(monkeypatch):
    r = np.random.default_rng(3)
    found = told(r.normal(size=8) * 1.5, np.eye(8))
    kept = selection.not_told_apart(found, rng())
    monkeypatch.setattr(selection, "t_quantile", lambda p, df: np.inf)
    np.testing.assert_array_equal(selection.not_told_apart(found, rng()), kept)
    assert 0 < kept.sum() < 8


def test_what_is_not_known_shows_nothing():
    unknown = told([0.5, 0.4], np.full((2, 2), np.nan), np.nan)
    assert np.isnan(selection.best(unknown, rng()).corrected)
    assert not selection.shown_above_zero(unknown, rng()).any()
    assert selection.not_told_apart(unknown, rng()).all()


def test_shown_is_stricter_than_the_numbers():
    found = told([0.001, 0.5, -0.1], np.eye(3) * 0.01)
    assert selection.shown_above_zero(found, rng()).tolist() == [False, True, False]


def test_the_smallest_and_of_those_the_best():
    scores, sizes = np.array([0.9, 0.7, 0.8, 0.6]), np.array([3, 2, 2, 1])
    assert selection.smallest(scores, sizes, np.array([True, True, True, False])) == 2
    assert selection.smallest(scores, sizes, np.zeros(4, bool)) is None


def answers(worlds, seed, masks=8, count=2000):
    r = np.random.default_rng(seed)
    base = r.beta(1.2, 0.6, count)
    p = {"luck": np.broadcast_to(base, (masks, count)), "task": np.clip(base + 0.1 * np.arange(masks)[:, None], 0, 1)}
    return (r.random((masks, count)) < p[worlds]) * 1.0


def gain_by_task(y, clusters=None):
    return router.cross_fitted(y, np.ones(y.shape), np.full(y.shape[1], ""), {}, rng())


def test_luck_gives_a_router_by_task_nothing_and_skill_what_it_is_worth():
    luck = np.mean([gain_by_task(answers("luck", seed)) for seed in range(8)])
    assert luck == pytest.approx(0, abs=0.006)
    y = answers("task", 1)
    assert gain_by_task(y) == pytest.approx(y.mean(axis=1).max() - y[0].mean(), abs=0.003) and gain_by_task(y) > 0.1


def test_equal_masks_are_the_full_model():
    y = np.repeat(answers("luck", 0)[:1], 5, axis=0)
    assert gain_by_task(y) == 0
    assert router.replicate_checked(y, np.arange(2000) // 4) == 0
    assert np.isnan(router.replicate_checked(y, np.arange(2000)))
    assert np.isnan(gain_by_task(y[:, :1]))


def test_folds_keep_every_stratum():
    y = answers("task", 2, count=400)
    strata = np.array(["a"] * 380 + ["b"] * 20)
    found = router.cross_fitted(y, np.ones(y.shape), strata, {"a": 0.5, "b": 0.5}, rng())
    scores = (y[:, :380].mean(axis=1) + y[:, 380:].mean(axis=1)) / 2
    assert found <= scores.max() - scores[0] + 1e-9 and found > 0.05


def test_replicates_tell_skill_from_luck():
    r = np.random.default_rng(5)
    questions, masks = 600, 8
    good = r.random((masks, questions)) < 0.7
    cluster = np.repeat(np.arange(questions), 4)
    skill = (r.random((masks, questions * 4)) < np.where(good, 0.95, 0.25)[:, cluster]) * 1.0
    luck = (r.random((masks, questions * 4)) < 0.7) * 1.0
    assert router.replicate_checked(skill, cluster) > 0.15
    assert router.replicate_checked(luck, cluster) == pytest.approx(0, abs=0.03)
    again = (r.random((masks, questions * 4)) < 0.7) * 1.0
    assert router.checked_by_rerun(luck, again) == pytest.approx(0, abs=0.03)


@given(st.integers(0, 1000))
def test_the_oracle_knows_only_how_many_questions_all_masks_miss(seed):
    r = np.random.default_rng(seed)
    y = (r.random((4, 60)) < 0.6) * 1.0
    shuffled = y.copy()
    for column in range(60):
        r.shuffle(shuffled[:, column])
    names = np.array([str(i) for i in range(60)])
    gains = [router.oracle(each, names, np.full(60, ""), "items", {}) for each in (y, shuffled)]
    assert gains[0] + y[0].mean() == pytest.approx(gains[1] + shuffled[0].mean()) == y.max(axis=0).mean()
    assert router.guessing(y.mean(axis=1)) <= 1 - y[0].mean()


def scores(rows):
    rows = np.asarray(rows, float)
    return covariance.benchmark(rows, np.ones(rows.shape[1]))


def masked(r, full, loses):
    return np.where(r.random(len(full)) < loses, 0, full)


def test_floor_and_headroom():
    r = np.random.default_rng(8)
    full = (r.random(600) < 0.7) * 1.0
    made = scores([full, masked(r, full, 0.1), masked(r, full, 0.6)])
    assert floor.clear_headroom(made, 0, 2)
    assert floor.headroom(made, 0, 2).values[0] == pytest.approx(made.values[0] - made.values[2])
    found = floor.floor_corrected(made, 0, [1, 2], 2)
    assert found.values[1] == pytest.approx(1) and found.se[1] == pytest.approx(0, abs=1e-9)
    assert 0 < found.values[0] < 0.5 and found.se[0] > 0
    assert not floor.clear_headroom(scores([full, full, full]), 0, 2)


def test_below_the_floor_needs_to_be_sure():
    r = np.random.default_rng(9)
    full = (r.random(600) < 0.7) * 1.0
    none = masked(r, full, 0.4)
    made = scores([full, masked(r, full, 0.1), masked(r, full, 0.9), none, masked(r, full, 0.42)])
    assert floor.below_floor(made, [1, 2, 4], 3).tolist() == [False, True, False]


def test_changed_answers_beside_those_of_a_second_run():
    r = np.random.default_rng(10)
    full = (r.random(3000) < 0.7) * 1.0
    flip = lambda share: np.where(r.random(3000) < share, 1 - full, full)  # noqa: E731
    rows = noise.changed(np.stack([flip(0.012), flip(0.2), flip(0.03)]), full)
    found, flags = noise.no_more_than_rerun(scores(rows), [0, 1], 2)
    assert flags.tolist() == [True, False]
    np.testing.assert_allclose(found.values, rows[:2].mean(axis=1) - rows[2].mean())
    assert not noise.no_more_than_rerun(scores(rows[:, :100]), [0], 2)[1][0]  # too few answers to be sure
    assert np.isnan(noise.changed([np.nan, 1.0], [1.0, 1.0])).tolist() == [True, False]
    assert 100 * noise.cur_of_rerun(0.02, 240, 0.65) == pytest.approx(2.75, abs=0.05)
