"""CUR and floor-corrected CUR with their gradients in the scores."""

from collections.abc import Sequence

import numpy as np

from redundancy_eval import metrics
from redundancy_eval.statistics.covariance import Array, Estimates, Scores, estimates, linear

CLEAR_OF_ZERO = 3.0  # standard errors that the full model's score must be away from 0


def curs(scores: Scores, full: int, without: Sequence[int]) -> Estimates:
    """CUR (full - without) / full of one category, arXiv 2507.03262.

    Args:
        scores: of the category.
        full: row of the full model.
        without: rows of the masks with one encoder dropped.

    Returns:
        (encoders,); not known where the full score is less than CLEAR_OF_ZERO standard errors above 0.
    """
    return overall_curs([scores], full, without)


def overall_curs(categories: Sequence[Scores], full: int, without: Sequence[int]) -> Estimates:
    """Mean over categories of the category CURs; see `curs`."""
    rows = list(without)
    values = metrics.overall_cur(
        np.stack([metrics.cur(each.values[full], each.values[rows]) for each in categories], axis=-1)
    )
    found = estimates(values, [(each, _gradient(each.values, full, rows) / len(categories)) for each in categories])
    if all(clear_of_zero(each, full) for each in categories):
        return found
    return Estimates(values, np.full_like(found.covariance, np.nan), np.full_like(found.df, np.nan))


def differences(categories: Sequence[Scores], full: int, first: Sequence[int], second: Sequence[int]) -> Estimates:
    """CUR under one stand-in less CUR under another, (S_second - S_first) / S_full, mean over categories.

    Args:
        categories: scores of each.
        full: row of the full model, which both share.
        first: rows of the masks with one encoder dropped, under the one.
        second: rows of the same masks under the other.

    Returns:
        (encoders,); not known where a full score is not `clear_of_zero`.
    """
    both = overall_curs(categories, full, [*first, *second])
    n, k = len(first), len(categories)
    terms = []
    for each in categories:
        gradient = _gradient(each.values, full, [*first, *second]) / k
        terms.append((each, gradient[:n] - gradient[n:]))
    found = estimates(both.values[:n] - both.values[n:], terms)
    known = ~np.isnan(both.df[:n]) & ~np.isnan(both.df[n:])
    covariance = np.where(known[:, None] & known[None, :], found.covariance, np.nan)
    return Estimates(found.values, covariance, np.where(known, found.df, np.nan))


def clear_of_zero(scores: Scores, full: int) -> bool:
    """Whether the full model's score is far enough above 0 for a ratio to it."""
    found = linear(scores, np.eye(len(scores.values))[[full]])
    return bool(found.values[0] >= CLEAR_OF_ZERO * found.se[0])


def _gradient(values: Array, full: int, rows: Sequence[int]) -> Array:
    """(encoders, masks): d/d full = without / full^2, d/d without = -1 / full."""
    gradient = np.zeros((len(rows), len(values)))
    at = np.arange(len(rows))
    with np.errstate(divide="ignore", invalid="ignore"):
        gradient[at, rows] = -1 / values[full]
        gradient[at, full] += values[list(rows)] / values[full] ** 2
    return gradient
