"""How figures look: widths, type, grounds; the user's own matplotlib settings stay as they are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from redundancy_eval.reports.subject import Subject

# Inches: a column of two (ICML, CVPR), the text of ICLR and NeurIPS, a full page of two columns.
COLUMN, TEXT, PAGE = 3.25, 5.5, 6.75
FULL, FLOOR, GRID, DULL = "#222222", "#666666", "#DDDDDD", "#6B6B6B"
BEST, MEAN, WORST, BELOW, OTHER = "#0072B2", "#009E73", "#D55E00", "#B2182B", "#9AA5B1"
SMALL = 6.5  # points; type inside a figure
DIVERGING = LinearSegmentedColormap.from_list("cur", ["#2166AC", "#92C5DE", "#F7F7F7", "#F4A582", "#B2182B"])
TOGETHER = LinearSegmentedColormap.from_list("pairs", ["#8073AC", "#F7F7F7", "#E08214"])
_RC: Any = {
    "font.family": "sans-serif", "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "axes.linewidth": 0.6, "lines.linewidth": 1.2, "lines.markersize": 4,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5, "ytick.major.size": 2.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False, "grid.color": GRID, "grid.linewidth": 0.5,
    "axes.axisbelow": True, "legend.frameon": False, "figure.dpi": 200, "savefig.dpi": 300, "savefig.bbox": None,
    "text.parse_math": False,  # a model's name may hold a dollar sign
    "pdf.fonttype": 42, "ps.fonttype": 42,  # TrueType, embedded: what ICLR, NeurIPS and ICML ask for
    "svg.fonttype": "none", "svg.hashsalt": "redundancy-eval", "axes.unicode_minus": True, "text.usetex": False,
}  # fmt: skip


@contextmanager
def paper() -> Iterator[None]:
    """Context in which figures are drawn and saved, from matplotlib's defaults."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def figure(width: float, height: float, tight: bool = False) -> Figure:
    """An empty figure of a size in inches; `tight` leaves no room between its panels but for their labels."""
    engine = ConstrainedLayoutEngine(h_pad=0.02, hspace=0) if tight else ConstrainedLayoutEngine()
    return Figure(figsize=(width, height), layout=engine)


def bare(axis: Axes, *sides: str) -> None:
    """Take away an axis's frame on some sides (all where none is named), and the ticks there."""
    for side in sides or ("left", "bottom"):
        axis.spines[side].set_visible(False)
    if not sides or "left" in sides:
        axis.tick_params(axis="y", length=0)
    if not sides or "bottom" in sides:
        axis.tick_params(axis="x", length=0)


def broken(name: str, longest: int = 11) -> str:
    """A name in two lines, at the hyphen or blank nearest to its middle, where it is long."""
    breaks = [i + 1 for i, c in enumerate(name[:-1]) if c in "- "]
    if len(name) <= longest or not breaks:
        return name
    at = min(breaks, key=lambda i: abs(i - len(name) / 2))
    return f"{name[:at].rstrip(' ')}\n{name[at:]}"


def cut(name: str, longest: int = 40) -> str:
    """A name no longer than fits."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def along(name: str, inches: float) -> str:
    """A name no longer than fits along an axis of that length, in 7 point type."""
    return cut(name, max(4, int(inches / 0.056)))


def score(subjects: Sequence[Subject]) -> str:
    """What an axis of scores is called."""
    return " and ".join(dict.fromkeys(f"{cut(subject.main.lower(), 20)} score" for subject in subjects))


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Places near the wanted ones, in their order from low to high, at least `gap` from each other."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [wanted[i] for i in order]
    for _ in range(100):
        moved = False
        for i, (low, high) in enumerate(pairwise(placed)):
            if high - low < gap - 1e-9:
                middle = (low + high) / 2
                placed[i], placed[i + 1] = middle - gap / 2, middle + gap / 2
                moved = True
        if not moved:
            break
    found = [0.0] * len(wanted)
    for i, place in zip(order, placed, strict=True):
        found[i] = place
    return found
