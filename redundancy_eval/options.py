"""How a report is made, as the user said."""

from dataclasses import dataclass

from redundancy_eval.errors import SetupError
from redundancy_eval.taxonomy import DEFAULT

INTERVALS = ("range", "none")
FIGURES = ("pdf", "png", "svg")


@dataclass(frozen=True)
class Options:
    """How runs are read and what is said of them; kept in a report, so that `verify` makes it in the same way.

    `taxonomy` and `mmvp_pairs` as for `taxonomy.load`; `encoders` in the checkpoint's order, where they are not known;
    `mask_of` as for `readers.mask_of.MaskOf.parse`; `lenient` as for `leniency.Leniency`; `scale` as for
    `readers.csv_scores.Reader`. `level` of intervals and `margin` of CUR below which an encoder is redundant are
    fractions, `seed` is that of draws; `intervals` says whether LaTeX shows them, and `rerun` that the full model's
    second run was given. `figures` are the kinds of files that figures are drawn to; `images` says that the page
    shows those of the documents; `cost`, `compare` (`paper`), `references` (names) and `explain` (measures
    without labels) say what models were set beside.

    Raises:
        SetupError: a number is out of its range.
    """

    taxonomy: str = DEFAULT
    mmvp_pairs: bool = False
    encoders: tuple[str, ...] = ()
    mask_of: tuple[str, ...] = ()
    lenient: tuple[str, ...] = ()
    scale: float | None = None
    level: float = 0.95
    margin: float = 0.02
    seed: int = 0
    intervals: str = INTERVALS[0]
    rerun: bool = False
    figures: tuple[str, ...] = ()
    images: bool = False
    cost: bool = False
    compare: str = ""
    references: tuple[str, ...] = ()
    explain: bool = False

    def __post_init__(self) -> None:
        if not 0.5 <= self.level < 1:
            raise SetupError(f"--level is in percent, from 50 to below 100, such as 95; not {100 * self.level:g}")
        if not 0 < self.margin < 1:
            raise SetupError(f"--margin is in percent of the full score, such as 2; not {100 * self.margin:g}")
        if self.seed < 0:
            raise SetupError(f"--seed is a whole number from 0; not {self.seed}")
        unknown = [kind for kind in self.figures if kind not in FIGURES]
        if unknown:
            raise SetupError(f"--figures knows {', '.join(FIGURES)} and none; not {unknown[0]!r}")
        if self.intervals not in INTERVALS:
            raise SetupError(f"--intervals knows {', '.join(INTERVALS)}; not {self.intervals!r}")
