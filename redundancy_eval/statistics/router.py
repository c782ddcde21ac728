"""How much choosing the mask could gain: by task, by question where that can be checked, and what luck alone shows.

One run of each mask cannot tell luck from skill question by question: the oracle depends on nothing but how many
questions *all* masks miss. So the oracle is given beside what independent guessing would make of it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from redundancy_eval import metrics
from redundancy_eval.statistics.covariance import Array

FOLDS, ROUNDS = 10, 3


def cross_fitted(
    numerators: ArrayLike,
    denominators: ArrayLike,
    strata: NDArray[np.str_],
    weights: Mapping[str, float],
    rng: np.random.Generator,
) -> float:
    """Gain over the full model of the best mask of a benchmark, chosen on other clusters than it is scored on.

    Args:
        numerators: (masks, clusters); the full model first, which wins ties. No NaN.
        denominators: (masks, clusters).
        strata: (clusters,).
        weights: of the strata; empty for one.
        rng: draws the folds.

    Returns:
        a fraction 0..1, the mean over ROUNDS divisions into FOLDS folds; NaN with fewer than two clusters.
    """
    x = np.asarray(numerators, dtype=np.float64)
    d = np.broadcast_to(np.asarray(denominators, dtype=np.float64), x.shape)
    count = x.shape[1]
    if count < 2:
        return float("nan")
    names = strata if weights else np.full(count, "")
    parts = [(weight, names == name) for name, weight in (weights or {"": 1.0}).items()]
    gains = []
    for _ in range(ROUNDS):
        order = rng.permutation(count)
        order = order[np.argsort(names[order], kind="stable")]  # every stratum is spread over the folds
        fold = np.empty(count, dtype=np.int64)
        fold[order] = np.arange(count) % FOLDS
        pick = _best_elsewhere(x, d, parts, fold)[fold]
        chosen = np.stack([x[pick, np.arange(count)], x[0]]), np.stack([d[pick, np.arange(count)], d[0]])
        routed, full = sum(w * chosen[0][:, at].sum(axis=1) / chosen[1][:, at].sum(axis=1) for w, at in parts)
        gains.append(routed - full)
    return float(np.mean(gains))


def _best_elsewhere(
    x: Array, d: Array, parts: Sequence[tuple[float, NDArray[np.bool_]]], fold: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(folds,): the mask with the highest score on all other folds; the full model where there is none."""
    member = (fold[:, None] == np.arange(FOLDS)).astype(np.float64)
    scores = np.zeros((len(x), FOLDS))
    with np.errstate(divide="ignore", invalid="ignore"):
        for weight, at in parts:
            top, bottom = (each[:, at].sum(axis=1, keepdims=True) - each[:, at] @ member[at] for each in (x, d))
            scores += weight * top / bottom
    # Sums of the same answers in another order are ties.
    return np.nan_to_num(np.round(scores, 12), nan=-1.0).argmax(axis=0)


def replicate_checked(scores: ArrayLike, clusters: ArrayLike) -> float:
    """Gain over the full model of the best mask of each question, chosen on its other replicates.

    Args:
        scores: (masks, items), the full model first, which wins ties; a cluster's items are replicates of a question.
        clusters: (items,).

    Returns:
        a fraction: mean over items of clusters with two replicates or more; NaN where there is none.
    """
    y = np.asarray(scores, dtype=np.float64)
    index, sizes = np.unique(np.asarray(clusters), return_inverse=True, return_counts=True)[1:]
    totals = np.array([np.bincount(index, weights=row, minlength=len(sizes)) for row in y])
    several = sizes[index] > 1
    if not several.any():
        return float("nan")
    others = (totals[:, index] - y)[:, several]
    mine = y[:, several]
    return float((mine[others.argmax(axis=0), np.arange(mine.shape[1])] - mine[0]).mean())


def checked_by_rerun(scores: ArrayLike, again: ArrayLike) -> float:
    """The same, chosen on one run of all masks and scored on another: (masks, items) each, the full model first."""
    first, second = np.asarray(scores, dtype=np.float64), np.asarray(again, dtype=np.float64)
    pick = first.argmax(axis=0)
    return float((second[pick, np.arange(first.shape[1])] - second[0]).mean())


def oracle(scores: ArrayLike, clusters: ArrayLike, strata: ArrayLike, rule: str, weights: Mapping[str, float]) -> float:
    """Gain over the full model where a question counts if any mask is right; not attainable, luck included.

    Args:
        scores: (masks, items), the full model first.
        clusters: (items,).
        strata: (items,).
        rule: see metrics.RULES.
        weights: of the strata.
    """
    y = np.asarray(scores, dtype=np.float64)
    sums = metrics.cluster_sums(np.stack([y[0], y.max(axis=0)]), clusters, strata, rule)
    full, best = metrics.benchmark_score(sums, weights)
    return float(best - full)


def guessing(scores: ArrayLike) -> float:
    """What the oracle would gain were the masks' right answers spread over the items independently: (masks,) scores."""
    p = np.clip(np.asarray(scores, dtype=np.float64), 0, 1)
    return float(1 - np.prod(1 - p) - p[0])
