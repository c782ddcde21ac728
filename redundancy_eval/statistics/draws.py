"""Draws from the estimates' normal (t) law, for statistics that take a maximum.

Determinism: one generator for each statistic, seeded by its label; draws belong to positions, so callers order the
encoders by name; the stream does not depend on the size of the pieces it is worked off in.
"""

import zlib
from collections.abc import Callable

import numpy as np

from redundancy_eval.statistics.covariance import Array

DRAWS = 100_000
_PIECE = 250_000  # numbers at a time: 2 MB, which stay in the cache


def generator(seed: int, label: str) -> np.random.Generator:
    """The random numbers of one statistic, named by a label such as "IG|General"."""
    return np.random.default_rng([seed, zlib.crc32(label.encode(errors="surrogatepass"))])


def root(covariance: Array) -> Array:
    """Symmetric square root of a covariance (q, q)."""
    values, vectors = np.linalg.eigh(covariance)
    half: Array = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return half


def of_draws(
    covariance: Array,
    df: float,
    rng: np.random.Generator,
    functions: Callable[[Array], Array],
    count: int = DRAWS,
) -> Array:
    """A function of every draw from N(0, covariance), divided by sqrt(chi2 / df) where df is finite.

    Args:
        covariance: (q, q).
        df: degrees of freedom, one chi-square for each draw.
        rng: from `generator`.
        functions: (draws, q) -> (draws, ...).
        count: number of draws.

    Returns:
        (count, ...).
    """
    width = len(covariance)
    spread = np.sqrt(rng.chisquare(df, size=(count, 1)) / df) if np.isfinite(df) else np.ones((count, 1))
    half, step, found = root(covariance), max(1, _PIECE // max(width, 1)), []
    for start in range(0, count, step):
        scale = spread[start : start + step]
        found.append(functions(rng.standard_normal((len(scale), width)) @ half / scale))
    return np.concatenate(found)


def upper(draws: Array, level: float = 0.95) -> Array:
    """The draw that is exceeded with probability 1 - level, along axis 0: the largest number that `p_value` accepts."""
    count = len(draws)
    rank = min(count, max(1, int((1 - level) * (count + 1) + 1e-9)))
    return np.asarray(np.partition(draws, count - rank, axis=0)[count - rank])


def p_value(draws: Array, value: float) -> float:
    """(1 + number of draws >= value) / (1 + number of draws); at most 1 - level exactly where value > upper(draws)."""
    return float((1 + np.sum(draws >= value)) / (len(draws) + 1))


def stretches(total: int, count: int, label: str) -> list[int]:
    """Places of so many of `total` documents: one, drawn with a fixed seed, from each of as many equal stretches.

    At a fixed distance they could all be of one kind, as kinds of questions often take turns in a data set.
    """
    if total <= count:
        return list(range(total))
    ends = [place * total // count for place in range(count + 1)]
    return [int(place) for place in generator(0, label).integers(ends[:-1], ends[1:])]
