"""Intervals that hold at every look, where documents are asked in rounds until CURs are known well enough.

At look k a share t_k of the documents is asked; whether to go on is decided by the widths of the intervals. Each look's
intervals have a nominal level above 95 %, such that those of one number at all looks hold it together in at least 95 %
of cases: repeated confidence intervals, which stay valid whatever makes one stop (Jennison and Turnbull 1989, JRSS B
51:305). The levels follow from Lan and DeMets (1983, Biometrika 70:659): 5 % is spent over the looks as a function of
t, and a look's bound leaves of paths that crossed none before just what it may spend. So a look's level depends on
the looks so far, not on those to come.

Spending is Pocock-like, alpha ln(1 + (e - 1) t), not O'Brien-Fleming-like. The latter keeps almost all for the end,
which suits tests: few trials should stop for an early surprise. Here widths stop, and its early bounds (8.9 SE at a
sixteenth of the documents, where Pocock-like ones have 2.8) make an early stop all but impossible. Of wants spread
evenly on a log scale from 1/40 to all of the documents, five looks ask 49 % on average (O'Brien-Fleming-like: 66 %);
`python -m benchmarks.until` has it. The price is paid where nothing stops: the last look has 2.23 SE in place of 1.96.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from redundancy_eval.statistics.covariance import Array

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)
FIRST = 1 / 16  # less leaves the smallest benchmarks too few images for a variance
_FAR = 40.0  # standard errors that no bound exceeds


def pocock_like(fraction: float, alpha: float) -> float:
    """alpha ln(1 + (e - 1) t), Lan and DeMets 1983: what may be spent until t, all of it at t = 1."""
    return alpha * math.log1p((math.e - 1) * min(1.0, fraction))


def fractions(looks: int) -> tuple[float, ...]:
    """Shares of the documents at each of two or more looks: from FIRST on in equal ratios to all."""
    return tuple(FIRST ** (1 - k / (looks - 1)) for k in range(looks))


def bounds(shares: Sequence[float], alpha: float, spent: Callable[[float, float], float] = pocock_like) -> Array:
    """Two-sided bounds (looks,) of |Z| that spend alpha.

    Of Z_k with Cov(Z_j, Z_k) = sqrt(t_j / t_k), by recursive integration over paths within the bounds (Armitage,
    McPherson and Rowe 1969, JRSS A 132:235).

    Args:
        shares: t_1 < t_2 < ... of the information, up to 1.
        alpha: what the looks may spend together.
        spent: of (t, alpha), what may be spent until t.
    """
    found, paths, before = list[float](), _Paths.start(), 0.0
    for share in shares:
        now = spent(share, alpha)
        step = share - paths.share
        bound = optimize.brentq(lambda z, p=paths, s=step, a=now - before: p.leaving(s, z) - a, 0.0, _FAR, xtol=1e-10)
        found.append(float(bound))
        paths, before = paths.within(step, bound), now
    return np.array(found)


def crossing(shares: Sequence[float], limits: Sequence[float]) -> Array:
    """Probability (looks,) that |Z| first leaves its bound at each look; arguments as of and from `bounds`."""
    found, paths = list[float](), _Paths.start()
    for share, limit in zip(shares, limits, strict=True):
        step = share - paths.share
        found.append(paths.leaving(step, limit))
        paths = paths.within(step, limit)
    return np.array(found)


def nominal_level(shares: Sequence[float], level: float = 0.95) -> float:
    """Level of the intervals at the last of these looks, so that those of one number at all looks hold it at `level`.

    Args:
        shares: t_1 < ... < t_k, shares of the documents that were asked at each look so far.
        level: of all looks together.
    """
    return float(1 - 2 * stats.norm.sf(bounds(shares, 1 - level)[-1]))


@dataclass(frozen=True)
class _Paths:
    """Paths of Brownian motion that are still within all bounds: where they are at time `share`, with their weight."""

    share: float
    nodes: Array
    weights: Array

    @classmethod
    def start(cls) -> "_Paths":
        """All paths, at 0."""
        return cls(0.0, np.zeros(1), np.ones(1))

    def leaving(self, step: float, bound: float) -> float:
        """Probability of |Z| > bound after a step."""
        edge, sd = bound * math.sqrt(self.share + step), math.sqrt(step)
        out = stats.norm.sf((edge - self.nodes) / sd) + stats.norm.cdf((-edge - self.nodes) / sd)
        return float(self.weights @ out)

    def within(self, step: float, bound: float) -> "_Paths":
        """Those of |Z| <= bound after a step."""
        edge, sd = bound * math.sqrt(self.share + step), math.sqrt(step)
        nodes = edge * _NODES
        density = self.weights @ stats.norm.pdf((nodes[None, :] - self.nodes[:, None]) / sd) / sd
        return _Paths(self.share + step, nodes, density * edge * _WEIGHTS)
