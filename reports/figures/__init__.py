"""The figures of the report, at the width of a paper's column, each with the rows that it shows and a caption.

    written = write([subject], Path("figures"), kinds=("pdf", "png"))

Nothing is computed here: numbers come from `uncertainty.analyse`. The same input gives the same bytes (with one release
of matplotlib and the same fonts).
"""

import csv
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from redundancy_eval.errors import SetupError
from redundancy_eval.reports import csv as tables_csv
from redundancy_eval.reports import latex
from redundancy_eval.reports.figures import cur, curve, need, pareto, retrained, shares, style, subsets
from redundancy_eval.reports.figures.captions import caption
from redundancy_eval.reports.subject import Subject

__all__ = ["FIGURES", "Kind", "caption", "draw", "files", "write"]

_METADATA: Mapping[str, Mapping[str, None]] = {"pdf": {"CreationDate": None}, "png": {}, "svg": {"Date": None}}


@dataclass(frozen=True)
class Kind:
    """A figure: the rows that it shows (none: it cannot be drawn), how they are drawn, its widths in inches.

    `several` is the width where it shows more than one model.
    """

    stem: str
    rows: Callable[[Sequence[Subject]], list[dict[str, Any]]]
    draw: Callable[[Sequence[Subject], float], Figure]
    width: float
    several: float
    without: str


FIGURES = {
    kind.stem: kind
    for kind in (
        Kind("cur_forest", cur.rows, cur.forest, style.TEXT, style.PAGE, "there are no encoders"),
        Kind("need", need.rows, need.draw, style.TEXT, style.PAGE, "no model was run with linear stand-ins too"),
        Kind("cur_heat", cur.rows, cur.heat, style.COLUMN, style.COLUMN, "there are no encoders"),
        Kind("drop_curve", curve.rows, curve.draw, style.COLUMN, style.PAGE, "no mask has an overall score"),
        Kind("subsets", subsets.rows, subsets.draw, style.TEXT, style.PAGE, "no mask has an overall score"),
        Kind("pareto", pareto.rows, pareto.draw, style.COLUMN, style.PAGE, "what masks cost is not known"),
        Kind("retrained", retrained.rows, retrained.draw, style.TEXT, style.PAGE, "no other models were given"),
        Kind("shares", shares.rows, shares.draw, style.TEXT, style.TEXT, "Shapley values need all 2^n masks"),
    )
}


def draw(stem: str, subjects: Sequence[Subject], width: float | None = None) -> Figure:
    """One figure of one or several models, which is at the width asked for (inches) or its own.

    Raises:
        SetupError: there is nothing to draw.
    """
    kind = FIGURES[stem]
    if not kind.rows(subjects):
        raise SetupError(f"no figure {stem}: {kind.without}")
    with style.paper(), _quiet():
        figure = kind.draw(subjects, width or (kind.width if len(subjects) == 1 else kind.several))
        figure.draw_without_rendering()
        return figure


def files(subjects: Sequence[Subject], kinds: Sequence[str] = ("pdf", "png")) -> dict[str, bytes]:
    """Every figure that can be drawn, what it shows as CSV, and the captions: content by file name.

    captions.txt says of the others why there is none.
    """
    made: dict[str, bytes] = {}
    texts, macros = [], []
    for stem, kind in FIGURES.items():
        rows = kind.rows(subjects)
        if not rows:
            texts.append(f"{stem}: not drawn, {kind.without}")
            continue
        words = caption(stem, subjects)
        texts.append(f"{stem}: {words}")
        macros.append(f"% {stem}\n\\caption{{{latex.escape(words)}}}\n")
        made[f"{stem}.csv"] = _csv(rows)
        if kinds:
            figure = draw(stem, subjects)
            made |= {f"{stem}.{ending}": _saved(figure, ending) for ending in kinds}
    made["captions.txt"] = "\n\n".join([*texts, ""]).encode()
    made["captions.tex"] = "\n".join(macros).encode()
    return made


def write(subjects: Sequence[Subject], folder: Path, kinds: Sequence[str] = ("pdf", "png")) -> list[Path]:
    """`files` into a folder, each whole or not at all; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made = files(subjects, kinds)
    for name, content in made.items():
        temporary = folder / f".{name}"
        temporary.write_bytes(content)
        temporary.replace(folder / name)
    return [folder / name for name in made]


def _saved(figure: Figure, ending: str) -> bytes:
    buffer = io.BytesIO()
    with style.paper(), _quiet():
        figure.savefig(buffer, format=ending, metadata=dict(_METADATA[ending]))
    return buffer.getvalue()


class _quiet:
    """Silences fontTools, which tells of every table that it leaves out of an embedded font."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("fontTools")
        self.before = self.logger.level
        self.logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self.logger.setLevel(self.before)


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(["" if v != v else tables_csv.cell(v) if isinstance(v, str) else v for v in row.values()])
    return text.getvalue().encode()
