"""Numbers as text: a real minus, no minus before zero, no more digits than the interval warrants."""

import math

from redundancy_eval.reports import cells
from redundancy_eval.reports.cells import UNDEFINED
from redundancy_eval.uncertainty import Number

__all__ = [
    "MINUS", "UNDEFINED", "decimals", "excludes_zero", "interval", "known", "p_value", "percent", "plain", "signed",
    "value",
]  # fmt: skip

MINUS = "\N{MINUS SIGN}"
_WIDE = 0.95  # half width (points or %) from which one decimal is enough (statistics.md, section 1)


def plain(value: float, digits: int = 1) -> str:
    """A number as it is printed; n/a where it is not known."""
    if not math.isfinite(value):
        return UNDEFINED
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign; zero has none."""
    text = plain(value, digits)
    return f"+{text}" if value > 0 and text.strip("0.") else text


def decimals(number: Number, scale: float = 1.0) -> int:
    """Two decimals where half the interval is below 0.95, or where there is none; else one."""
    half = scale * (number.high - number.low) / 2
    return 1 if half >= _WIDE else 2


def value(number: Number, scale: float = 1.0, sign: bool = False) -> str:
    """A number's value."""
    return (signed if sign else plain)(scale * number.value, decimals(number, scale))


def interval(number: Number, scale: float = 1.0, sign: bool = False) -> str:
    """`9.9 to 14.1`; empty where there is no interval."""
    if not known(number):
        return ""
    low, high = ((signed if sign else plain)(scale * end, decimals(number, scale)) for end in (number.low, number.high))
    return f"{low} to {high}"


def known(number: Number) -> bool:
    """Whether a number has an interval."""
    return math.isfinite(number.low) and math.isfinite(number.high)


def excludes_zero(number: Number) -> bool:
    """Whether the interval does not hold 0."""
    return number.low > 0 or number.high < 0


def percent(fraction: float) -> str:
    """`95 %` of a level or margin."""
    return f"{100 * fraction:.4g} %"


def p_value(p: float) -> str:
    """`p = .034`, `p < .001`."""
    shown = cells.p_value(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"
