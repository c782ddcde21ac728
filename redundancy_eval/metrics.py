"""Conditional Utilization Rate and Information Gap; arrays in, arrays out.

Source: "Investigating Redundancy in Multimodal Large Language Models with Multiple Vision Encoders" (arXiv 2507.03262):
u(E) = (full - without E) / full, IG = max u - min u. How categories and the overall figures are formed is worked out
from the paper's own numbers (docs/numbers.md).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
        return np.where(full == 0, np.nan, (full - without) / full)


def overall_cur(curs: ArrayLike) -> NDArray[np.float64]:
    """An encoder's overall CUR: the plain mean of its category CURs, (..., categories) -> (...).

    The CUR of the overall score is another number and goes by another name.
    """
    return np.asarray(curs, dtype=np.float64).mean(axis=-1)


def information_gap(curs: ArrayLike) -> NDArray[np.float64]:
    """Largest minus smallest CUR over the encoders: (encoders, ...) -> (...); NaN when one is missing."""
    values = np.asarray(curs, dtype=np.float64)
    return values.max(axis=0) - values.min(axis=0)
