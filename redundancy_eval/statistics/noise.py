"""A second run of the full model as a yardstick: how many answers change where nothing was dropped.

It does not widen intervals: run noise that is independent from question to question is in their variance already.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from redundancy_eval.statistics.covariance import Array, Estimates, Scores, linear
from redundancy_eval.statistics.intervals import t_quantile

NEGLIGIBLE = 0.005  # share of answers by which a mask may change more than a second run does


def changed(scores: ArrayLike, reference: ArrayLike) -> Array:
    """(masks, items) 1 where a score is another than the reference's (items,), NaN where either is missing."""
    y, full = np.asarray(scores, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    return np.where(np.isnan(y) | np.isnan(full), np.nan, (y != full).astype(np.float64))


def no_more_than_rerun(
    shares: Scores, masks: Sequence[int], rerun: int, level: float = 0.95
) -> tuple[Estimates, NDArray[np.bool_]]:
    """Share changed by each mask minus share changed by the second run.

    Args:
        shares: shares of changed answers, a row for each mask and one for the second run.
        masks: their rows.
        rerun: the second run's.
        level: of the one-sided upper bound.

    Returns:
        the differences (masks,), and whether the upper bound is at most NEGLIGIBLE.
    """
    contrast = np.zeros((len(masks), len(shares.values)))
    contrast[np.arange(len(masks)), list(masks)] = 1
    contrast[:, rerun] -= 1
    found = linear(shares, contrast)
    bound = found.values + t_quantile(level, found.df) * found.se
    return found, np.asarray(bound <= NEGLIGIBLE, dtype=bool)


def cur_of_rerun(share: float, documents: float, full: float, level: float = 0.95) -> float:
    """How far from 0 the CUR of an identical run comes by chance: z sqrt(f / N) / full.

    Args:
        share: f, of answers that differ between two identical runs.
        documents: N.
        full: score of the full model, 0..1.
        level: 95 % of identical runs are within.
    """
    return float(t_quantile((1 + level) / 2, np.inf) * np.sqrt(share / documents) / full)
