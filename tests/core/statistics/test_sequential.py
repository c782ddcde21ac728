"""Bounds of looks that share a level, against published tables and the multivariate normal law."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from redundancy_eval.statistics import sequential


def obrien_fleming_like(share: float, alpha: float) -> float:
    """Lan and DeMets's other spending, two-sided: each side spends 2 (1 - Phi(z(1 - alpha / 4) / sqrt(t)))."""
    return float(4 * stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(share)))


def equal(looks: int) -> list[float]:
    """Equally spaced shares."""
    return [(k + 1) / looks for k in range(looks)]


def all_within(shares: list[float], limits: list[float]) -> float:
    """P(|Z_k| <= limit_k for all k), by scipy's integration of the joint law."""
    t = np.array(shares)
    cov = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))
    law = stats.multivariate_normal(np.zeros(len(t)), cov, seed=0, maxpts=10**6, abseps=1e-7)
    limit = np.array(limits)
    return float(law.cdf(limit, lower_limit=-limit))


@pytest.mark.parametrize(("looks", "constant"), [(1, 1.960), (2, 2.178), (3, 2.289), (4, 2.361), (5, 2.413)])
def test_pocock_constants(looks: int, constant: float) -> None:
    """Jennison and Turnbull 2000, table 2.1: the same bound at every look."""
    for shift, above in ((-0.0006, True), (0.0006, False)):
        crossed = sequential.crossing(equal(looks), [constant + shift] * looks).sum()
        assert bool(crossed > 0.05) is above


@pytest.mark.parametrize(("looks", "constant"), [(2, 1.977), (3, 2.004), (4, 2.024), (5, 2.040)])
def test_obrien_fleming_constants(looks: int, constant: float) -> None:
    """Jennison and Turnbull 2000, table 2.3: bounds C sqrt(K / k)."""
    for shift, above in ((-0.0006, True), (0.0006, False)):
        limits = [(constant + shift) * math.sqrt(looks / (k + 1)) for k in range(looks)]
        assert bool(sequential.crossing(equal(looks), limits).sum() > 0.05) is above


def test_lan_demets_tables() -> None:
    """Five equal looks at two-sided 5 %, as the literature has them (such as Reboussin et al. 2000, ld98)."""
    pocock = sequential.bounds(equal(5), 0.05)
    assert pocock == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=0.0006)
    obrien = sequential.bounds(equal(5), 0.05, obrien_fleming_like)
    assert obrien == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=0.0006)


@pytest.mark.parametrize("shares", [[0.3, 1.0], [0.1, 0.15, 1.0], [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]])
def test_against_the_multivariate_normal_law(shares: list[float]) -> None:
    """All looks together hold the level."""
    limits = sequential.bounds(shares, 0.05)
    assert all_within(shares, limits.tolist()) == pytest.approx(0.95, abs=2e-5)


def test_each_look_spends_its_part() -> None:
    """What first crosses at a look is what may be spent there."""
    shares = list(sequential.fractions(5))
    spent = np.cumsum(sequential.crossing(shares, sequential.bounds(shares, 0.1).tolist()))
    assert spent == pytest.approx([0.1 * math.log1p((math.e - 1) * t) for t in shares], abs=1e-8)
    assert spent[-1] == pytest.approx(0.1, abs=1e-8)


def test_a_look_depends_on_no_later_one() -> None:
    """Levels are known when a look is taken."""
    shares = list(sequential.fractions(5))
    whole = sequential.bounds(shares, 0.05)
    for k in range(1, 6):
        assert sequential.bounds(shares[:k], 0.05) == pytest.approx(whole[:k], abs=1e-9)
        assert stats.norm.ppf((1 + sequential.nominal_level(shares[:k])) / 2) == pytest.approx(whole[k - 1], abs=1e-6)


def test_one_look_is_the_ordinary_interval() -> None:
    """With nothing before it, the last look spends all."""
    assert sequential.nominal_level([1.0], 0.9) == pytest.approx(0.9, abs=1e-9)


def test_fractions() -> None:
    """Equal ratios from a sixteenth to all."""
    assert sequential.fractions(5) == (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
    assert sequential.fractions(2) == (1 / 16, 1.0)
    nine = np.array(sequential.fractions(9))
    assert nine[1:] / nine[:-1] == pytest.approx([math.sqrt(2)] * 8)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(1.0, 2.0), min_size=4, max_size=4))
def test_more_information_at_early_looks_leaves_the_level(ratios: list[float]) -> None:
    """Where looks hold more than their planned share of a CUR's information, the level holds all the more."""
    planned = sequential.fractions(5)
    held = [1.0]
    for ratio in reversed(ratios):  # each step up is at most the planned one
        held.insert(0, held[0] / ratio)
    limits, later = sequential.bounds(planned, 0.05), [*held[1:], 2.0]
    new = [k for k in range(5) if later[k] > held[k] * 1.001]  # without news a look is the one before
    assert sequential.crossing([held[k] for k in new], limits[new]).sum() <= 0.05 + 1e-6
