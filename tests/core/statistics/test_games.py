"""Axioms of the values, and interactions by their definition."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redundancy_eval.statistics import games

small = st.integers(2, 5)


def game(n, seed):
    return np.random.default_rng(seed).normal(size=2**n)


@given(small, st.integers(0, 1000))
def test_shapley_values_share_out_what_all_give(n, seed):
    v = game(n, seed)
    assert (games.shapley(n) @ v).sum() == pytest.approx(v[-1] - v[0])


@given(small, st.integers(0, 1000), st.integers(0, 1000), st.floats(-3, 3))
def test_values_add_up(n, one, other, weight):
    for matrix in (games.shapley(n), games.banzhaf(n), games.shapley_interaction(n), games.moebius(n)):
        together = matrix @ (game(n, one) + weight * game(n, other))
        np.testing.assert_allclose(together, matrix @ game(n, one) + weight * (matrix @ game(n, other)), atol=1e-9)


@given(small, st.integers(0, 1000), st.floats(-2, 2))
def test_a_dummy_gets_what_it_gives_alone_and_acts_with_none(n, seed, gives):
    v = game(n, seed)
    subsets = games.every(n)
    v = v[subsets & ~1] + gives * (subsets & 1)
    assert (games.shapley(n) @ v)[0] == pytest.approx(gives)
    assert (games.banzhaf(n) @ v)[0] == pytest.approx(gives)
    for matrix in (games.shapley_interaction(n), games.banzhaf_interaction(n), games.at_the_full_model(n)):
        for pair, value in zip(games.pairs(n), matrix @ v, strict=True):
            if 0 in pair:
                assert value == pytest.approx(0, abs=1e-9)


@given(small, st.integers(0, 1000), st.randoms(use_true_random=False))
def test_names_do_not_matter(n, seed, random):
    v, order = game(n, seed), list(range(n))
    random.shuffle(order)
    renamed = np.zeros_like(v)
    for s in range(2**n):
        renamed[sum(1 << order[i] for i in range(n) if s >> i & 1)] = v[s]
    np.testing.assert_allclose((games.shapley(n) @ renamed)[order], games.shapley(n) @ v, atol=1e-12)


@given(small, st.integers(0, 1000))
def test_interactions_are_means_of_second_differences(n, seed):
    v = game(n, seed)
    for row, (i, j) in enumerate(games.pairs(n)):
        rest = [k for k in range(n) if k not in (i, j)]
        mean = 0.0
        for size in range(n - 1):
            for context in combinations(rest, size):
                t = sum(1 << k for k in context)
                second = v[t | 1 << i | 1 << j] - v[t | 1 << i] - v[t | 1 << j] + v[t]
                mean += second * factorial(size) * factorial(n - size - 2) / factorial(n - 1)
        assert (games.shapley_interaction(n) @ v)[row] == pytest.approx(mean)


def test_leave_one_out_of_two_is_the_whole_table():
    assert games.complete(games.at_the_full_model(2), 4).all()
    v = game(2, 3)
    np.testing.assert_allclose(games.shared(2) @ v, -(games.shapley_interaction(2) @ v))


@given(st.integers(3, 5), st.integers(0, 1000))
def test_leave_one_out_tables_give_the_shared_part_only(n, seed):
    v, full = game(n, seed), 2**n - 1
    subsets = [full, 0, *(full ^ (1 << i) for i in range(n))]
    assert not games.complete(games.shapley(n, subsets), 2**n).any()
    assert not games.complete(games.at_the_full_model(n, subsets), 4).any()
    matrix = games.shared(n, subsets)
    assert games.complete(matrix, n + 2).all()
    drops = sum(v[full] - v[full ^ (1 << i)] for i in range(n))
    assert (matrix @ v[subsets])[0] == pytest.approx(v[full] - v[0] - drops) == (games.shared(n) @ v)[0]


def test_words():
    said = games.words(np.array([-1.0, 1.0, -1.0, 1.0]), np.array([0.01, 0.05, 0.06, np.nan]))
    assert said == [games.SUBSTITUTES, games.COMPLEMENTS, games.NO_INTERACTION, games.NOT_KNOWN]
