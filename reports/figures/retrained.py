"""Masked against retrained: how far other models lie above or below the masks that they are set against."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from redundancy_eval.reports.figures import style
from redundancy_eval.reports.subject import Subject

Row = dict[str, Any]


def rows(subjects: Sequence[Subject]) -> list[Row]:
    """Points of each reference, of the mask, and their difference, by place."""
    return [
        {
            "model": subject.name, "reference": each.model.name, "mask": "+".join(each.mask) or "none",
            "label": subject.label(each.mask), "place": place, "score": each.score(place).value,
            "masked": subject.score(each.mask, place).value, "difference": found.value, "low": found.low,
            "high": found.high, "reason": found.reason,
        }
        for subject in subjects
        for each in subject.references
        for place in subject.places
        for found in [each.difference(place)]
    ]  # fmt: skip


def draw(subjects: Sequence[Subject], width: float = style.TEXT) -> Figure:
    """A line for each reference, a panel for each place; hollow where the interval holds 0."""
    drawn = rows(subjects)
    places = list(dict.fromkeys(row["place"] for row in drawn))
    lines = list(dict.fromkeys((row["model"], row["reference"], row["label"]) for row in drawn))
    figure = style.figure(width, 0.75 + 0.32 * len(lines))
    axes = figure.subplots(1, len(places), squeeze=False, sharex=True, sharey=True)[0]
    for axis, place in zip(axes, places, strict=True):
        axis.axvline(0, color=style.FULL, lw=0.6, zorder=1)
        for y, line in enumerate(lines):
            found = [r for r in drawn if (r["model"], r["reference"], r["label"], r["place"]) == (*line, place)]
            for row in (r for r in found if math.isfinite(r["difference"])):
                if math.isfinite(row["low"]):
                    axis.plot([row["low"], row["high"]], [y, y], color=style.BEST, lw=1.6, solid_capstyle="butt")
                clear = row["low"] > 0 or row["high"] < 0
                axis.plot(
                    row["difference"], y, "o", color=style.BEST, mfc=style.BEST if clear else "white", zorder=3,
                    gid=f"{row['place']}|{row['reference']}",
                )  # fmt: skip
        axis.set_title(style.broken(place, 9), weight="bold" if place == places[0] else "normal", pad=3)
        axis.grid(axis="x")
        style.bare(axis, "left")
        axis.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    names = [f"{style.cut(reference, 16)}\nless {style.cut(label, 20)}" for _, reference, label in lines]
    axes[0].set(yticks=range(len(lines)), ylim=(len(lines) - 0.5, -0.5))
    axes[0].set_yticklabels(names, size=6)
    figure.supxlabel("difference (points)", size=8)
    return figure
