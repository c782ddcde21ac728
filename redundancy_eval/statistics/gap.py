"""Information Gap beside what equally useful encoders would show."""

from dataclasses import dataclass

import numpy as np

from redundancy_eval import metrics
from redundancy_eval.statistics import draws
from redundancy_eval.statistics.covariance import Array, Estimates
from redundancy_eval.statistics.intervals import t_quantile


@dataclass(frozen=True)
class Gap:
    """IG, its interval, the `null` that equally useful encoders exceed with probability 1 - level, and p."""

    value: float
    low: float
    high: float
    null: float
    p: float


def information_gap(curs: Estimates, rng: np.random.Generator, level: float = 0.95, count: int = draws.DRAWS) -> Gap:
    """IG = max - min of CURs, tested against the range of draws around equal CURs.

    low = max(0, IG - null), which is above 0 exactly where p <= 1 - level; high = the largest difference of a pair + t
    SE. Where IG is 0 only `low` can fail; where it is not, `high` needs no allowance for the choice of the pair, as
    the true pair is among the pairs.

    Args:
        curs: of all encoders, ordered by name.
        rng: from draws.generator.
        level: of the interval and the null.
        count: number of draws.

    Returns:
        NaN for one encoder, or where a CUR or its SE is not known.
    """
    value = float(metrics.information_gap(curs.values))
    if np.isnan(value) or np.isnan(curs.covariance).any() or np.isnan(curs.df).any():
        return Gap(value, *[float("nan")] * 4)
    df = float(curs.df.min())
    ranges = draws.of_draws(curs.covariance, df, rng, _range, count)
    null = float(draws.upper(ranges, level))
    u, variance = curs.values, np.diagonal(curs.covariance)
    squared = variance[:, None] + variance[None, :] - 2 * curs.covariance
    ends = u[:, None] - u[None, :] + t_quantile((1 + level) / 2, df) * np.sqrt(np.maximum(squared, 0))
    high = float(ends[~np.eye(len(u), dtype=bool)].max())
    return Gap(value, max(0.0, value - null), high, null, draws.p_value(ranges, value))


def _range(sample: Array) -> Array:
    return np.asarray(sample.max(axis=1) - sample.min(axis=1))
