"""Relied on and needed: every encoder's CUR under zeros, and with the other encoders' linear guess in its place."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from redundancy_eval.reports import digits
from redundancy_eval.reports.figures import style
from redundancy_eval.reports.looks import Look
from redundancy_eval.reports.subject import Subject, all_looks
from redundancy_eval.uncertainty import Number

Row = dict[str, Any]
_NOT_GIVEN = Number(math.nan)


def rows(subjects: Sequence[Subject]) -> list[Row]:
    """CURs in %: one row for each model with stand-ins, place and encoder, as drawn from top to bottom."""
    return [
        {
            "model": subject.name, "place": place, "encoder": encoder, "verdict": both.verdict,
            **_ends("zeros", subject.cell(encoder, place).cur), **_ends("stand-ins", needed.cur),
            **_ends("difference", both.difference),
            **_ends("retrained", subject.model.retrained.get((encoder, place), _NOT_GIVEN)),
        }
        for subject in subjects
        for place in subject.places
        for encoder in subject.order
        if (needed := subject.needed(encoder, place)) and (both := subject.need(encoder, place))
    ]  # fmt: skip


def _ends(name: str, number: Number) -> Row:
    return {name: 100 * number.value, f"{name} low": 100 * number.low, f"{name} high": 100 * number.high}


def draw(subjects: Sequence[Subject], width: float = style.TEXT) -> Figure:
    """A dumbbell for each encoder from zeros (open) to stand-ins (filled): a panel for each place, overall first."""
    drawn = rows(subjects)
    shown = [subject for subject in subjects if subject.stand_ins]
    panels = []
    for subject in shown:
        columns = min(3 if width > style.COLUMN else 2, len(subject.places))
        lines = [subject.places[i : i + columns] for i in range(0, len(subject.places), columns)]
        panels += [(subject, line, columns) for line in lines]
    heights = [0.36 + 0.2 * len(subject.encoders) for subject, _, _ in panels]
    figure = style.figure(width, 0.25 + sum(heights))
    grid = figure.add_gridspec(len(panels), max(each[2] for each in panels), height_ratios=heights)
    named = all_looks(subjects)
    shared: Axes | None = None
    for line, (subject, places, _) in enumerate(panels):
        for column, place in enumerate(places):
            axis = shared = figure.add_subplot(grid[line, column], sharex=shared)
            own = [row for row in drawn if (row["model"], row["place"]) == (subject.name, place)]
            _panel(axis, own, column, named, 100 * subject.analysis.settings.margin)
            main = place == subject.places[0]
            axis.set_title(style.broken(place, 14), weight="bold" if main else "normal", pad=3)
            axis.set_xlabel("CUR (%)" if line == len(panels) - 1 else "")
        if len(shown) > 1:
            figure.axes[-len(places)].set_ylabel(style.along(subject.name, heights[line]), size=7)
    if shared is not None:
        shared.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    return figure


def _panel(axis: Axes, drawn: Sequence[Row], column: int, named: Mapping[str, Look], margin: float) -> None:
    axis.axvspan(-margin, margin, color="#ECECEC", lw=0, zorder=0)
    axis.axvline(0, color=style.FULL, lw=0.6, zorder=1)
    for y, row in enumerate(drawn):
        look, where = named[row["encoder"]], f"{row['place']}|{row['encoder']}"
        if not (math.isfinite(row["zeros"]) and math.isfinite(row["stand-ins"])):
            axis.text(0, y, f" {digits.UNDEFINED}", va="center", size=style.SMALL, color=style.DULL)
            continue
        axis.plot([row["zeros"], row["stand-ins"]], [y, y], color=look.colour, lw=0.8, ls=(0, (1, 1)), zorder=1)
        for name, thick, fill in (("zeros", 0.8, "white"), ("stand-ins", 2.6, look.colour)):
            if math.isfinite(row[f"{name} low"]):
                ends = [row[f"{name} low"], row[f"{name} high"]]
                faint = 0.35 if thick > 1 else 1
                axis.plot(ends, [y, y], color=look.colour, lw=thick, alpha=faint, solid_capstyle="butt", zorder=2)
            axis.plot(row[name], y, look.marker, color=look.colour, mfc=fill, zorder=3, gid=f"{name}|{where}")
        if math.isfinite(row["retrained"]):
            axis.plot(
                row["retrained"], y, "D", color=style.FULL, mfc="none", ms=4.5, mew=0.7, zorder=4,
                gid=f"retrained|{where}",
            )  # fmt: skip
    axis.set(yticks=range(len(drawn)), ylim=(len(drawn) - 0.4, -0.6))
    axis.set_yticklabels([style.cut(named[row["encoder"]].name, 12) for row in drawn] if column == 0 else [])
    axis.grid(axis="x")
    style.bare(axis, "left")
