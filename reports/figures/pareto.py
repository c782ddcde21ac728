"""Overall score against what a mask costs, in % of the full model; masks that no other beats in both are named."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from redundancy_eval.reports.figures import style
from redundancy_eval.reports.subject import Subject

Row = dict[str, Any]


def rows(subjects: Sequence[Subject]) -> list[Row]:
    """Masks whose cost and score are known, by rising cost; `frontier` marks those that none beats in both."""
    found = []
    for subject in subjects:
        if subject.costs is None:
            continue
        column = next(iter(subject.costs.columns))
        own: list[Row] = []
        for mask in subject.table.masks:
            points, share = subject.score(mask, subject.main), subject.costs.share(column, mask)
            if math.isfinite(points.value) and math.isfinite(share):
                own.append(
                    {
                        "model": subject.name, "mask": "+".join(mask) or "none", "label": subject.label(mask),
                        "cost": column, "of_full": 100 * share, "score": points.value, "low": points.low,
                        "high": points.high,
                    }
                )  # fmt: skip
        own.sort(key=lambda row: (row["of_full"], -row["score"]))
        highest = -math.inf
        for row in own:
            row["frontier"] = row["score"] > highest
            highest = max(highest, row["score"])
        found += own
    return found


def draw(subjects: Sequence[Subject], width: float = style.COLUMN) -> Figure:
    """A panel for each model that has costs."""
    drawn = rows(subjects)
    models = [subject.name for subject in subjects if any(row["model"] == subject.name for row in drawn)]
    columns = min(3 if width > style.COLUMN else 1, len(models))
    lines = -(-len(models) // columns)
    figure = style.figure(width, lines * (0.78 * style.COLUMN if columns == 1 else 0.9 * width / columns))
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for number, axis in enumerate(axes.flat):
        if number >= len(models):
            axis.set_visible(False)
            continue
        _panel(axis, [row for row in drawn if row["model"] == models[number]], names=len(models) == 1)
        if len(models) > 1:
            axis.set_title(style.cut(models[number], 30), pad=3)
    for axis in axes[:, 0]:
        axis.set_ylabel(style.score(subjects))
    return figure


def _panel(axis: Axes, drawn: Sequence[Row], names: bool) -> None:
    best, rest = ([row for row in drawn if row["frontier"] is there] for there in (True, False))
    axis.plot([r["of_full"] for r in rest], [r["score"] for r in rest], "o", color="#BBBBBB", ms=3, mew=0, gid="masks")
    costs, scores = [r["of_full"] for r in best], [r["score"] for r in best]
    axis.step(costs, scores, where="post", color=style.BEST, lw=0.9, zorder=2)
    spread = [[abs(r[end] - r["score"]) if math.isfinite(r[end]) else 0 for r in best] for end in ("low", "high")]
    axis.errorbar(costs, scores, spread, fmt="o", color=style.BEST, ms=4, elinewidth=0.8, zorder=3, label="frontier")
    top = max([r["high"] if math.isfinite(r["high"]) else r["score"] for r in drawn])
    low = min(r["of_full"] for r in drawn)
    room = 0.06 * ((100 - low) or 1)
    axis.set(xlabel=f"{drawn[0]['cost']} (% of full)", ylim=(0, 1.1 * top), xlim=(low - room, 100 + room))
    axis.grid()
    if not names:
        return
    # Above and to the left of a point that no other beats there are no others.
    line = 0.062 * 1.1 * top
    for row, y in zip(best, style.apart(scores, line), strict=True):
        late = (row["of_full"] - low + room) / (100 - low + 2 * room) > 0.0165 * len(row["label"])
        axis.annotate(
            row["label"], (row["of_full"], row["score"]), size=6,
            xytext=(row["of_full"] + (-0.45 if late else -0.1) * room, y + (0.3 if late else 0.8) * line),
            va="center", gid="name",
            ha="right" if late else "left", zorder=4,
            bbox={"boxstyle": "square,pad=0.08", "fc": "white", "ec": "none", "alpha": 0.75},
        )  # fmt: skip
