"""Which encoders share what they give: Shapley and Banzhaf values, pair interactions, Moebius coefficients.

Each is a fixed matrix times the scores v of the subsets of encoders that are *kept*. A subset is a number: bit i is set
where encoder i is kept. Matrices have a column for each subset given (all 2^n by default), so that a table of fewer
masks can be used where it suffices: `complete` says where it does. Formulas: Shapley 1953; Grabisch and Roubens 1999.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb, factorial

import numpy as np
from numpy.typing import NDArray

from redundancy_eval.statistics.covariance import Array

SUBSTITUTES, COMPLEMENTS, NO_INTERACTION = "substitutes", "complements", "no interaction shown"
NOT_KNOWN = "n/a"


def every(n: int) -> NDArray[np.int64]:
    """(2^n,) all subsets of n encoders."""
    return np.arange(2**n)


def pairs(n: int) -> list[tuple[int, int]]:
    """The n (n - 1) / 2 pairs of encoders."""
    return list(combinations(range(n), 2))


def shapley(n: int, subsets: Sequence[int] | None = None) -> Array:
    """(n, subsets): with k = |S|, (k - 1)! (n - k)! / n! where i is kept, else -k! (n - k - 1)! / n!."""
    return _values(n, subsets, lambda k: 1 / (n * comb(n - 1, k)))


def banzhaf(n: int, subsets: Sequence[int] | None = None) -> Array:
    """(n, subsets): +-1 / 2^(n - 1)."""
    return _values(n, subsets, lambda k: 1 / 2 ** (n - 1))


def shapley_interaction(n: int, subsets: Sequence[int] | None = None) -> Array:
    """(pairs, subsets): mean of the second differences over all contexts T, weights |T|! (n - |T| - 2)! / (n - 1)!."""
    return _second_differences(n, subsets, lambda t: factorial(t) * factorial(n - t - 2) / factorial(n - 1))


def banzhaf_interaction(n: int, subsets: Sequence[int] | None = None) -> Array:
    """(pairs, subsets): plain mean of the second differences."""
    return _second_differences(n, subsets, lambda t: 1 / 2 ** (n - 2))


def at_the_full_model(n: int, subsets: Sequence[int] | None = None) -> Array:
    """(pairs, subsets): v(all) - v(all but i) - v(all but j) + v(all but both)."""
    return _second_differences(n, subsets, lambda t: float(t == n - 2))


def moebius(n: int) -> Array:
    """(2^n, 2^n): mu(S) = sum over T in S of (-1)^|S - T| v(T)."""
    s, t = every(n)[:, None], every(n)[None, :]
    return np.where(s & t == t, (-1.0) ** _count(s ^ t, n), 0.0)


def shared(n: int, subsets: Sequence[int] | None = None) -> Array:
    """(1, subsets): (full - none) - sum of the single drops: what is lost only when several encoders are dropped."""
    columns, full = _columns(n, subsets), 2**n - 1
    row = (columns == full) * 1.0 - (columns == 0)
    for i in range(n):
        row += (columns == full ^ (1 << i)) - 1.0 * (columns == full)
    return row[None]


def complete(matrix: Array, whole: Array | int) -> NDArray[np.bool_]:
    """(rows,): whether a row has as many subsets as it needs, a number or that of another matrix's rows."""
    needed = whole if isinstance(whole, int) else (whole != 0).sum(axis=1)
    return np.asarray((matrix != 0).sum(axis=1) == needed, dtype=bool)


def words(values: Array, adjusted: Array, alpha: float = 0.05) -> list[str]:
    """A word for each pair from its interaction and adjusted p: below 0 substitutes, above 0 complements."""
    said = np.where(values < 0, SUBSTITUTES, COMPLEMENTS)
    shown = np.where(adjusted <= alpha, said, NO_INTERACTION)
    return [str(word) for word in np.where(np.isnan(adjusted), NOT_KNOWN, shown)]


def _columns(n: int, subsets: Sequence[int] | None) -> NDArray[np.int64]:
    return every(n) if subsets is None else np.asarray(subsets, dtype=np.int64)


def _count(subsets: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """How many encoders are kept."""
    total = np.zeros_like(subsets)
    for i in range(n):
        total = total + (subsets >> i & 1)
    return total


def _values(n: int, subsets: Sequence[int] | None, weight: Callable[[int], float]) -> Array:
    """Weighted means over contexts T without i, of |T| encoders, of v(T + i) - v(T)."""
    columns = _columns(n, subsets)
    size = _count(columns, n)
    rows = []
    for i in range(n):
        kept = columns >> i & 1
        weights = np.array([weight(t) for t in size - kept])
        rows.append(np.where(kept, weights, -weights))
    return np.array(rows).reshape(n, len(columns))


def _second_differences(n: int, subsets: Sequence[int] | None, weight: Callable[[int], float]) -> Array:
    columns = _columns(n, subsets)
    size = _count(columns, n)
    rows = []
    for i, j in pairs(n):
        one, other = columns >> i & 1, columns >> j & 1
        weights = np.array([weight(t) for t in size - one - other])
        rows.append(np.where(one == other, weights, -weights))
    return np.array(rows).reshape(len(pairs(n)), len(columns))
