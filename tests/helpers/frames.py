"""The numbers of a table by name: masks as `none`, `clip+sam`, ..., categories and Overall."""

import numpy as np
import pandas as pd

from redundancy_eval import masks, metrics


def scores(table):
    values = table.categories(table.points)
    every = np.hstack([values, metrics.overall_scores(values)[:, None]])
    return _frame(every, [masks.label(mask, table.encoders, whole=not table.guessed) for mask in table.masks], table)


def cur(table):
    values = table.cur()
    return _frame(np.hstack([values, metrics.overall_cur(values)[:, None]]), table.encoders, table)


def _frame(values, rows, table):
    return pd.DataFrame(values, list(rows), [*table.taxonomy.categories, "Overall"])
