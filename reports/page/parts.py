"""What tables of the page are made of: encoders and numbers as text."""

import math
from collections.abc import Mapping
from typing import Any

from redundancy_eval.reports import digits
from redundancy_eval.reports.looks import Look
from redundancy_eval.reports.page import texts
from redundancy_eval.reports.subject import Subject
from redundancy_eval.uncertainty import Number

HEAT = 10  # shades on each side of 0
View = dict[str, Any]


def encoder(subject: Subject, name: str, looks: Mapping[str, Look]) -> View:
    """An encoder's name, its word in the style sheet, and its number, by which it is filtered."""
    return {"name": texts.name(looks[name].name), "key": looks[name].key, "id": f"e{subject.encoders.index(name)}"}


def cell(number: Number, scale: float = 1.0, shade: float = math.nan, sign: bool = False) -> View:
    """A number in a table; `shade` is the largest |number| of the table, NaN for no colour."""
    level = 0
    if math.isfinite(shade) and math.isfinite(number.value) and shade > 0:
        level = round(HEAT * max(-1.0, min(1.0, scale * number.value / shade)))
    known = math.isfinite(number.value)
    return {
        "text": digits.value(number, scale, sign),
        "between": digits.interval(number, scale, sign),
        "v": f"{scale * number.value:.6g}" if known else "",
        "level": level,
        "unclear": known and not digits.excludes_zero(number),
        "why": texts.clip(number.reason or number.note),
    }


def between(number: Number, scale: float = 1.0) -> str:
    """A number's interval in brackets; empty where there is none."""
    ends = digits.interval(number, scale)
    return f" ({ends})" if ends else ""
