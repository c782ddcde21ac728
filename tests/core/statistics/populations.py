"""Populations of clusters with exactly known scores and CURs, to draw benchmarks from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Sizes = Callable[[np.random.Generator, int], NDArray[np.int64]]


def one(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Single documents."""
    return np.ones(n, dtype=np.int64)


def two(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Question pairs."""
    return np.full(n, 2)


def four(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Circular groups of two to four."""
    return rng.integers(2, 5, n)


def few(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Images with one question or a few, as in TextVQA."""
    return 1 + rng.poisson(0.6, n)


def many(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Images with many questions and a heavy tail, as in GQA: 31 on average."""
    return np.maximum(1, np.round(rng.lognormal(np.log(22), 0.85, n))).astype(np.int64)


@dataclass(frozen=True)
class Population:
    """Cluster sums (masks, clusters) and sizes (clusters,) of one stratum; row 0 is the full model."""

    numerators: Array
    denominators: Array

    @property
    def scores(self) -> Array:
        """(masks,) the truth."""
        return np.asarray(self.numerators.sum(axis=1) / self.denominators.sum())

    def draw(self, rng: np.random.Generator, clusters: int) -> tuple[Array, Array]:
        """Numerators and denominators of clusters drawn at random."""
        at = rng.integers(len(self.denominators), size=clusters)
        return self.numerators[:, at], self.denominators[at]


def population(
    rng: np.random.Generator,
    sizes: Sizes,
    score: float,
    curs: Sequence[float],
    flips: float | Sequence[float],
    clusters: int = 20_000,
    rule: str = "items",
    graded: bool = False,
    alike: float = 0.15,
    agree: float = 0.6,
    together: float = 0.3,
) -> Population:
    """A population in which the masks' CURs hold exactly (under the rule "items").

    Args:
        rng: random numbers.
        sizes: of the clusters.
        score: of the full model.
        curs: of the masks with one encoder dropped.
        flips: share of items that a mask changes beyond what its CUR needs, half up and half down.
        clusters: in the population.
        rule: a key of metrics.RULES.
        graded: whether some items are scored between 0 and 1.
        alike: correlation of right answers within a cluster.
        agree: correlation between masks in which items change.
        together: correlation within a cluster of which items change.
    """
    size = sizes(rng, clusters)
    index = np.repeat(np.arange(clusters), size)
    n = len(index)

    def latent(within: float) -> Array:
        return np.sqrt(within) * rng.standard_normal(clusters)[index] + np.sqrt(1 - within) * rng.standard_normal(n)

    full = np.zeros(n)
    full[np.argsort(-latent(alike))[: round(score * n)]] = 1
    if graded:
        some = rng.random(n) < 0.35
        full[some] = rng.choice([0.3, 0.6, 0.9], size=int(some.sum()))
    fragile, rows = latent(together), [full]
    for cur, flip in zip(curs, np.broadcast_to(flips, len(curs)), strict=True):
        own = np.sqrt(agree) * fragile + np.sqrt(1 - agree) * rng.standard_normal(n)
        rows.append(_masked(rng, full, np.argsort(-own), cur, float(flip), graded))
    y = np.array(rows)
    total = np.array([np.bincount(index, weights=row, minlength=clusters) for row in y])
    if rule == "items":
        return Population(total, size.astype(float))
    right = np.array([np.bincount(index, weights=(row == 1) * 1.0, minlength=clusters) for row in y]) == size
    numerators = right * 1.0 if rule == "all" else (total / size + right) / 2
    return Population(numerators, np.ones(clusters))


def _masked(
    rng: np.random.Generator, full: Array, rank: NDArray[np.int64], cur: float, flip: float, graded: bool
) -> Array:
    """Scores of a mask: the most fragile items change, then as many are lost or won as the CUR needs."""
    y = full.copy()
    if graded:
        pick = rank[: int(flip * len(full))]
        y[pick] = full[rng.permutation(pick)]
    else:
        up, down = rank[full[rank] == 0], rank[full[rank] == 1]
        count = min(len(up), len(down), round(flip * len(full) / 2))
        y[up[:count]], y[down[:count]] = 1, 0
    target = full.sum() * (1 - cur)
    pool = rank[y[rank] > 0] if cur > 0 else rank[y[rank] < 1]
    gain = np.cumsum(y[pool] if cur > 0 else 1 - y[pool])
    need = y.sum() - target if cur > 0 else target - y.sum()
    if need > 1e-6:
        y[pool[: np.searchsorted(gain, need - 1e-9) + 1]] = 0 if cur > 0 else 1
    return y
