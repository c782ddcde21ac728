"""What masks change without any label: answers that are others, and how an order of encoders agrees with CUR's.

For rank correlations, documents are resampled (bootstrap over clusters): a rank has no gradient, so the covariance
that everything else rests on says nothing of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from redundancy_eval.statistics.covariance import Array

RESAMPLES = 1_000
_PIECE = 2**22  # numbers of a benchmark's weights at a time: 32 MB


def changed(answers: ArrayLike) -> Array:
    """(masks, items) 1 where an answer is another than the first row's, 0 where it is the same.

    Args:
        answers: (masks, items) hashes, the full model's first; 0 where an answer is not known, which gives NaN.
    """
    said = np.asarray(answers, dtype=np.uint64)
    return np.where((said == 0) | (said[0] == 0), np.nan, (said != said[0]).astype(np.float64))


def expected_loss(changes: ArrayLike, log_probability: ArrayLike) -> Array:
    """(masks, items) confidence x change: the full model's probability of its own answer where that changes, else 0.

    Were that probability the chance that the answer is right, and a changed answer always wrong, its mean over
    documents would be the loss of score.

    Args:
        changes: (masks, items), see `changed`.
        log_probability: (items,) of the full model's answers, natural; NaN where it is not known.
    """
    return np.asarray(changes, dtype=np.float64) * np.exp(np.asarray(log_probability, dtype=np.float64))


@dataclass(frozen=True)
class Part:
    """One benchmark's cluster sums, to be resampled: numerators and denominators (rows, clusters), strata (clusters,).

    `weights` are those of the strata; by default all clusters form one.
    """

    numerators: Array
    denominators: Array
    strata: NDArray[np.str_]
    weights: Mapping[str, float]


def resampled(part: Part, rng: np.random.Generator, count: int = RESAMPLES) -> Array:
    """Scores (count, rows) of a benchmark when its clusters are drawn anew, the same ones for all rows."""
    strata = part.strata if part.weights else np.full(len(part.strata), "")
    found = np.zeros((count, len(part.numerators)))
    for name, weight in (part.weights or {"": 1.0}).items():
        member = strata == name
        x, d = part.numerators[:, member], part.denominators[:, member]
        size = x.shape[1]
        step = max(1, _PIECE // max(size, 1))
        for start in range(0, count, step):
            drawn = rng.multinomial(size, np.full(size, 1 / size), min(step, count - start)).astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                found[start : start + step] += weight * (drawn @ x.T) / (drawn @ d.T)
    return found


def percentiles(draws: Array, level: float) -> tuple[float, float]:
    """The middle `level` of draws (count,), those that are not known left out; NaN where that is more than 1 in 20."""
    known = draws[~np.isnan(draws)]
    if len(known) < 0.95 * len(draws):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
