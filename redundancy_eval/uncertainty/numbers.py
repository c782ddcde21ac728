"""Statistics as numbers with reasons."""

from collections.abc import Sequence

import numpy as np

from redundancy_eval.statistics import intervals
from redundancy_eval.statistics.covariance import Array, Estimates
from redundancy_eval.uncertainty.join import Place
from redundancy_eval.uncertainty.results import Number

FEW = 10  # degrees of freedom below which a number is marked
NOT_KNOWN = "its standard error is not known"


def t_numbers(
    found: Estimates, place: Place, needs: Sequence[Sequence[int]], level: float, scale: float = 1.0
) -> list[Number]:
    """Estimates with t intervals.

    Args:
        found: (q,) statistics.
        place: what they are of.
        needs: for each, the rows of the masks that it needs.
        level: of the intervals.
        scale: 100 for points.
    """
    low, high = intervals.t_interval(found, level)
    return numbers(found, low, high, place, needs, scale, f"{place.method}, t")


def numbers(
    found: Estimates,
    low: Array,
    high: Array,
    place: Place,
    needs: Sequence[Sequence[int]],
    scale: float,
    method: str,
) -> list[Number]:
    """Estimates with given intervals; see `t_numbers`."""
    clusters = place.scores.clusters
    made = []
    for i, rows in enumerate(needs):
        value = float(found.values[i]) * scale
        if np.isnan(found.df[i]) or np.isnan(low[i]):
            made.append(Number(value, clusters=clusters, reason=place.reason(rows) or NOT_KNOWN))
            continue
        df = float(found.df[i])
        made.append(
            Number(
                value,
                float(low[i]) * scale,
                float(high[i]) * scale,
                float(found.se[i]) * scale,
                df,
                clusters,
                method,
                note=few(df),
            )
        )
    return made


def few(df: float) -> str:
    """The note where a standard error rests on few clusters."""
    return f"few images (df {df:.1f})" if df < FEW else ""
