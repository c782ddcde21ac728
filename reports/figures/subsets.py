"""Every mask by score above the encoders that it keeps (as in an UpSet plot, Lex et al. 2014)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from redundancy_eval.reports.figures import style
from redundancy_eval.reports.looks import Look
from redundancy_eval.reports.subject import Subject, all_looks

Row = dict[str, Any]
_FEWEST = 8  # bars that a figure has room for at least
MOST, SHORT = 32, 24  # masks; more than MOST are cut to the best SHORT and the floor
_COLOURS = {"full": style.FULL, "best of its size": style.BEST, "below floor": style.BELOW, "": style.OTHER}


def rows(subjects: Sequence[Subject]) -> list[Row]:
    """Masks with overall scores, the best first, and what is said of them."""
    found = []
    for subject in subjects:
        best = {each.mask for each in subject.analysis.best}
        for mask in subject.by_score:
            points, key = subject.score(mask, subject.main), tuple(sorted(mask))
            if not math.isfinite(points.value):
                continue
            kind = "full" if not mask else "below floor" if key in subject.below_floor else ""
            kind = kind or ("best of its size" if key in best else "")
            found.append(
                {
                    "model": subject.name, "mask": "+".join(mask) or "none", "kept": "+".join(subject.kept(mask)),
                    "dropped": len(mask), "score": points.value, "low": points.low, "high": points.high, "kind": kind,
                }
            )  # fmt: skip
    return found


def draw(subjects: Sequence[Subject], width: float = style.TEXT) -> Figure:
    """A pair of panels for each model. Blue: best of its size; red: surely below the floor."""
    heights = [part for s in subjects for part in (1.25, 0.15 * len(s.encoders))]
    figure = style.figure(width, 0.1 + sum(heights) + 0.16 * (len(subjects) if len(subjects) > 1 else 0), tight=True)
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    drawn = rows(subjects)
    for number, subject in enumerate(subjects):
        own = _fitting([row for row in drawn if row["model"] == subject.name])
        top, bottom = axes[2 * number], axes[2 * number + 1]
        _bars(top, own)
        top.set_ylabel(style.score([subject]))
        _dots(bottom, subject, own, all_looks(subjects))
        if len(subjects) > 1:
            top.set_title(style.cut(subject.name), loc="left", pad=3)
    return figure


def _fitting(drawn: Sequence[Row]) -> list[Row]:
    if len(drawn) <= MOST:
        return list(drawn)
    ends = [row for row in drawn[SHORT:] if not row["kept"]]
    return [*drawn[:SHORT], *ends]


def _bars(axis: Axes, drawn: Sequence[Row]) -> None:
    places = range(len(drawn))
    axis.bar(places, [r["score"] for r in drawn], width=0.72, color=[_COLOURS[r["kind"]] for r in drawn], lw=0)
    sure = [(x, r) for x, r in enumerate(drawn) if math.isfinite(r["low"])]
    if sure:
        below, above = ([abs(r[end] - r["score"]) for _, r in sure] for end in ("low", "high"))
        axis.errorbar(
            [x for x, _ in sure], [r["score"] for _, r in sure], [below, above], fmt="none", ecolor="#777777",
            elinewidth=0.8,
        )  # fmt: skip
    for row in drawn:
        if row["kind"] == "full":
            axis.axhline(row["score"], color=style.FULL, lw=0.6, ls=(0, (4, 2)))
        elif not row["kept"]:
            axis.axhline(row["score"], color=style.FLOOR, lw=0.7, ls=(0, (1, 1.5)))
            axis.annotate(
                "floor", (max(len(drawn), _FEWEST) - 0.4, row["score"]), xytext=(2, 0), textcoords="offset points",
                va="center", size=style.SMALL, color=style.FLOOR, annotation_clip=False,
            )  # fmt: skip
    axis.set(ylim=(0, None), xlim=(-0.6, max(len(drawn), _FEWEST) - 0.4), xticks=[])


def _dots(axis: Axes, subject: Subject, drawn: Sequence[Row], named: Mapping[str, Look]) -> None:
    for y, name in enumerate(subject.order):
        if y % 2 == 0:
            axis.axhspan(y - 0.5, y + 0.5, color="#F2F2F2", lw=0, zorder=0)
        kept = [name in row["kept"].split("+") for row in drawn]
        on, off = ([x for x, there in enumerate(kept) if there is wanted] for wanted in (True, False))
        axis.plot(off, [y] * len(off), "o", color="#D5D5D5", ms=2.6, mew=0)
        axis.plot(on, [y] * len(on), "o", color=named[name].colour, ms=4, mew=0, gid=f"kept|{name}")
    n = len(subject.order)
    axis.set(yticks=range(n), ylim=(n - 0.5, -0.5), xticks=[], xlim=(-0.6, max(len(drawn), _FEWEST) - 0.4))
    axis.set_yticklabels([style.cut(named[name].name, 14) for name in subject.order])
    style.bare(axis)
