"""Rank correlations of few numbers, of many draws at once."""

from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from redundancy_eval.statistics.covariance import Array

DRAWS = 10_000
_ALL_ORDERS = 8  # items up to which every order is looked at
_SAMPLED = 40_320


def kendall(one: ArrayLike, other: ArrayLike) -> Array:
    """Kendall's tau-b over the last axis: (..., items) twice -> (...); NaN where all items of one are equal."""
    signs = [np.sign(_pairs(np.asarray(each, dtype=np.float64))) for each in (one, other)]
    with np.errstate(invalid="ignore", divide="ignore"):
        untied = np.sqrt(np.abs(signs[0]).sum(-1) * np.abs(signs[1]).sum(-1))
        return np.asarray((signs[0] * signs[1]).sum(-1) / untied)


def _pairs(values: Array) -> Array:
    first, second = np.triu_indices(values.shape[-1], 1)
    return np.asarray(values[..., first] - values[..., second])


def spearman(one: ArrayLike, other: ArrayLike) -> Array:
    """Spearman's rho over the last axis: (..., items) twice -> (...); NaN where all items of one are equal."""
    ranks = [stats.rankdata(np.asarray(each, dtype=np.float64), axis=-1) for each in (one, other)]
    a, b = (each - each.mean(-1, keepdims=True) for each in ranks)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1)))


def chance(one: ArrayLike, other: ArrayLike) -> float:
    """Share of the orders of the items whose tau with `one` is at least that of `other`: (items,) twice.

    Of more than eight items, a seeded sample of orders.
    """
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if len(first) <= _ALL_ORDERS:
        orders = np.array(list(permutations(range(len(first)))))
    else:
        rng = np.random.default_rng(0)
        orders = np.argsort(rng.random((_SAMPLED, len(first))), axis=1)
    value = float(kendall(first, second))
    if np.isnan(value):
        return float("nan")
    return float(np.mean(kendall(np.broadcast_to(first, orders.shape), second[orders]) >= value - 1e-12))
