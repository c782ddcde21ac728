"""Scores of all masks with their covariance, by the delete-one-cluster jackknife in closed form.

Everything smooth (score, CUR, Shapley value, ...) takes its variance from here: a gradient in the scores, their
covariance, and one pseudo unit. Scores are fractions 0..1; masks are rows, row 0 is the full model. A row of NaN is a
mask that was not run: what needs it is NaN, the rest stands. Where the constants come from, and how well the intervals
cover: docs/numbers.md; `benchmarks/coverage.py` measures it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_ROUNDING = 1e-12  # what is left below this part of the terms it is the difference of
_LEAST_DF = 0.5


@dataclass(frozen=True)
class Scores:
    """Scores of all masks on independent strata of clusters.

    `values` (masks,); `covariances` (strata, masks, masks), which add up; `effective` (strata,) numbers of clusters
    (Kish); `unit_variance` the variance of one pseudo unit in each of `benchmarks` benchmarks; `units` what the
    denominators count to; `clusters` how many there are.
    """

    values: Array
    covariances: Array
    effective: Array
    unit_variance: float
    units: float
    clusters: int
    benchmarks: int = 1

    @property
    def known(self) -> NDArray[np.bool_]:
        """(masks,): whose covariance is known."""
        variances = np.diagonal(self.covariances, axis1=1, axis2=2)
        return np.asarray(np.isfinite(variances).all(axis=0) & np.isfinite(self.unit_variance), dtype=bool)


@dataclass(frozen=True)
class Estimates:
    """Statistics: `values` (q,), `covariance` (q, q) and degrees of freedom `df` (q,); NaN where not known."""

    values: Array
    covariance: Array
    df: Array

    @property
    def se(self) -> Array:
        """(q,) standard errors."""
        return np.sqrt(np.maximum(np.diagonal(self.covariance), 0))

    def take(self, rows: Sequence[int]) -> "Estimates":
        """Some of the statistics."""
        at = list(rows)
        return Estimates(self.values[at], self.covariance[np.ix_(at, at)], self.df[at])


def changes(numerators: ArrayLike, denominators: ArrayLike, weight: float = 1.0) -> Array:
    """What leaving out each cluster of one stratum does to the score.

    psi = w (X - R D) / (sum D - D) sqrt((G - 1) / G), R = sum X / sum D: exactly -(score without the cluster - score)
    times the root. The sum of squares over the clusters is the jackknife variance; s^2 / n for single documents.

    Args:
        numerators: (masks, clusters) X.
        denominators: (masks, clusters) D, or (clusters,) where all masks have the same.
        weight: of the stratum in the score.

    Returns:
        (masks, clusters); NaN where one cluster is all there is.
    """
    x = np.asarray(numerators, dtype=np.float64)
    d = np.broadcast_to(np.asarray(denominators, dtype=np.float64), x.shape)
    total = d.sum(axis=1, keepdims=True)
    rest = total - d
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = x.sum(axis=1, keepdims=True) / total * d
        residual = np.where(np.abs(x - expected) > _ROUNDING * np.abs(expected), x - expected, x * 0.0)
        psi = weight * residual / np.where(rest > 0, rest, np.nan)
    return psi * np.sqrt(max(x.shape[1] - 1, 0) / max(x.shape[1], 1))


def benchmark(
    numerators: ArrayLike,
    denominators: ArrayLike,
    strata: ArrayLike | None = None,
    weights: Mapping[str, float] | None = None,
) -> Scores:
    """Scores of one benchmark: the weighted sum over strata of (sum of X / sum of D).

    Args:
        numerators: (masks, clusters) X; see metrics.cluster_sums.
        denominators: (masks, clusters) or (clusters,) D.
        strata: (clusters,) stratum of each cluster.
        weights: weight of each stratum; by default all clusters form one stratum.
    """
    x = np.asarray(numerators, dtype=np.float64)
    d = np.broadcast_to(np.asarray(denominators, dtype=np.float64), x.shape)
    if strata is None or not weights:
        weights, names = {"": 1.0}, np.full(x.shape[1], "")
    else:
        names = np.asarray(strata, dtype=np.str_)
    values, covariances, effective = np.zeros(len(x)), [], []
    for name, weight in weights.items():
        member = names == name
        mine, sizes = x[:, member], d[:, member]
        psi = changes(mine, sizes, weight)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = values + weight * mine.sum(axis=1) / sizes.sum(axis=1)
            effective.append(sizes[0].sum() ** 2 / (sizes[0] ** 2).sum())
        covariances.append(psi @ psi.T if mine.shape[1] > 1 else np.full((len(x), len(x)), np.nan))
    ran = ~np.isnan(x).any(axis=1)
    units = float(d[ran].sum(axis=1).min()) if ran.any() else np.nan
    unit_variance = 1 / units**2 if units > 0 else np.nan
    return Scores(values, np.array(covariances), np.array(effective), unit_variance, units, x.shape[1])


def binomial(values: ArrayLike, documents: int) -> Scores:
    """Scores of which only the number of documents is known: independent binomials, as if nothing were paired.

    The variance of a difference of two masks is then too large (the same documents are asked under both), so intervals
    of CUR are wide; a score between 0 and 1 cannot vary more than a right-or-wrong one of the same mean.

    Args:
        values: (masks,) means over the documents, 0..1.
        documents: how many there are.
    """
    p = np.asarray(values, dtype=np.float64)
    variance = p * (1 - p) / (documents - 1) if documents > 1 else np.full(len(p), np.nan)
    covariance = np.where(np.eye(len(p), dtype=bool), variance, np.where(np.isnan(variance), np.nan, 0.0))
    units = float(documents)
    return Scores(p, covariance[None], np.array([units]), 1 / units**2 if units else np.nan, units, documents)


def unknown(values: ArrayLike) -> Scores:
    """Scores (masks,) about whose uncertainty nothing is known."""
    p = np.asarray(values, dtype=np.float64)
    return Scores(p, np.full((1, len(p), len(p)), np.nan), np.array([np.nan]), np.nan, np.nan, 0)


def mean(scores: Sequence[Scores]) -> Scores:
    """Plain mean of independent scores: of a category's benchmarks, or of categories."""
    k = len(scores)
    return Scores(
        np.mean([each.values for each in scores], axis=0),
        np.concatenate([each.covariances for each in scores]) / k**2,
        np.concatenate([each.effective for each in scores]),
        sum(each.unit_variance for each in scores) / k**2,
        sum(each.units for each in scores),
        sum(each.clusters for each in scores),
        sum(each.benchmarks for each in scores),
    )


def estimates(values: ArrayLike, terms: Sequence[tuple[Scores, ArrayLike]], pseudo_unit: bool = True) -> Estimates:
    """Covariance and degrees of freedom of statistics of independent scores.

    Var = sum of a' Cov a + (1 / benchmarks) sum |a_b|^2 / U_b^2: the second term is one pseudo unit of each mask,
    spread over the benchmarks, so that "no answer changed" does not claim certainty. Degrees of freedom after
    Satterthwaite from each stratum's part and Kish's number of clusters; infinite where nothing varies.

    Args:
        values: (q,) the statistics.
        terms: scores, and the statistics' gradient (q, masks) in them.
        pseudo_unit: whether to add it.
    """
    found = np.asarray(values, dtype=np.float64)
    q = len(found)
    covariance, total, spread = np.zeros((q, q)), np.zeros(q), np.zeros(q)
    lost = np.zeros(q, dtype=bool)
    share = 1 / sum(scores.benchmarks for scores, _ in terms)
    for scores, gradient in terms:
        a = np.asarray(gradient, dtype=np.float64)
        lost |= (((a != 0) & ~scores.known) | ~np.isfinite(a)).any(axis=1)
        a, cov = (
            np.where(scores.known & np.isfinite(a), a, 0.0),
            np.where(_pairs(scores.known), scores.covariances, 0.0),
        )
        parts = a @ cov @ a.T  # (strata, q, q)
        uncancelled = (a**2) @ np.diagonal(cov, axis1=1, axis2=2).T  # (q, strata)
        mine = np.diagonal(parts, axis1=1, axis2=2).T
        mine = np.where(mine > _ROUNDING * uncancelled, mine, 0.0)  # no answer changed
        total += mine.sum(axis=1)
        spread += (mine**2 / np.maximum(np.nan_to_num(scores.effective) - 1, _LEAST_DF)).sum(axis=1)
        covariance += parts.sum(axis=0)
        if pseudo_unit:
            covariance += share * np.nan_to_num(scores.unit_variance) * (a @ a.T)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(spread > 0, total**2 / spread, np.inf)
    covariance[lost, :] = covariance[:, lost] = np.nan
    return Estimates(found, covariance, np.where(lost, np.nan, df))


def linear(scores: Scores, contrasts: ArrayLike, pseudo_unit: bool = True) -> Estimates:
    """Linear statistics of scores: contrasts (q, masks). A mask with weight 0 need not have been run."""
    a = np.asarray(contrasts, dtype=np.float64)
    values = (a * np.where(a != 0, scores.values, 0.0)).sum(axis=1)
    return estimates(values, [(scores, a)], pseudo_unit)


def _pairs(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return known[:, None] & known[None, :]
