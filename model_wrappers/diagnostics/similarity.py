"""How alike the encoders' features are, and over how many directions each spreads; from the images alone.

Features are what each encoder gives as it enters projector or fusion, a row for each token (place) of each image. Only
sums are kept, c_i * c_j numbers for a pair of encoders, so that any number of images can be added; cost: n * c_i * c_j
multiply-adds in float64, and an eigenvalue problem of c * c.

Linear CKA: Kornblith et al. 2019, arXiv 1905.00414, with the unbiased estimate of HSIC (Song et al. 2012, JMLR 13,
equation 5) in numerator and denominator. The plain form is biased upwards unless there are far more rows than channels
(c of some thousand here). 1 for X and X Q with orthogonal Q, about 0 (also a little below) for unrelated features; rows
count as independent, which places of one image are not.

Effective rank: exp of the entropy of the normalised singular values of the centred rows (Roy and Vetterli 2007), the
criterion by which METEOR (arXiv 2507.20842) prunes tokens; 1 to the number of channels.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional


class Pair:
    """Sums over rows x (n, c_x) and y (n, c_y), added in parts, from which linear CKA follows.

    Rows are shifted by the first part's mean, which changes nothing but the rounding.
    """

    def __init__(self) -> None:
        self.shifts: tuple[Tensor, Tensor] | None = None
        self.rows = 0
        self.terms: dict[str, Tensor] = {}

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add rows: x and y at the same places."""
        x, y = x.double(), y.double()
        if self.shifts is None:
            self.shifts = x.mean(0), y.mean(0)
        self.rows += len(x)
        for name, new in _sums(x - self.shifts[0], y - self.shifts[1]).items():
            self.terms[name] = self.terms[name] + new if name in self.terms else new

    def cka(self) -> float:
        """Linear CKA; NaN for fewer than four rows, or features without any variance."""
        if self.rows < 4:
            return math.nan
        xy = _hsic(self.terms, "x", "y", self.rows)
        spread = _hsic(self.terms, "x", "x", self.rows) * _hsic(self.terms, "y", "y", self.rows)
        return xy / math.sqrt(spread) if spread > 0 else math.nan


def _sums(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    found = {}
    norms = {"x": (x * x).sum(1), "y": (y * y).sum(1)}
    rows = {"x": x, "y": y}
    for name in rows:
        found[f"sum {name}"] = rows[name].sum(0)
        found[f"norms {name}"] = norms[name].sum()
    for a, b in (("x", "y"), ("x", "x"), ("y", "y")):
        found[f"{a}{b}"] = rows[a].T @ rows[b]
        found[f"{a} by norm {b}"] = rows[a].T @ norms[b]
        found[f"norms {a}{b}"] = norms[a] @ norms[b]
        if a != b:
            found[f"{b} by norm {a}"] = rows[b].T @ norms[a]
    return found


def _hsic(terms: Mapping[str, Tensor], a: str, b: str, n: int) -> float:
    """Unbiased HSIC of linear kernels K = A A', L = B B' with zero diagonals, times n (n - 3)."""
    s, r, product = terms[f"sum {a}"], terms[f"sum {b}"], terms[f"{a}{b}"]
    trace = (product**2).sum() - terms[f"norms {a}{b}"]
    totals = (s @ s - terms[f"norms {a}"]) * (r @ r - terms[f"norms {b}"])
    # The rows' sums of K are a_i s - |a_i|^2, those of L likewise.
    crossed = s @ product @ r - s @ terms[f"{a} by norm {b}"] - r @ terms[f"{b} by norm {a}"]
    crossed = crossed + terms[f"norms {a}{b}"]
    return float(trace + totals / ((n - 1) * (n - 2)) - 2 * crossed / (n - 2))


class Spread:
    """Sums over rows (n, channels), added in parts, from which the effective rank follows."""

    def __init__(self) -> None:
        self.shift: Tensor | None = None
        self.rows = 0
        self.total: Tensor | None = None
        self.square: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Add rows."""
        x = x.double()
        if self.shift is None:
            self.shift = x.mean(0)
            self.total, self.square = torch.zeros_like(self.shift), x.new_zeros(x.shape[1], x.shape[1])
        x = x - self.shift
        assert self.total is not None and self.square is not None
        self.rows += len(x)
        self.total, self.square = self.total + x.sum(0), self.square + x.T @ x

    def rank(self) -> float:
        """Effective rank; NaN where the features do not vary."""
        if self.total is None or self.square is None:
            return math.nan
        centred = self.square - torch.outer(self.total, self.total) / self.rows
        variances = torch.linalg.eigvalsh(centred).clamp_min(0)
        # Rounding leaves about this much where there is nothing.
        variances = torch.where(variances > variances.max() * 1e-12, variances, torch.zeros_like(variances))
        share = variances.sqrt() / variances.sqrt().sum()
        return float(torch.special.entr(share).sum().exp()) if float(variances.max()) > 0 else math.nan


class Similarity:
    """CKA of all pairs and effective rank of all encoders, images added some at a time.

    Args:
        encoders: names, in the model's order.
    """

    def __init__(self, encoders: Sequence[str]):
        self.encoders = tuple(encoders)
        self.pairs = {pair: Pair() for pair in combinations(self.encoders, 2)}
        self.spreads = {name: Spread() for name in self.encoders}
        self.channels: dict[str, int] = {}
        self.units = 0

    def add(self, features: Mapping[str, Tensor]) -> None:
        """Add images.

        Encoders are compared where both have one square grid of tokens for each unit; others not at all, as it is not
        known which tokens lie at the same place (MGM's CLIP sees an image and its crops, ConvNeXt the image).

        Args:
            features: encoder -> (units, tokens, channels).
        """
        grids: dict[tuple[str, int], Tensor] = {}
        sides = {name: math.isqrt(value.shape[1]) for name, value in features.items()}
        self.units += len(next(iter(features.values())))
        for name in self.encoders:
            value = features[name]
            self.channels[name] = value.shape[-1]
            self.spreads[name].add(value.flatten(0, 1))
        square = {name: sides[name] ** 2 == value.shape[1] for name, value in features.items()}
        for (one, other), pair in self.pairs.items():
            if not (square[one] and square[other]):
                continue
            side = min(sides[one], sides[other])
            for name in (one, other):
                if (name, side) not in grids:
                    grids[name, side] = resized(features[name], side)
            pair.add(grids[one, side], grids[other, side].to(grids[one, side].device))

    def cka(self) -> tuple[tuple[float, ...], ...]:
        """(encoders, encoders); 1 on the diagonal."""
        found = {pair: sums.cka() for pair, sums in self.pairs.items()}
        return tuple(
            tuple(1.0 if a == b else found.get((a, b), found.get((b, a), math.nan)) for b in self.encoders)
            for a in self.encoders
        )

    def values(self) -> dict[str, tuple[float, ...]]:
        """Effective rank, its share of the channels, and 1 - the mean CKA with the others, of each encoder."""
        ranks = [self.spreads[name].rank() for name in self.encoders]
        shares = [rank / self.channels.get(name, 1) for rank, name in zip(ranks, self.encoders, strict=True)]
        others = max(1, len(self.encoders) - 1)
        alike = [(sum(row) - 1) / others if len(row) > 1 else math.nan for row in self.cka()]
        return {"rank": tuple(ranks), "rank_share": tuple(shares), "difference": tuple(1 - each for each in alike)}


def resized(features: Tensor, side: int) -> Tensor:
    """(units, tokens, channels) on a square grid -> (units * side * side, channels), means over what they cover."""
    units, tokens, channels = features.shape
    own = math.isqrt(tokens)
    if own == side:
        return features.flatten(0, 1)
    grid = features.transpose(1, 2).reshape(units, channels, own, own).float()
    return functional.adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2).flatten(0, 1)
