"""What every mask changes against the full model, in points, with the intervals of paired answers."""

import numpy as np

from redundancy_eval.statistics.covariance import linear
from redundancy_eval.table import ScoreTable
from redundancy_eval.uncertainty.join import join
from redundancy_eval.uncertainty.numbers import t_numbers
from redundancy_eval.uncertainty.results import Score, Settings


def changes(table: ScoreTable, settings: Settings | None = None) -> tuple[Score, ...]:
    """Score of each mask but the full model less the full model's, of every category and overall.

    Intervals (t, statistics.md section 1) hold each for itself. Names in masks stand in alphabetical order.
    """
    settings, joined = settings or Settings(), join(table)
    rows = [row for row, there in enumerate(joined.in_table) if there and joined.masks[row]]
    contrasts = np.eye(len(joined.masks))[rows]
    contrasts[:, 0] -= 1
    found = []
    for place in joined.places if rows else ():
        estimates = linear(place.scores, contrasts)
        points = t_numbers(estimates, place, [[0, row] for row in rows], settings.level, 100)
        found += [
            Score(joined.masks[row], place.name, place.kind, each) for row, each in zip(rows, points, strict=True)
        ]
    return tuple(found)
