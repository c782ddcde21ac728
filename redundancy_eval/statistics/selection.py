"""Honest numbers after choosing: the best of many subsets, those not told from it, the smallest that keeps a share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redundancy_eval.statistics import draws
from redundancy_eval.statistics.covariance import Array, Estimates
from redundancy_eval.statistics.intervals import t_quantile


@dataclass(frozen=True)
class Best:
    """The best of several scores: its `index` and `value`, and what is left of it after selection.

    `corrected` is value minus the expected gain from choosing; `quantile` times a standard error makes intervals that
    hold for all subsets at once.
    """

    index: int
    value: float
    corrected: float
    quantile: float


def best(found: Estimates, rng: np.random.Generator, level: float = 0.95, count: int = draws.DRAWS) -> Best:
    """The best of `found` with the winner's curse taken off.

    The curse is the mean over draws Z of (v + Z)[pick] - v[pick], where pick is the best of v + Z.

    Args:
        found: scores v of the candidates; ties go to the first.
        rng: from draws.generator.
        level: of the simultaneous intervals.
        count: number of draws.

    Returns:
        NaN for `corrected` and `quantile` where a standard error is not known.
    """
    v = found.values
    index = int(v.argmax())
    if not _known(found):
        return Best(index, float(v[index]), float("nan"), float("nan"))
    se = found.se

    def each(sample: Array) -> Array:
        pick = (v + sample).argmax(axis=1)
        gain = sample[np.arange(len(sample)), pick]
        return np.stack([gain, (np.abs(sample) / np.where(se > 0, se, np.inf)).max(axis=1)], axis=1)

    sample = draws.of_draws(found.covariance, float(found.df.min()), rng, each, count)
    return Best(index, float(v[index]), float(v[index] - sample[:, 0].mean()), float(draws.upper(sample[:, 1], level)))


def not_told_apart(
    found: Estimates, rng: np.random.Generator, level: float = 0.95, count: int = draws.DRAWS
) -> NDArray[np.bool_]:
    """(q,): which cannot be told from the best; holds the truly best with probability `level` at least.

    S stays where the largest t of (another - S) is not above the level's quantile of that maximum around equality.
    Candidates whose t is beyond Bonferroni's bound need no draws.
    """
    v, q = found.values, len(found.values)
    if q == 1 or not _known(found):
        return np.ones(q, dtype=bool)
    df, variance = float(found.df.min()), np.diagonal(found.covariance)
    squared = variance[:, None] + variance[None, :] - 2 * found.covariance
    se = np.sqrt(np.where(squared > 1e-12 * (variance[:, None] + variance[None, :]), squared, np.inf))
    largest = ((v[None, :] - v[:, None]) / se).max(axis=1, where=~np.eye(q, dtype=bool), initial=-np.inf)
    candidates = np.flatnonzero(largest <= t_quantile(1 - (1 - level) / (q - 1), df))

    def each(sample: Array) -> Array:
        columns = []
        for s in candidates:
            others = np.arange(q) != s
            columns.append(((sample[:, others] - sample[:, [s]]) / se[s, others]).max(axis=1))
        return np.stack(columns, axis=1)

    kept = np.zeros(q, dtype=bool)
    if len(candidates):
        limits = draws.upper(draws.of_draws(found.covariance, df, rng, each, count), level)
        kept[candidates] = largest[candidates] <= limits
    return kept


def shown_above_zero(
    contrasts: Estimates, rng: np.random.Generator, level: float = 0.95, count: int = draws.DRAWS
) -> NDArray[np.bool_]:
    """(q,): which contrasts, of all that are looked at, are shown to be above 0 (one-sided, simultaneously).

    For "S keeps a share": contrasts v_S - share x v_full of every subset.
    """
    se = contrasts.se
    if not _known(contrasts) or not (se > 0).all():
        return np.zeros(len(se), dtype=bool)
    largest = draws.of_draws(
        contrasts.covariance, float(contrasts.df.min()), rng, lambda sample: (sample / se).max(axis=1), count
    )
    return np.asarray(contrasts.values / se > draws.upper(largest, level), dtype=bool)


def smallest(scores: Array, sizes: NDArray[np.int64], allowed: NDArray[np.bool_]) -> int | None:
    """Index of the smallest allowed subset, the one with the highest score among those of its size; None: none is."""
    at: list[int] = np.flatnonzero(allowed).tolist()
    return min(at, key=lambda i: (sizes[i], -scores[i], i)) if at else None


def _known(found: Estimates) -> bool:
    return bool(len(found.values) and np.isfinite(found.covariance).all() and not np.isnan(found.df).any())
