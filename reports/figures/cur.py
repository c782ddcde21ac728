"""CUR of every encoder: as points with intervals, and as numbers on colour."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from redundancy_eval.reports import digits
from redundancy_eval.reports.figures import style
from redundancy_eval.reports.looks import Look, ink
from redundancy_eval.reports.paper import curs
from redundancy_eval.reports.subject import Subject, all_looks

Row = dict[str, Any]
_SHOWN = ("cur", "low", "high", "with stand-ins", "paper")


def rows(subjects: Sequence[Subject]) -> list[Row]:
    """CURs in %: one row for each model, place and encoder, as drawn from top to bottom."""
    return [
        {
            "model": subject.name, "place": place, "encoder": encoder, "cur": 100 * cell.cur.value,
            "low": 100 * cell.cur.low, "high": 100 * cell.cur.high, "verdict": cell.verdict, "reason": cell.cur.reason,
            **_besides(subject, place, encoder),
        }
        for subject in subjects
        for place in subject.places
        for encoder in subject.order
        for cell in [subject.cell(encoder, place)]
    ]  # fmt: skip


def _besides(subject: Subject, place: str, encoder: str) -> Row:
    """What stands beside a CUR: the one with linear stand-ins, and the paper's with its reading error."""
    needed = subject.needed(encoder, place)
    theirs = curs(subject.paper).get((encoder, place)) if subject.paper else None
    return {
        "with stand-ins": 100 * needed.cur.value if needed else math.nan,
        "paper": theirs.value if theirs else math.nan,
        "paper error": theirs.error if theirs else math.nan,
    }


def forest(subjects: Sequence[Subject], width: float = style.TEXT) -> Figure:
    """Points with intervals: a panel for each place, overall first; the band is the margin, hollow are those at 0."""
    drawn, places = rows(subjects), list(dict.fromkeys(p for subject in subjects for p in subject.places))
    # One model may fill several lines of panels; several models have a line each.
    columns = len(places) if len(subjects) > 1 else min(3 if width > style.COLUMN else 2, len(places))
    lines = [places[i : i + columns] for i in range(0, len(places), columns)] if len(subjects) == 1 else [places]
    panels = [(subject, line) for subject in subjects for line in lines]
    heights = [0.36 + 0.17 * len(subject.encoders) for subject, _ in panels]
    figure = style.figure(width, 0.25 + sum(heights))
    grid = figure.add_gridspec(len(panels), columns, height_ratios=heights)
    ends = [row[key] for row in drawn for key in _SHOWN if math.isfinite(row[key])] or [0.0]
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    room = 0.05 * ((high - low) or 1)
    shared: Axes | None = None
    named = all_looks(subjects)
    for line, (subject, shown) in enumerate(panels):
        for column, place in enumerate(shown):
            axis = shared = figure.add_subplot(grid[line, column], sharex=shared)
            if place in subject.places:
                own = [row for row in drawn if (row["model"], row["place"]) == (subject.name, place)]
                _panel(axis, own, column, named, 100 * subject.analysis.settings.margin)
            if line == 0 or len(subjects) == 1:
                axis.set_title(style.broken(place, 14), weight="bold" if place == places[0] else "normal", pad=3)
            last = line == len(panels) - 1 or (len(subjects) == 1 and column >= len(panels[line + 1][1]))
            axis.tick_params(labelbottom=last)
            if last:
                axis.set_xlabel("CUR (%)")
        if len(subjects) > 1:
            figure.axes[line * columns].set_ylabel(style.along(subject.name, heights[line]), size=7)
    if shared is not None:
        shared.set_xlim(low - room, high + room)
        shared.xaxis.set_major_locator(MaxNLocator(3 if columns > 3 else 5, steps=[1, 2, 5, 10]))
    return figure


def _panel(axis: Axes, drawn: Sequence[Row], column: int, named: Mapping[str, Look], margin: float) -> None:
    axis.axvspan(-margin, margin, color="#ECECEC", lw=0, zorder=0)
    axis.axvline(0, color=style.FULL, lw=0.6, zorder=1)
    for y, row in enumerate(drawn):
        look = named[row["encoder"]]
        if not math.isfinite(row["cur"]):
            axis.text(0, y, f" {digits.UNDEFINED}", va="center", size=style.SMALL, color=style.DULL)
            continue
        if math.isfinite(row["paper"]):
            error = 0 if math.isnan(row["paper error"]) else row["paper error"]
            axis.errorbar(
                row["paper"], y, xerr=error, fmt="D", color="#777777", mfc="none", ms=5, mew=0.7, elinewidth=0.7,
                zorder=2, gid=f"paper|{row['place']}|{row['encoder']}",
            )  # fmt: skip
        if math.isfinite(row["with stand-ins"]):
            ends = [row["with stand-ins"], row["cur"]]
            axis.plot(ends, [y, y], color=look.colour, lw=0.8, ls=(0, (1, 1)), zorder=1)
            axis.plot(
                ends[0], y, "|", color=look.colour, ms=8, mew=1.6, zorder=3,
                gid=f"needed|{row['place']}|{row['encoder']}",
            )  # fmt: skip
        clear = row["low"] > 0 or row["high"] < 0
        if math.isfinite(row["low"]):
            axis.plot([row["low"], row["high"]], [y, y], color=look.colour, lw=1.6, solid_capstyle="butt", zorder=2)
        axis.plot(
            row["cur"], y, look.marker, color=look.colour, mfc=look.colour if clear else "white", zorder=3,
            gid=f"{row['place']}|{row['encoder']}",
        )  # fmt: skip
    axis.set(yticks=range(len(drawn)), ylim=(len(drawn) - 0.4, -0.6))
    axis.set_yticklabels([style.cut(named[row["encoder"]].name, 12) for row in drawn] if column == 0 else [])
    axis.grid(axis="x")
    style.bare(axis, "left")


def heat(subjects: Sequence[Subject], width: float = style.COLUMN) -> Figure:
    """Numbers on colour, white at 0; grey italics where the interval holds 0 or is not known."""
    drawn = rows(subjects)
    places = list(dict.fromkeys(row["place"] for row in drawn))
    several, named = len(subjects) > 1, all_looks(subjects)
    heights = [max(0.2 * len(subject.encoders), 0.75 * several) for subject in subjects]
    figure = style.figure(width, 0.42 + sum(heights) + 0.08 * (len(subjects) - 1))
    axes = figure.subplots(len(subjects), 1, squeeze=False, height_ratios=heights)[:, 0]
    finite = [abs(row["cur"]) for row in drawn if math.isfinite(row["cur"])]
    colours = Normalize(-max([*finite, 1.0]), max([*finite, 1.0]))
    for number, (axis, subject) in enumerate(zip(axes, subjects, strict=True)):
        cells = {(row["encoder"], row["place"]): row for row in drawn if row["model"] == subject.name}
        _cells(axis, subject, places, cells, colours)
        axis.set(xticks=range(len(places)), yticks=range(len(subject.order)))
        axis.set_xticklabels([style.broken(p, 9) for p in places] if number == 0 else [], size=style.SMALL)
        axis.set_yticklabels([style.cut(named[name].name, 12) for name in subject.order])
        axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        if several:
            axis.set_ylabel(style.along(subject.name, heights[number]), size=7)
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure


def _cells(
    axis: Axes, subject: Subject, places: Sequence[str], cells: Mapping[tuple[str, str], Row], colours: Normalize
) -> None:
    values = [[cells.get((e, p), {}).get("cur", math.nan) for p in places] for e in subject.order]
    image = axis.imshow(values, cmap=style.DIVERGING, norm=colours, aspect="auto")
    for y, encoder in enumerate(subject.order):
        for x, place in enumerate(places):
            row = cells.get((encoder, place))
            if row is None:
                continue
            clear = row["low"] > 0 or row["high"] < 0
            red, green, blue, _ = image.to_rgba(row["cur"]) if math.isfinite(row["cur"]) else (1.0, 1.0, 1.0, 1.0)
            axis.text(
                x, y, digits.plain(row["cur"]), ha="center", va="center", size=style.SMALL, gid=f"{place}|{encoder}",
                color=ink(red, green, blue) if clear else _dull(red, green, blue),
                style="normal" if clear else "italic",
            )  # fmt: skip
    axis.axvline(0.5, color="white", lw=3)


def _dull(red: float, green: float, blue: float) -> str:
    """Grey on light grounds, where it can be read; else as all others."""
    return style.DULL if min(red, green, blue) > 0.85 else ink(red, green, blue)
