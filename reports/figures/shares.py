"""Encoders together: what is lost without one beside its Shapley value, and which pairs stand in for each other."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from redundancy_eval.reports import digits
from redundancy_eval.reports.figures import style
from redundancy_eval.reports.looks import Look, ink
from redundancy_eval.reports.subject import Subject, all_looks
from redundancy_eval.statistics import games
from redundancy_eval.uncertainty import Pair

Row = dict[str, Any]
_UPRIGHT = 5  # columns from which names stand upright


def rows(subjects: Sequence[Subject]) -> list[Row]:
    """Points, overall: encoders by falling Shapley value, then pairs."""
    found = []
    for subject in subjects:
        shares = subject.shares(subject.main)
        known = [name for name in subject.order if name in shares and math.isfinite(shares[name].shapley.value)]
        for name in sorted(known, key=lambda each: -shares[each].shapley.value):
            lost, share = subject.lost(name, subject.main), shares[name].shapley
            found.append(
                {
                    "model": subject.name, "kind": "encoder", "encoders": name, "lost": lost.value,
                    "value": share.value, "low": share.low, "high": share.high, "word": "",
                }
            )  # fmt: skip
        for pair in subject.pairs(subject.main) if known else ():
            number, word = _of_pair(pair)
            found.append(
                {
                    "model": subject.name, "kind": "pair", "encoders": "+".join(subject.ordered(pair.encoders)),
                    "lost": math.nan, "value": number.value, "low": number.low, "high": number.high, "word": word,
                }
            )  # fmt: skip
    return found


def _of_pair(pair: Pair) -> tuple[Any, str]:
    """The mean over contexts; with two encoders, who have one context, that."""
    return (pair.at_full, pair.at_full_word) if pair.contexts is None else (pair.contexts, pair.contexts_word)


def draw(subjects: Sequence[Subject], width: float = style.TEXT) -> Figure:
    """Left: open what is lost without one, filled its Shapley value. Right: pairs, italic if none is shown."""
    drawn = rows(subjects)
    shown = [subject for subject in subjects if any(row["model"] == subject.name for row in drawn)]
    heights = [
        0.3 + 0.2 * n + 0.12 * (len(shown) > 1) + 0.4 * (n > _UPRIGHT) for n in (len(each.encoders) for each in shown)
    ]
    figure = style.figure(width, 0.35 + sum(heights))
    grid = figure.add_gridspec(len(shown), 1, height_ratios=heights)
    left: Axes | None = None
    named = all_looks(subjects)
    for number, subject in enumerate(shown):
        own = [row for row in drawn if row["model"] == subject.name]
        left = _model(figure, grid[number], own, left, number == len(shown) - 1, named)
        if len(shown) > 1:
            left.set_title(style.cut(subject.name), loc="left", size=7, style="italic", pad=3)
    return figure


def _model(
    figure: Figure, place: SubplotSpec, own: Sequence[Row], shared: Axes | None, last: bool, named: Mapping[str, Look]
) -> Axes:
    inner = place.subgridspec(1, 2, width_ratios=[1.3, 1])
    left, right = figure.add_subplot(inner[0], sharex=shared), figure.add_subplot(inner[1])
    encoders = [row for row in own if row["kind"] == "encoder"]
    for y, row in enumerate(encoders):
        look = named[row["encoders"]]
        left.plot([row["lost"], row["value"]], [y, y], color=look.colour, lw=1.0, zorder=1)
        if math.isfinite(row["low"]):
            left.plot([row["low"], row["high"]], [y, y], color=look.colour, lw=2.6, alpha=0.35, zorder=1)
        left.plot(row["lost"], y, look.marker, color=look.colour, mfc="white", zorder=2, gid=f"lost|{row['encoders']}")
        left.plot(row["value"], y, look.marker, color=look.colour, zorder=3, gid=f"shapley|{row['encoders']}")
    left.axvline(0, color=style.FULL, lw=0.6, zorder=0)
    left.set(yticks=range(len(encoders)), ylim=(len(encoders) - 0.5, -0.5))
    left.set_yticklabels([style.cut(named[row["encoders"]].name, 12) for row in encoders])
    left.grid(axis="x")
    style.bare(left, "left")
    left.tick_params(labelbottom=last)
    if last:
        left.set_xlabel("points (open: lost without it; filled: Shapley)", size=7)
    _matrix(right, [row["encoders"] for row in encoders], own, {e: look.name for e, look in named.items()})
    if last:
        right.set_xlabel("pair interaction (points)", size=7)
    return left


def _matrix(axis: Axes, encoders: Sequence[str], own: Sequence[Row], names: dict[str, str]) -> None:
    pairs = {frozenset(row["encoders"].split("+")): row for row in own if row["kind"] == "pair"}
    down, across = list(encoders[1:]), list(encoders[:-1])
    cells = [
        [pairs.get(frozenset((a, b))) if encoders.index(b) < encoders.index(a) else None for b in across] for a in down
    ]
    values = [[math.nan if cell is None else cell["value"] for cell in line] for line in cells]
    reach = max([abs(v) for line in values for v in line if math.isfinite(v)] + [1.0])
    image = axis.imshow(values, cmap=style.TOGETHER, norm=Normalize(-1.25 * reach, 1.25 * reach), aspect="auto")
    for y, line in enumerate(cells):
        for x, cell in enumerate(line):
            if cell is None:
                continue
            sure = cell["word"] in (games.SUBSTITUTES, games.COMPLEMENTS)
            colour = ink(*image.to_rgba(cell["value"])[:3]) if math.isfinite(cell["value"]) else style.DULL
            axis.text(
                x, y, digits.signed(cell["value"]), ha="center", va="center", size=style.SMALL, color=colour,
                style="normal" if sure else "italic", gid=f"pair|{cell['encoders']}",
            )  # fmt: skip
    axis.set(xticks=range(len(across)), yticks=range(len(down)))
    axis.set_xticklabels([style.cut(names[e], 12) for e in across], rotation=0 if len(across) < _UPRIGHT else 90)
    axis.set_yticklabels([style.cut(names[e], 12) for e in down])
    axis.tick_params(length=0, labelsize=6 if len(encoders) > 4 else style.SMALL)
    for spine in axis.spines.values():
        spine.set_visible(False)
