"""What an analysis holds: plain data with labels, a reason beside everything that is not known.

Scores, Shapley values and interactions are in points, CURs, IGs and shares are fractions. NaN is "not known". Encoders
and the names in a mask stand in alphabetical order here, so that the same runs give the same bytes.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.table import Mask

OVERALL = "Overall"
NAN = float("nan")


@dataclass(frozen=True)
class Settings:
    """How sure, what is negligible (of CUR, a fraction), and the seed of draws.

    Raises:
        SetupError: one is out of its range.
    """

    level: float = 0.95
    margin: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.5 <= self.level < 1:
            raise SetupError(f"the level is a fraction from 0.5 to below 1, such as 0.95; not {self.level}")
        if not 0 < self.margin < 1:
            raise SetupError(f"the margin is a fraction between 0 and 1, such as 0.02; not {self.margin}")
        if self.seed < 0:
            raise SetupError(f"the seed is a whole number from 0; not {self.seed}")


@dataclass(frozen=True)
class Number:
    """A value, its interval, how it was found; `reason` says why something is not known, `note` what to mind."""

    value: float
    low: float = NAN
    high: float = NAN
    se: float = NAN
    df: float = NAN
    clusters: int = 0
    method: str = ""
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class Score:
    """Points of a mask on a benchmark, in a category (`kind` says which), or overall."""

    mask: Mask
    place: str
    kind: str
    points: Number


@dataclass(frozen=True)
class Cell:
    """An encoder in a category or overall: CUR, tests within its family, verdict.

    `documents` are today's, `documents_to_decide` about how many would decide what is undecided, and
    `smallest_margin` what today's could decide of an encoder that changes nothing.
    """

    encoder: str
    place: str
    cur: Number
    p: float
    p_adjusted: float
    p_equivalence: float
    p_equivalence_adjusted: float
    verdict: str
    documents: float
    documents_to_decide: float
    smallest_margin: float
    floor_corrected: Number


@dataclass(frozen=True)
class Need:
    """An encoder under zeros and with linear stand-ins: CUR under the one less that under the other, and the verdict
    of both (`statistics.verdicts.need`)."""

    encoder: str
    place: str
    difference: Number
    verdict: str


@dataclass(frozen=True)
class Everywhere:
    """Whether an encoder is shown to be redundant in every category: p of the least sure one, Holm over encoders."""

    encoder: str
    p: float
    p_adjusted: float
    redundant: bool
    reason: str = ""


@dataclass(frozen=True)
class Gap:
    """IG of a category or overall; `null` is what equally useful encoders reach in 5 % of cases (1 - level)."""

    place: str
    ig: Number
    null: float
    p: float
    largest: tuple[str, ...]
    smallest: tuple[str, ...]


@dataclass(frozen=True)
class Floor:
    """All encoders dropped: the points that are left, the headroom above them, and masks surely below."""

    place: str
    points: Number
    headroom: Number
    below: tuple[Mask, ...]


@dataclass(frozen=True)
class Share:
    """An encoder's Shapley and Banzhaf values in points, and the Shapley value's share of the headroom."""

    encoder: str
    place: str
    shapley: Number
    of_headroom: Number
    banzhaf: Number


@dataclass(frozen=True)
class Pair:
    """How two encoders act together, at the full model and on average over contexts (None with two encoders)."""

    encoders: tuple[str, str]
    place: str
    at_full: Number
    at_full_word: str
    at_full_p_adjusted: float
    contexts: Number | None
    contexts_word: str
    contexts_p_adjusted: float


@dataclass(frozen=True)
class Moebius:
    """What these encoders give together beyond all that fewer of them give, in overall points."""

    encoders: tuple[str, ...]
    points: Number


@dataclass(frozen=True)
class Shared:
    """Points that are lost only when several encoders are dropped, of those that all give together."""

    place: str
    points: Number
    together: Number


@dataclass(frozen=True)
class Best:
    """The best mask that keeps `kept` encoders, by the overall score; intervals hold for all of the size at once."""

    kept: int
    run: int
    possible: int
    mask: Mask
    points: Number
    after_selection: float
    to_full: Number
    not_told_apart: tuple[Mask, ...]


@dataclass(frozen=True)
class Keeps:
    """The smallest mask of encoders that keeps a share of the full overall score: by the numbers, and shown."""

    share: float
    by_the_numbers: Mask | None
    shown: Mask | None
    candidates: int
    reason: str = ""


@dataclass(frozen=True)
class Router:
    """Points above the full model that choosing the mask could gain, in a benchmark, a category or overall.

    `by_task` is cross-fitted, `checked` chosen and scored on different replicates of a question, `oracle` counts a
    question if any of `masks` masks is right (not attainable), `guessing` is what luck makes of that.
    """

    place: str
    kind: str
    masks: int
    by_task: float
    checked: float
    oracle: float
    guessing: float
    reason: str = ""


@dataclass(frozen=True)
class Changed:
    """Share of answers whose score changes when an encoder is dropped, and how much more than in a second run.

    `no_more_than_rerun` is None where there is no second run.
    """

    encoder: str
    place: str
    share: Number
    above_rerun: Number
    no_more_than_rerun: bool | None


@dataclass(frozen=True)
class Rerun:
    """The full model run again: share of answers whose score differs, and its CUR."""

    place: str
    share: Number
    cur: Number


@dataclass(frozen=True)
class Analysis:
    """Everything that is said about the numbers of one table."""

    settings: Settings
    encoders: tuple[str, ...]
    masks: tuple[Mask, ...]
    scores: tuple[Score, ...]
    cells: tuple[Cell, ...]
    everywhere: tuple[Everywhere, ...]
    gaps: tuple[Gap, ...]
    floors: tuple[Floor, ...]
    shares: tuple[Share, ...]
    pairs: tuple[Pair, ...]
    shared: tuple[Shared, ...]
    moebius: tuple[Moebius, ...]
    best: tuple[Best, ...]
    keeps: tuple[Keeps, ...]
    routers: tuple[Router, ...]
    changed: tuple[Changed, ...]
    reruns: tuple[Rerun, ...]
    notes: tuple[str, ...]
    signature: str

    def score(self, mask: Iterable[str], place: str) -> Number | None:
        """Points of a mask (encoders in any order) at a benchmark, category or OVERALL; None where not in the table."""
        wanted = tuple(sorted(mask))
        return next((each.points for each in self.scores if each.mask == wanted and each.place == place), None)

    def cell(self, encoder: str, place: str) -> Cell:
        """An encoder in a category or OVERALL.

        Raises:
            KeyError: no such encoder or category.
        """
        found = next((each for each in self.cells if each.encoder == encoder and each.place == place), None)
        if found is None:
            raise KeyError((encoder, place))
        return found


def plain(value: Any) -> Any:
    """Lists, dicts and numbers for JSON; what is not known, or infinite, is None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
