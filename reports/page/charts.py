"""The page's charts as SVG: small, in the page's own colours (so that they follow light and dark), readable aloud.

Geometry stands in attributes, looks in classes of the style sheet: the page's policy admits no `style=`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from redundancy_eval.reports import digits
from redundancy_eval.reports.figures.style import apart
from redundancy_eval.uncertainty import Number

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 540, 310, 48, 46, 28
_LINE = 34  # height of a dumbbell's line


@dataclass(frozen=True)
class Scale:
    """Numbers -> places."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a number stands, to a tenth of a pixel."""
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.start + share * (self.end - self.start), 1)


def interval(
    number: Number, low: float, high: float, margin: float, key: str, scale: float = 100, zeros: Number | None = None
) -> Markup:
    """A point with its interval on a line with zero and the margin, from `low` to `high`; for cells and cards.

    Args:
        number: what is shown, times `scale`.
        low: left end of the line, in shown units.
        high: right end.
        margin: half the band around zero.
        key: the encoder's word in the style sheet.
        scale: 100 for fractions.
        zeros: the same under zeros, where `number` is with linear stand-ins; an open point.
    """
    if not math.isfinite(number.value):
        return Markup('<span class="soft">{}</span>').format(digits.UNDEFINED)
    x = Scale(low, high, 6, 134)
    label = _said(number, scale)
    parts = [
        Markup('<rect class="band" x="{}" y="1" width="{}" height="16"/>').format(
            x(-margin), round(x(margin) - x(-margin), 1)
        ),
        Markup('<line class="zero" x1="{0}" x2="{0}" y1="0" y2="18"/>').format(x(0)),
    ]
    if digits.known(number):
        ends = x(scale * number.low), x(scale * number.high)
        parts.append(Markup('<line class="s-{}" x1="{}" x2="{}" y1="9" y2="9"/>').format(key, *ends))
    dot = Markup('<circle class="s-{}{}" cx="{}" cy="9" r="4.5"/>')
    hollow = " hollow"
    if zeros is None:
        hollow = "" if digits.excludes_zero(number) else hollow
        parts.append(dot.format(key, hollow, x(scale * number.value)))
    else:
        label = f"with stand-ins {label}"
        if math.isfinite(zeros.value):
            label += f"; under zeros {_said(zeros, scale)}"
            at, end = x(scale * number.value), x(scale * zeros.value)
            parts.append(Markup('<line class="link s-{}" x1="{}" x2="{}" y1="9" y2="9"/>').format(key, at, end))
            parts.append(dot.format(key, hollow, end))
        parts.append(dot.format(key, "", x(scale * number.value)))
    return Markup('<svg class="ci" viewBox="0 0 140 18" role="img" aria-label="{}">{}</svg>').format(
        label, Markup("").join(parts)
    )


def _said(number: Number, scale: float) -> str:
    between = digits.interval(number, scale)
    return digits.value(number, scale) + (f", interval {between}" if between else ", no interval")


@dataclass(frozen=True)
class Ends:
    """An encoder in a dumbbell: its word in the style sheet, name and verdict, and its CURs (fractions)."""

    key: str
    name: str
    word: str
    zeros: Number
    predicted: Number
    retrained: Number | None = None


def dumbbells(rows: Sequence[Ends], margin: float, label: str) -> Markup:
    """A line for each encoder from its CUR under zeros (open) to that with linear stand-ins (filled), in %.

    Args:
        rows: from top to bottom.
        margin: half the band around zero, in %.
        label: of the chart, read aloud.
    """
    low, high = reach((n for row in rows for n in (row.zeros, row.predicted, row.retrained) if n), margin)
    step = next(step for step in (2, 5, 10, 20, 50, 100) if (high - low) / step <= 6 or step == 100)
    room = (high - low) / 30
    x = Scale(low - room, high + room, 104, _WIDTH - 112)
    bottom = 8 + _LINE * len(rows)
    parts = [
        Markup('<rect class="band" x="{}" y="4" width="{}" height="{}"/>').format(
            x(-margin), round(x(margin) - x(-margin), 1), bottom - 4
        )
    ]
    for tick in range(step * math.ceil(x.low / step), math.floor(x.high) + 1, step):
        kind = "grid" if tick else "zero"
        parts.append(Markup('<line class="{0}" x1="{1}" x2="{1}" y1="4" y2="{2}"/>').format(kind, x(tick), bottom))
        parts.append(_text(x(tick), bottom + 16, digits.plain(tick, 0), "middle"))
    parts.append(_text((x.start + x.end) / 2, bottom + 36, "CUR, %", "middle", "name"))
    for number, row in enumerate(rows):
        y = 8 + _LINE * (number + 0.5)
        parts += [_text(x.start - 10, y + 4, row.name, "end", "name"), _text(x.end + 12, y + 4, row.word, "start")]
        parts += _dumbbell(row, x, y)
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, bottom + 42, label, Markup("").join(parts)
    )


def _dumbbell(row: Ends, x: Scale, y: float) -> list[Markup]:
    parts = []
    if math.isfinite(row.zeros.value) and math.isfinite(row.predicted.value):
        line = Markup('<line class="link s-{}" x1="{}" x2="{}" y1="{}" y2="{}"/>')
        parts.append(line.format(row.key, x(100 * row.zeros.value), x(100 * row.predicted.value), y, y))
    for number, kind, what in ((row.zeros, "thin", "under zeros"), (row.predicted, "thick", "with stand-ins")):
        if digits.known(number):
            line = Markup('<line class="{} s-{}" x1="{}" x2="{}" y1="{}" y2="{}"/>')
            parts.append(line.format(kind, row.key, x(100 * number.low), x(100 * number.high), y, y))
        if math.isfinite(number.value):
            look = f"s-{row.key}" + " hollow" * (number is row.zeros)
            parts.append(_dot(x(100 * number.value), y, f"{row.name} {what}: {_said(number, 100)}", look, 5.5))
    if row.retrained is not None and math.isfinite(row.retrained.value):
        at, said = x(100 * row.retrained.value), f"{row.name} retrained: {_said(row.retrained, 100)}"
        diamond = Markup('<path class="retrained" d="M{} {}l6 6l-6 6l-6 -6z"><title>{}</title></path>')
        parts.append(diamond.format(at, y - 6, said))
    return parts


def reach(numbers: Iterable[Number], margin: float, scale: float = 100) -> tuple[float, float]:
    """The common line of intervals: all ends, zero and the margin."""
    ends = [scale * v for n in numbers for v in (n.value, n.low, n.high) if math.isfinite(v)]
    return min([*ends, -margin]), max([*ends, margin])


@dataclass(frozen=True)
class Point:
    """A mask in a chart, and how it is called."""

    x: float
    y: float
    label: str
    marked: bool = False


def curve(points: Sequence[Point], full: float, floor: float, up: str, label: str) -> Markup:
    """Scores by number dropped, with best, mean and worst of each number; lines for the full model and the floor."""
    groups = {k: [p.y for p in points if p.x == k] for k in sorted({p.x for p in points})}
    x = Scale(min(groups), max(groups), _LEFT, _WIDTH - 16)
    y = _upward(max(p.y for p in points))
    parts = [_frame(x, y, list(groups), "encoders dropped", up)]
    for kind, value, name, place in (("full", full, "full model", "end"), ("floor", floor, "all dropped", "start")):
        if math.isfinite(value):
            rule = Markup('<line class="rule {}" x1="{}" x2="{}" y1="{}" y2="{}"/>')
            parts.append(rule.format(kind, x.start, x.end, y(value), y(value)))
            parts.append(_text(x.end if place == "end" else x.start + 4, y(value) - 5, name, place))
    for name, of in (("worst", min), ("mean", lambda group: sum(group) / len(group)), ("best", max)):
        line = " ".join(f"{x(k)},{y(of(group))}" for k, group in groups.items())
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(name, line))
    middle = list(groups)[len(groups) // 2]
    ends = [max(groups[middle]), sum(groups[middle]) / len(groups[middle]), min(groups[middle])]
    heights = apart([-y(end) for end in ends], 14)
    for name, height in zip(("best", "mean", "worst"), heights, strict=True):
        if len(groups) > 2:
            parts.append(_text(x(middle) + 7, -height - 5, name, "start", f"tick t-{name}"))
    parts += [_dot(x(p.x), y(p.y), f"{p.label}: {digits.plain(p.y)} points", "dot", 4) for p in points]
    return _chart(label, parts)


def against_cost(points: Sequence[Point], unit: str, up: str, label: str) -> Markup:
    """Scores against cost in % of the full model; marked are those that no other beats in both."""
    left = 10 * math.floor(min(p.x for p in points) / 10)
    right = max(100, 10 * math.ceil(max(p.x for p in points) / 10))
    x, y = Scale(left, right, _LEFT, _WIDTH - 16), _upward(max(p.y for p in points))
    step = 10 if right - left <= 60 else 20
    parts = [_frame(x, y, list(range(left, right + 1, step)), unit, up)]
    best = [p for p in points if p.marked]
    path = "".join(f"{'M' if i == 0 else 'H'}{x(p.x)}{',' if i == 0 else 'V'}{y(p.y)}" for i, p in enumerate(best))
    parts.append(Markup('<path class="line best" d="{}"/>').format(path))
    for p in (*(p for p in points if not p.marked), *best):
        said = f"{p.label}: {digits.plain(p.y)} points at {digits.plain(p.x)} %"
        parts.append(_dot(x(p.x), y(p.y), said, "point" if p.marked else "dot", 5 if p.marked else 4))
    # Above and to the left of a point that no other beats there are no others.
    for p, place in zip(best, apart([-y(p.y) for p in best], 15), strict=True):
        narrow = x(p.x) - _LEFT < 7 * len(p.label)
        where = (x(p.x) - 3, -place - 9, p.label, "start") if narrow else (x(p.x) - 9, -place - 2, p.label, "end")
        parts.append(_text(*where, "tick over"))
    return _chart(label, parts)


def _upward(highest: float) -> Scale:
    return Scale(0, 10 * math.floor(max(highest, 0) / 10 + 1), _HEIGHT - _BOTTOM, _TOP)


def _frame(x: Scale, y: Scale, ticks: Sequence[float], across: str, up: str) -> Markup:
    """Grid, ticks and names of the axes."""
    parts = []
    for value in range(0, int(y.high) + 1, 20 if y.high > 40 else 10):
        line = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>')
        parts += [line.format(x.start, x.end, y(value), y(value)), _text(x.start - 7, y(value) + 4, str(value), "end")]
    parts += [_text(x(tick), y.start + 17, f"{tick:g}", "middle") for tick in ticks]
    parts.append(_text((x.start + x.end) / 2, _HEIGHT - 6, across, "middle", "name"))
    parts.append(_text(2, 14, up, "start", "name"))
    return Markup("").join(parts)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def _dot(x: float, y: float, said: str, kind: str, radius: float) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
        kind, x, y, radius, said
    )


def _chart(label: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, label, Markup("").join(parts)
    )
