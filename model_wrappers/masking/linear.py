"""The best linear guess of some channels from others, from means and covariances alone: arrays in, arrays out.

Ridge regression on standardised channels, as CORP (arXiv 2602.05243) replaces what is cut inside a vision transformer;
here the channels are those of several encoders at one place. One pair of `Moments` serves all sets of dropped channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = tuple(10.0**power for power in range(-6, 2))
_CONSTANT = 1e-6  # a channel that varies less than this share of its mean is constant: float32 tells no more


@dataclass(frozen=True)
class Moments:
    """What is kept of rows of channels; those of two samples add up to those of both.

    Attributes:
        count: rows.
        mean: (channels,) float64.
        scatter: (channels, channels) float64, the sum of (x - mean)(x - mean)^T.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def none(cls, channels: int) -> "Moments":
        """Of no rows."""
        return cls(0, torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, channels, dtype=torch.float64))

    @classmethod
    def of(cls, rows: Tensor) -> "Moments":
        """Of rows (rows, channels); products of half-precision features are summed in float32, others in float64."""
        wide = rows.float() if rows.dtype in (torch.bfloat16, torch.float16) else rows.double()
        mean = wide.mean(0)
        centred = wide - mean
        return cls(len(rows), mean.cpu().double(), (centred.T @ centred).cpu().double())

    def __add__(self, other: "Moments") -> "Moments":
        """Of both samples (Chan, Golub and LeVeque 1979, formula 2.1)."""
        count = self.count + other.count
        if not count:
            return self
        apart = other.mean - self.mean
        scatter = (self.scatter + other.scatter).addr_(apart, apart, alpha=self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), scatter)

    def to(self, device: torch.device) -> "Moments":
        """The same on a device."""
        return Moments(self.count, self.mean.to(device), self.scatter.to(device))

    def covariance(self, rows: Tensor, columns: Tensor) -> Tensor:
        """(rows, columns) of the covariance matrix, by indices of channels."""
        return self.scatter[rows[:, None], columns] / max(self.count, 1)

    def variance(self, channels: Tensor) -> Tensor:
        """(channels,): variances, by indices of channels."""
        return self.scatter.diagonal()[channels] / max(self.count, 1)


@dataclass(frozen=True)
class Guess:
    """Dropped channels as a linear function of kept ones: y = mean + (x - centre) weight.

    Attributes:
        weight: (kept, dropped).
        centre: (kept,), the kept channels' mean.
        mean: (dropped,), the dropped channels' mean.
        ridge: that was chosen.
        missed: (dropped,) mean squared error on the held-out part, of the fit to the other part.
        varies: (dropped,) variance on the held-out part.
    """

    weight: Tensor
    centre: Tensor
    mean: Tensor
    ridge: float
    missed: Tensor
    varies: Tensor

    @property
    def bias(self) -> Tensor:
        """(dropped,): what the guess is for x = 0."""
        return self.mean - self.centre @ self.weight

    @property
    def r2(self) -> float:
        """Share of the dropped channels' held-out variance that the kept ones tell; NaN where they are constant."""
        return explained(self.missed, self.varies)


def explained(missed: Tensor, varies: Tensor) -> float:
    """1 - error / variance, summed over channels; NaN where nothing varies."""
    total = float(varies.sum())
    return 1 - float(missed.sum()) / total if total > 0 else float("nan")


def guess(fit: Moments, held: Moments, keep: Sequence[int] | Tensor, drop: Sequence[int] | Tensor) -> Guess:
    """The linear guess of channels from others.

    The ridge is that of RIDGES with the smallest error on the held-out part; the guess is then fitted to all. A channel
    that is constant tells nothing, and is guessed by its mean.

    Args:
        fit: moments of the part that is fitted.
        held: of the part that is held out.
        keep: indices of the channels that are known; none: the guess is the mean.
        drop: indices of those that are guessed.
    """
    keep, drop = (torch.as_tensor(index, dtype=torch.long, device=fit.mean.device) for index in (keep, drop))
    cross, kept, varies = held.covariance(keep, drop), held.covariance(keep, keep), held.variance(drop)
    apart = held.mean - fit.mean

    def missed(weight: Tensor) -> Tensor:
        spread = varies - 2 * (weight * cross).sum(0) + (weight * (kept @ weight)).sum(0)
        return spread.clamp_min(0) + (apart[drop] - apart[keep] @ weight).square()

    tried = [(ridge, missed(weight)) for ridge, weight in _weights(fit, keep, drop, RIDGES)]
    ridge, error = min(tried, key=lambda one: float(one[1].sum()))
    both = fit + held
    ((_, weight),) = _weights(both, keep, drop, (ridge,))
    return Guess(weight, both.mean[keep], both.mean[drop], ridge, error, varies)


def _weights(moments: Moments, keep: Tensor, drop: Tensor, ridges: Sequence[float]) -> Iterator[tuple[float, Tensor]]:
    """(ridge, (kept, dropped) weights) for each ridge."""
    deviation = moments.variance(torch.arange(len(moments.mean), device=keep.device)).clamp_min(0).sqrt()
    alive = deviation > _CONSTANT * moments.mean.abs()
    inverse = torch.where(alive, 1 / deviation.clamp_min(1e-300), 0)[keep]
    correlation = moments.covariance(keep, keep) * inverse[:, None] * inverse
    cross = moments.covariance(keep, drop) * inverse[:, None] * alive[drop]
    for ridge in ridges:
        regular = correlation.clone()
        regular.diagonal().add_(ridge)
        yield ridge, torch.cholesky_solve(cross, torch.linalg.cholesky(regular)) * inverse[:, None]
