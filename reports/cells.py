"""What stands in one cell of a table, and as which text."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from redundancy_eval.uncertainty import Number

NAN = float("nan")
HOLE = "–"  # a score that was not measured
UNDEFINED = "n/a"  # what does not exist, or is not known
_WIDE = 0.95  # half of an interval from which one decimal is enough (printed units)
_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
_DIGITS = 9  # significant ones in files: the last of a float's sixteen differ between processors


@dataclass(frozen=True)
class Cell:
    """A number in printed units (points or %), or a text in its place.

    `low` and `high` are the ends of its interval, `change` stands after it with its sign, `stars` mark significance,
    `digits` are its decimals where not those that its interval warrants. A cell without number and text is undefined.
    """

    value: float = NAN
    low: float = NAN
    high: float = NAN
    change: float = NAN
    stars: str = ""
    text: str = ""
    digits: int | None = None


def of(number: Number, scale: float = 1.0, missing: str = UNDEFINED, stars: str = "") -> Cell:
    """A number as a cell, `scale` times as large; `missing` where there is none."""
    if math.isnan(number.value):
        return Cell(text=missing)
    return Cell(number.value * scale, number.low * scale, number.high * scale, stars=stars)


def figure(cell: Cell) -> str:
    """A cell's number as it is printed, or its text: two decimals, one where half its interval is wide."""
    return _fixed(cell.value, _decimals(cell)) if math.isfinite(cell.value) else cell.text or UNDEFINED


def interval(cell: Cell) -> str:
    """`[9.9, 14.1]`; "" where there is none."""
    if not (math.isfinite(cell.low) and math.isfinite(cell.high)):
        return ""
    low, high = (_fixed(end, _decimals(cell)) for end in (cell.low, cell.high))
    return f"[{low}, {high}]"


def change(cell: Cell) -> str:
    """The change beside a number, with its sign; "" where there is none."""
    if not math.isfinite(cell.change):
        return ""
    return f"{round(cell.change, _decimals(cell)) + 0.0:+.{_decimals(cell)}f}"


def is_word(cell: Cell) -> bool:
    """Whether a cell holds a text that stands for no number."""
    return cell.text not in ("", HOLE, UNDEFINED)


def stars(p: float) -> str:
    """`*` below .05, `**` below .01, `***` below .001."""
    return next((mark for bound, mark in _STARS if p < bound), "")


def p_value(p: float) -> str:
    """`.034`; `< .001` below that."""
    if not math.isfinite(p):
        return UNDEFINED
    return "< .001" if p < 0.001 else f"{p:.2g}".replace("0.", ".", 1)


def rounded(value: float) -> float:
    """A computed number as it is written to files: so that another machine finds the same."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else value


def fields(number: Number, prefix: str = "") -> Mapping[str, object]:
    """A number for machines: value, interval, and how it was found."""
    found = {
        "value": number.value, "low": rounded(number.low), "high": rounded(number.high), "se": rounded(number.se),
        "df": rounded(number.df), "clusters": number.clusters or "", "method": number.method,
        "reason": number.reason or number.note,
    }  # fmt: skip
    return {f"{prefix}{name}": value for name, value in found.items()}


def _decimals(cell: Cell) -> int:
    if cell.digits is not None:
        return cell.digits
    return 1 if (cell.high - cell.low) / 2 >= _WIDE else 2


def _fixed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # adding 0 after rounding turns -0.00 into 0.00
