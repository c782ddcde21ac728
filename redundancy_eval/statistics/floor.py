"""What is left when all encoders are dropped: headroom, CUR relative to it, and masks below it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from redundancy_eval.statistics.covariance import Array, Estimates, Scores, estimates, linear
from redundancy_eval.statistics.verdicts import holm, upper_tail

CLEAR = 5.0  # standard errors that the headroom must be away from 0 for a ratio to it to mean something


def headroom(scores: Scores, full: int, none: int) -> Estimates:
    """Full minus none: what all encoders together give."""
    return linear(scores, _difference(len(scores.values), full, [none]))


def clear_headroom(scores: Scores, full: int, none: int) -> bool:
    """Whether the headroom is at least CLEAR standard errors."""
    found = headroom(scores, full, none)
    return bool(found.values[0] >= CLEAR * found.se[0])


def floor_corrected(scores: Scores, full: int, without: Sequence[int], none: int) -> Estimates:
    """(full - without) / (full - none): the part of what the encoders give that one drop loses.

    Not clipped: above 1 the masked model is below the floor.

    Args:
        scores: of a category, or overall.
        full: row of the full model.
        without: rows of the masks with one encoder dropped.
        none: row of the mask with all dropped.

    Returns:
        (encoders,); intervals are to be trusted under `clear_headroom` only.
    """
    return ratios(scores, _difference(len(scores.values), full, without), full, none)


def ratios(scores: Scores, contrasts: Array, full: int, none: int) -> Estimates:
    """Linear statistics (contrasts (q, masks)) relative to the headroom."""
    a = np.asarray(contrasts, dtype=np.float64)
    whole = _difference(len(scores.values), full, [none])
    part = linear(scores, a, pseudo_unit=False).values
    room = scores.values[full] - scores.values[none]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = part / room if abs(room) > 0 else np.full(len(part), np.nan)
        gradient = a / room - values[:, None] / room * whole
    return estimates(values, [(scores, gradient)])


def below_floor(scores: Scores, masks: Sequence[int], none: int, level: float = 0.95) -> NDArray[np.bool_]:
    """(masks,): whose score is surely below that with all encoders dropped (one-sided t, Holm over the masks)."""
    found = linear(scores, _difference(len(scores.values), none, masks))
    adjusted = holm(upper_tail(found.values / np.where(found.se > 0, found.se, np.nan), found.df))
    return np.asarray(adjusted <= 1 - level, dtype=bool)


def _difference(count: int, one: int, others: Sequence[int]) -> Array:
    """(others, masks): one minus each other."""
    contrast = np.zeros((len(others), count))
    contrast[np.arange(len(others)), list(others)] = -1
    contrast[:, one] += 1
    return contrast
