"""Which look a sweep that asks in rounds is at (`sweep --until MARGIN`), and what that makes of its intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redundancy_eval import forms
from redundancy_eval.errors import DataError


@dataclass(frozen=True)
class Until:
    """A look at results that may stop a sweep.

    `margin` is what every CUR is to be known to, in percent points (half an interval); `looks` how many there may be;
    `fractions` are the shares of the largest task's documents at the looks so far, of which the last is this one.
    """

    margin: float
    looks: int
    fractions: tuple[float, ...]

    @property
    def look(self) -> int:
        """The number of this look, from 1."""
        return len(self.fractions)

    def __str__(self) -> str:
        return f"{self.margin:g}@look {self.look} of {self.looks}"

    def level(self, level: float = 0.95) -> float:
        """Level of the intervals at this look, so that those of one number at all looks hold it at `level`."""
        from redundancy_eval.statistics import sequential  # scipy, which records alone do not need

        return sequential.nominal_level(self.fractions, level)

    def note(self, level: float) -> str:
        """What is said under a table.

        Args:
            level: of all looks together.
        """
        return (
            f"documents were asked in rounds until every CUR would be known to +-{self.margin:g} %, and this is look "
            f"{self.look} of {self.looks}: intervals and tests are at {100 * self.level(level):.4g} %, so that the "
            f"intervals of a number at all looks hold it together in {100 * level:.4g} % of cases"
        )

    def as_json(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {
            "margin": self.margin, "look": self.look, "looks": self.looks, "fractions": list(self.fractions),
            "level": round(self.level(), 6),
        }  # fmt: skip


def of(told: Mapping[str, Any] | None, path: Path) -> Until | None:
    """The look that a manifest tells; None where it tells none.

    Args:
        told: what stands there.
        path: of the manifest, for errors.

    Raises:
        DataError: it is damaged.
    """
    if told is None:
        return None
    found = forms.check(told, forms.Until, f"{path}: until")
    shares = tuple(found["fractions"])
    rising = all(a < b for a, b in zip((0.0, *shares), (*shares, 2.0), strict=True))
    if not (rising and shares and shares[-1] <= 1 and found["look"] == len(shares) <= found["looks"]):
        raise DataError(f"{path}: until: look {found['look']} of {found['looks']} at the fractions {list(shares)}")
    return Until(found["margin"], found["looks"], shares)
