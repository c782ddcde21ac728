"""Score by number of encoders dropped: every mask, and best, mean and worst of each number (the paper's figure 1)."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from redundancy_eval.reports.figures import style
from redundancy_eval.reports.subject import Subject

Row = dict[str, Any]
_LINES = (("best", max, style.BEST, "o"), ("mean", None, style.MEAN, "^"), ("worst", min, style.WORST, "s"))


def rows(subjects: Sequence[Subject]) -> list[Row]:
    """Masks with their overall score in points and in % of the full model's, by number dropped."""
    found = []
    for subject in subjects:
        full = subject.score((), subject.main).value
        for mask in sorted(subject.table.masks, key=len):
            points = subject.score(mask, subject.main)
            if math.isfinite(points.value):
                found.append(
                    {
                        "model": subject.name, "dropped": len(mask), "mask": "+".join(mask) or "none",
                        "score": points.value, "low": points.low, "high": points.high,
                        "of_full": 100 * points.value / full if full else math.nan,
                    }
                )  # fmt: skip
    return found


def draw(subjects: Sequence[Subject], width: float = style.COLUMN) -> Figure:
    """One panel in points; several models have a panel each, with one axis in % of the full model."""
    drawn = rows(subjects)
    columns = min(3 if width > style.COLUMN else 1, len(subjects))
    lines = -(-len(subjects) // columns)
    figure = style.figure(width, 0.12 + lines * (0.7 * style.COLUMN if columns == 1 else 0.8 * width / columns))
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    key = "score" if len(subjects) == 1 else "of_full"
    for number, axis in enumerate(axes.flat):
        if number >= len(subjects):
            axis.set_visible(False)
            continue
        own = [row for row in drawn if row["model"] == subjects[number].name and math.isfinite(row[key])]
        _panel(axis, own, key, subjects[number])
        axis.label_outer()
        if number % columns == 0:
            axis.set_ylabel(style.score(subjects) + ("" if len(subjects) == 1 else " (% of full)"))
        axis.set_xlabel("encoders dropped")
        if len(subjects) > 1:
            axis.set_title(style.cut(subjects[number].name, 30), pad=3)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, borderpad=0.2, columnspacing=1.2)
    return figure


def _panel(axis: Axes, drawn: Sequence[Row], key: str, subject: Subject) -> None:
    counts = sorted({row["dropped"] for row in drawn})
    groups = [[row[key] for row in drawn if row["dropped"] == count] for count in counts]
    if not counts:
        axis.text(0.5, 0.5, "no overall scores", transform=axis.transAxes, ha="center", size=style.SMALL)
        return
    full = [row[key] for row in drawn if row["dropped"] == 0]
    floor = [row[key] for row in drawn if row["dropped"] == len(subject.encoders) and not subject.table.guessed]
    left, right = counts[0] - 0.25, counts[-1] + 0.25
    for values, name, colour, dashes, where in (
        (full, "full model", style.FULL, (4, 2), "right"), (floor, "all dropped", style.FLOOR, (1, 1.5), "left"),
    ):  # fmt: skip
        for value in values:
            axis.axhline(value, color=colour, lw=0.7, ls=(0, dashes), zorder=1, gid=name)
            end = right if where == "right" else left
            axis.annotate(
                name, (end, value), xytext=(-2 if where == "right" else 3, 2), textcoords="offset points", ha=where,
                va="bottom", size=style.SMALL, color=colour,
            )  # fmt: skip
    axis.fill_between(counts, [min(g) for g in groups], [max(g) for g in groups], color="#56B4E9", alpha=0.15, lw=0)
    axis.plot([r["dropped"] for r in drawn], [r[key] for r in drawn], "o", color="#777777", ms=2, mew=0, gid="masks")
    for name, of, colour, marker in _LINES:
        ends = [of(group) if of else sum(group) / len(group) for group in groups]
        axis.plot(counts, ends, f"{marker}-", color=colour, ms=3.5, label=name, gid=name, zorder=3)
    highest = max(max(group) for group in groups)
    axis.set(xticks=counts, xlim=(left, right), ylim=(0, 1.12 * highest if highest > 0 else 1))
    axis.grid(axis="y")
