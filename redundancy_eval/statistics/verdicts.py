"""What can be claimed: tests with the intervals' own standard errors, held for a whole family, and the words."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from redundancy_eval.statistics.covariance import Array, Estimates

NEEDED, RELIED_ON = "needed", "relied on"
DETRIMENTAL, REDUNDANT, UNDECIDED, NOT_KNOWN = "detrimental", "redundant", "undecided", "n/a"
BELOW_MARGIN = ", below margin"
REPLACEABLE, HARMFUL = "replaceable", "harmful"
POWER = 0.8


def upper_tail(t: ArrayLike, df: ArrayLike) -> Array:
    """P(T > t) of Student's t; of the normal law where df is infinite."""
    return np.asarray(stats.t.sf(t, df), dtype=np.float64)


def p_difference(found: Estimates) -> Array:
    """(q,) two-sided p of "it is 0"."""
    return 2 * upper_tail(_ratio(np.abs(found.values), found.se), found.df)


def p_equivalence(found: Estimates, margin: float) -> Array:
    """(q,) p of "it is at least `margin` away from 0": the larger one of two one-sided t tests (TOST)."""
    return upper_tail(_ratio(margin - np.abs(found.values), found.se), found.df)


def holm(p: ArrayLike) -> Array:
    """p values adjusted after Holm for all that were tested; a NaN was not tested and stays one. Any shape."""
    given = np.asarray(p, dtype=np.float64)
    adjusted = np.full(given.shape, np.nan)
    tested = ~np.isnan(given)
    values = given[tested]
    order = np.argsort(values, kind="stable")
    steps = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    filled = np.empty(len(values))
    filled[order] = steps
    adjusted[tested] = filled
    return adjusted


def verdicts(
    values: ArrayLike, p_diff: ArrayLike, p_equal: ArrayLike, alpha: float = 0.05, positive: str = NEEDED
) -> NDArray[np.str_]:
    """One word for each CUR.

    Args:
        values: CURs, any shape.
        p_diff: adjusted p of the difference from 0.
        p_equal: adjusted p of equivalence within the margin.
        alpha: how often a family may hold a wrong claim of each kind.
        positive: NEEDED where dropped outputs were predicted from the others, RELIED_ON under other ablations.
    """
    u, differs, small = np.asarray(values, dtype=np.float64), np.asarray(p_diff), np.asarray(p_equal)
    differs, small = differs <= alpha, small <= alpha
    unknown = np.isnan(u) | np.isnan(np.asarray(p_diff)) | np.isnan(np.asarray(p_equal))
    sign = np.where(u > 0, positive, DETRIMENTAL)
    claimed = np.where(small, np.char.add(sign, BELOW_MARGIN), sign)
    word = np.where(differs, claimed, np.where(small, REDUNDANT, UNDECIDED))
    return np.where(unknown, NOT_KNOWN, word)


def need(zeros: str, predicted: str) -> str:
    """What two verdicts on one encoder say together, in one word.

    NEEDED where it is needed with linear stand-ins, HARMFUL where it is detrimental with them (both with ", below
    margin" where that was shown). Where it is redundant with them: REPLACEABLE if it is relied on under zeros, HARMFUL
    if it is detrimental there (both beyond the margin), REDUNDANT if it is within the margin there too. UNDECIDED where
    it is undecided with stand-ins, or redundant with them and undecided under zeros; NOT_KNOWN where either is.

    Args:
        zeros: under zeros.
        predicted: with linear stand-ins.
    """
    if NOT_KNOWN in (zeros, predicted):
        return NOT_KNOWN
    if predicted.startswith(NEEDED):
        return predicted
    if predicted.startswith(DETRIMENTAL):
        return predicted.replace(DETRIMENTAL, HARMFUL)
    if UNDECIDED in (zeros, predicted):
        return UNDECIDED
    return {RELIED_ON: REPLACEABLE, DETRIMENTAL: HARMFUL}.get(zeros, REDUNDANT)


def documents_to_decide(
    values: ArrayLike, se: ArrayLike, documents: ArrayLike, margin: float, family: int, alpha: float = 0.05
) -> Array:
    """About how many documents would decide, were today's CURs and SEs true (power 80 %).

    The smaller one of N ((z(1 - alpha / 2F) + z(.8)) SE / |u|)^2 for "differs from 0" and
    N ((z(1 - alpha / F) + z(.9)) SE / (margin - |u|))^2 for "within the margin".

    Args:
        values: CURs u.
        se: their standard errors.
        documents: N, today's documents.
        margin: of CUR, a fraction.
        family: F, how many verdicts are given together.
        alpha: see `verdicts`.
    """
    u, error, z = np.abs(np.asarray(values, dtype=np.float64)), np.asarray(se, dtype=np.float64), stats.norm.ppf
    with np.errstate(divide="ignore", invalid="ignore"):
        differs = (z(1 - alpha / 2 / family) + z(POWER)) * error / u
        within = (z(1 - alpha / family) + z((1 + POWER) / 2)) * error / np.where(u < margin, margin - u, 0)
    return np.asarray(documents, dtype=np.float64) * np.minimum(differs, within) ** 2


@dataclass(frozen=True)
class McNemar:
    """Two-sided p values of paired right-or-wrong answers, documents taken as independent."""

    exact: float
    mid: float


def mcnemar(losses: int, gains: int) -> McNemar:
    """Exact and mid-p McNemar test (Fagerland et al. 2013, BMC Med Res Meth 13:91).

    Args:
        losses: documents right only with the encoder.
        gains: documents right only without it.
    """
    total, fewer = losses + gains, min(losses, gains)
    exact = min(1.0, 2 * float(stats.binom.cdf(fewer, total, 0.5))) if total else 1.0
    middle = float(stats.binom.pmf(fewer, total, 0.5)) if total else 0.0
    tail = 2 * float(stats.binom.cdf(fewer, total, 0.5)) - middle if total else 1.0
    return McNemar(exact, min(1.0, tail))


def _ratio(values: Array, se: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(se > 0, values / np.where(se > 0, se, 1), np.nan)
