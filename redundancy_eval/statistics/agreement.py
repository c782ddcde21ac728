"""Whether two orders of few items agree by more than chance."""

from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike

from redundancy_eval.statistics.changes import kendall

_ALL_ORDERS = 8  # items up to which every order is looked at
_SAMPLED = 40_320


def chance(one: ArrayLike, other: ArrayLike) -> float:
    """Share of the orders of the items whose tau with `one` is at least that of `other`: (items,) twice.

    Of more than eight items, a seeded sample of orders.
    """
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if len(first) <= _ALL_ORDERS:
        orders = np.array(list(permutations(range(len(first)))))
    else:
        rng = np.random.default_rng(0)
        orders = np.argsort(rng.random((_SAMPLED, len(first))), axis=1)
    value = float(kendall(first, second))
    if np.isnan(value):
        return float("nan")
    return float(np.mean(kendall(np.broadcast_to(first, orders.shape), second[orders]) >= value - 1e-12))
