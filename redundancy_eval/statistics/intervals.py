"""Intervals: t for smooth statistics, Wilson for scores. One level for each interval on its own."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from redundancy_eval.statistics.covariance import Array, Estimates, Scores, linear


def t_quantile(probability: ArrayLike, df: ArrayLike) -> Array:
    """Quantile of Student's t; of the normal law where df is infinite, NaN where it is NaN."""
    return np.asarray(stats.t.ppf(probability, df), dtype=np.float64)


def t_interval(found: Estimates, level: float = 0.95) -> tuple[Array, Array]:
    """Estimate -+ t(df) SE: (q,) low and high ends."""
    half = t_quantile((1 + level) / 2, found.df) * found.se
    return found.values - half, found.values + half


def wilson(values: ArrayLike, documents: ArrayLike, df: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
    """Wilson's score interval with a t quantile in place of the normal one.

    Args:
        values: scores p, 0..1.
        documents: effective number of documents n behind each, p (1 - p) / variance.
        df: degrees of freedom of the variance.
        level: of the interval.
    """
    p, n = np.asarray(values, dtype=np.float64), np.asarray(documents, dtype=np.float64)
    square = t_quantile((1 + level) / 2, df) ** 2
    with np.errstate(invalid="ignore"):
        centre = (p + square / (2 * n)) / (1 + square / n)
        half = np.sqrt(square) / (1 + square / n) * np.sqrt(np.maximum(p * (1 - p), 0) / n + square / (4 * n * n))
        return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)


def score_intervals(scores: Scores, level: float = 0.95) -> tuple[Estimates, Array, Array]:
    """Every mask's score with its Wilson interval.

    The effective number of documents comes from the variance without the pseudo unit; where nothing varies (all right
    or all wrong) it is the number of units.

    Returns:
        the scores with their SEs (without the pseudo unit), and the low and high ends (masks,).
    """
    found = linear(scores, np.eye(len(scores.values)), pseudo_unit=False)
    p, variance = np.clip(found.values, 0, 1), np.diagonal(found.covariance)
    varies: NDArray[np.bool_] = (variance > 0) & (p > 0) & (p < 1)
    n = np.where(varies, p * (1 - p) / np.where(varies, variance, 1), scores.units)
    return found, *wilson(p, np.where(np.isnan(variance), np.nan, n), found.df, level)
