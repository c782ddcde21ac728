"""Numbers as they are printed."""

import math

from hypothesis import given
from hypothesis import strategies as st

from redundancy_eval.reports import cells
from redundancy_eval.reports.cells import Cell
from redundancy_eval.uncertainty import Number

NUMBERS = st.floats(-300, 300)


@given(st.lists(NUMBERS, min_size=3, max_size=3).map(sorted))
def test_a_printed_number_lies_in_its_printed_interval(ends):
    low, value, high = ends
    cell = Cell(value, low, high)
    left, right = map(float, cells.interval(cell).strip("[]").split(", "))
    assert left <= float(cells.figure(cell)) <= right
    assert "-0.0" not in {cells.figure(cell), *cells.interval(cell).strip("[]").split(", ")}
    assert len(cells.figure(cell).partition(".")[2]) == (1 if (high - low) / 2 >= 0.95 else 2)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_for_files_is_stable(value):
    once = cells.rounded(value)
    assert cells.rounded(once) == once and math.isclose(once, value, rel_tol=1e-8)


@given(NUMBERS, st.sampled_from([1.0, 100.0]))
def test_what_is_not_known_is_no_number(value, scale):
    assert cells.figure(cells.of(Number(math.nan, reason="why"))) == "n/a"
    assert cells.figure(cells.of(Number(math.nan), missing=cells.HOLE)) == "–"
    without = cells.of(Number(value), scale)
    assert cells.interval(without) == "" and without.value == value * scale


def test_stars_and_changes():
    assert [cells.stars(p) for p in (0.0009, 0.009, 0.049, 0.05, math.nan)] == ["***", "**", "*", "", ""]
    assert [cells.change(Cell(1.0, change=c)) for c in (0.004, -2.346, 0.0, math.nan)] == [
        "+0.00",
        "-2.35",
        "+0.00",
        "",
    ]
    assert cells.rounded(math.inf) == math.inf and math.isnan(cells.rounded(math.nan))
