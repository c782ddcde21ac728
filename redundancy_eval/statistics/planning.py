"""How many documents a verdict needs, and which margin a set of benchmarks can decide.

From assumptions (share of changed answers, design effect) or from a pilot's standard errors. Normal quantiles; the
simulated power at these numbers is 77 to 83 % where 80 are wanted.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

SHARE = 0.06  # of answers that a mask changes: an assumption until runs tell
CORRELATION = 0.02  # of changes within an image: an assumption
POWER, ALPHA = 0.8, 0.05


def design_effect(cluster_sizes: Sequence[float], correlation: float = CORRELATION) -> float:
    """1 + (sum D^2 / sum D - 1) x correlation, for clusters of D documents."""
    sizes = np.asarray(cluster_sizes, dtype=np.float64)
    return float(1 + ((sizes**2).sum() / sizes.sum() - 1) * correlation)


def documents_for_redundant(
    margin: float, full: float, share: float = SHARE, design: float = 1.0, family: int = 1, power: float = POWER
) -> float:
    """Documents that show |CUR| < margin, were it 0: (z(1 - a/F) + z((1 + power)/2))^2 s d / (f m)^2.

    Args:
        margin: m of CUR, a fraction.
        full: f, score of the full model, 0..1.
        share: s, of answers that the mask changes.
        design: d, design effect.
        family: F, how many verdicts are given together.
        power: probability of the verdict.
    """
    return float(_redundant(family, power) ** 2 * share * design / (full * margin) ** 2)


def documents_for_needed(
    cur: float, full: float, share: float = SHARE, design: float = 1.0, family: int = 1, power: float = POWER
) -> float:
    """Documents that show a CUR u to differ from 0: (z(1 - a/2F) + z(power))^2 (s - (u f)^2) d / (f u)^2.

    NaN where so few changed answers cannot make that CUR. Arguments as `documents_for_redundant`.
    """
    variance = share - (cur * full) ** 2
    if variance <= 0 or share < abs(cur) * full:
        return float("nan")
    return float(_differs(family, power) ** 2 * variance * design / (full * cur) ** 2)


def documents_from_pilot(
    documents: float, se: float, margin: float, family: int = 1, power: float = POWER, differs: bool = False
) -> float:
    """Documents that a pilot's standard error asks for: N (z SE / margin)^2.

    Args:
        documents: N of the pilot.
        se: of a CUR in the pilot.
        margin: what is to be decided: |CUR| < margin, or (`differs`) a CUR of that size to differ from 0.
        family: how many verdicts are given together.
        power: probability of the verdict.
        differs: see `margin`.
    """
    z = _differs(family, power) if differs else _redundant(family, power)
    return float(documents * (z * se / margin) ** 2)


def category_se(
    documents: Sequence[float], full: float, share: float = SHARE, designs: Sequence[float] | None = None
) -> float:
    """SE of a category's CUR from its benchmarks' documents: sqrt(sum s d / N) / (B f)."""
    count = np.asarray(documents, dtype=np.float64)
    design = np.ones(len(count)) if designs is None else np.asarray(designs, dtype=np.float64)
    return float(np.sqrt((share * design / count).sum()) / (len(count) * full))


def smallest_margin(se: float, family: int = 1, power: float = POWER) -> float:
    """The smallest margin that a CUR of 0 with this SE is shown to lie within: (z(1 - a/F) + z((1 + power)/2)) SE."""
    return float(_redundant(family, power) * se)


def _redundant(family: int, power: float) -> float:
    return float(stats.norm.ppf(1 - ALPHA / family) + stats.norm.ppf((1 + power) / 2))


def _differs(family: int, power: float) -> float:
    return float(stats.norm.ppf(1 - ALPHA / 2 / family) + stats.norm.ppf(power))
