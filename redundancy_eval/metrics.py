"""Benchmark scores, Conditional Utilization Rate and Information Gap; arrays in, arrays out.

Source of CUR and IG: "Investigating Redundancy in Multimodal Large Language Models with Multiple Vision Encoders"
(arXiv 2507.03262): u(E) = (full - without E) / full, IG = max u - min u. How categories and the overall figures are
formed is worked out from the paper's own numbers (docs/numbers.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# How the items of a cluster (one image, one question pair, one circular group) become its numerator and denominator.
RULES = {
    "items": "sum of the items' scores / number of items",
    "all": "1 if every item is right, else 0 / 1",
    "items and all": "mean of (the items' mean score) and (1 if every item is right, else 0) / 1",
}

NOTHING = 1e-9  # a score below is rounding, on any scale; nothing is relative to it


@dataclass(frozen=True)
class ClusterSums:
    """What a benchmark's score is made of: strata (clusters,), numerators (..., clusters), denominators (clusters,)."""

    strata: NDArray[np.str_]
    numerators: NDArray[np.float64]
    denominators: NDArray[np.float64]


def cluster_sums(scores: ArrayLike, clusters: ArrayLike, strata: ArrayLike, rule: str) -> ClusterSums:
    """Gather item scores into clusters.

    Args:
        scores: (..., items) scores, 0..1; a NaN makes its cluster's numerator NaN.
        clusters: (items,) cluster of each item, unique within a stratum.
        strata: (items,) stratum of each item.
        rule: a key of RULES.
    """
    values = np.asarray(scores, dtype=np.float64)
    names, stratum = np.unique(np.asarray(strata, dtype=np.str_), return_inverse=True)
    cluster = np.unique(np.asarray(clusters, dtype=np.str_), return_inverse=True)[1]
    # A cluster is a (stratum, cluster) pair.
    _, first, index = np.unique(
        stratum * (cluster.max(initial=0) + 1) + cluster, return_index=True, return_inverse=True
    )
    size = np.bincount(index, minlength=len(first)).astype(np.float64)

    def per_cluster(items: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = items.reshape(int(np.prod(items.shape[:-1])), items.shape[-1])
        sums = [np.bincount(index, weights=row, minlength=len(first)) for row in rows]
        return np.array(sums, dtype=np.float64).reshape(*items.shape[:-1], len(first))

    total = per_cluster(values)
    if rule == "items":
        return ClusterSums(names[stratum[first]], total, size)
    right = np.where(np.isnan(total), np.nan, per_cluster((values == 1).astype(np.float64)) == size)
    numerators = right if rule == "all" else (total / size + right) / 2
    return ClusterSums(names[stratum[first]], numerators, np.ones(len(first)))


def benchmark_score(sums: ClusterSums, weights: Mapping[str, float] | None = None) -> NDArray[np.float64]:
    """Weighted sum over strata of (sum of cluster numerators / sum of cluster denominators), 0..1.

    Args:
        sums: the clusters.
        weights: weight of each stratum, summing to 1; by default all clusters form one stratum.

    Returns:
        (...); NaN when a stratum with a weight has no cluster, or an item is NaN.
    """
    if not weights:
        weights, member = {"": 1.0}, {"": np.ones(len(sums.strata), dtype=bool)}
    else:
        member = {name: sums.strata == name for name in weights}
    score = np.zeros(sums.numerators.shape[:-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        for name, weight in weights.items():
            part = member[name]
            score = score + weight * (sums.numerators[..., part].sum(axis=-1) / sums.denominators[part].sum())
    return score


def category_scores(scores: ArrayLike, groups: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Plain mean of each category's benchmarks.

    Args:
        scores: (..., benchmarks) points; NaN where a score is missing.
        groups: for each category, the indices of its benchmarks.

    Returns:
        (..., categories); NaN for a category without benchmarks or with a missing score.
    """
    values = np.asarray(scores, dtype=np.float64)
    empty = np.full(values.shape[:-1], np.nan)
    columns = [values[..., list(group)].mean(axis=-1) if len(group) else empty for group in groups]
    return np.stack(columns, axis=-1)


def overall_scores(categories: ArrayLike) -> NDArray[np.float64]:
    """Plain mean of the category scores (..., categories) -> (...); NaN when one is NaN."""
    return np.asarray(categories, dtype=np.float64).mean(axis=-1)


def cur(full: ArrayLike, without: ArrayLike) -> NDArray[np.float64]:
    """Conditional Utilization Rate (full - without) / full, a fraction; NaN where full is 0 or either is missing.

    Args:
        full: scores of the full model, broadcast against `without`.
        without: scores with one encoder dropped.
    """
    full, without = np.asarray(full, dtype=np.float64), np.asarray(without, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(full) < NOTHING, np.nan, (full - without) / full)


def overall_cur(curs: ArrayLike) -> NDArray[np.float64]:
    """An encoder's overall CUR: the plain mean of its category CURs, (..., categories) -> (...).

    The CUR of the overall score is another number and goes by another name.
    """
    return np.asarray(curs, dtype=np.float64).mean(axis=-1)


def information_gap(curs: ArrayLike) -> NDArray[np.float64]:
    """Largest minus smallest CUR over the encoders: (encoders, ...) -> (...).

    NaN when one is missing, or where there is one encoder only: no gap between encoders, not a gap of 0.
    """
    values = np.asarray(curs, dtype=np.float64)
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return values.max(axis=0) - values.min(axis=0)
