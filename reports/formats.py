"""Data frames as text: Markdown for the terminal, LaTeX (booktabs) for papers."""

import re
from collections.abc import Sequence

import pandas as pd

HOLE = "–"  # a score that was not measured
UNDEFINED = "n/a"  # a CUR or IG that does not exist
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "–": "--",
}  # fmt: skip


def cells(frame: pd.DataFrame, scale: float = 1.0, digits: int = 2, missing: str = HOLE) -> list[list[str]]:
    """Header and rows of a frame as texts; numbers scaled and rounded."""

    def show(value: float) -> str:
        # Adding 0 after rounding turns -0.00 into 0.00.
        return missing if pd.isna(value) else f"{round(float(value) * scale, digits) + 0.0:.{digits}f}"

    header = [str(frame.index.name or ""), *map(str, frame.columns)]
    return [header, *([str(name), *map(show, row)] for name, row in zip(frame.index, frame.to_numpy(), strict=True))]


def markdown(rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A Markdown table whose columns line up as plain text too; numbers (all but the first column) to the right."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    right = [numbers and i > 0 for i in range(len(widths))]

    def line(row: Sequence[str]) -> str:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)) + "|"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def escape(text: str) -> str:
    """Text as LaTeX shows it literally."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], text)


def latex(rows: Sequence[Sequence[str]], comment: Sequence[str] = ()) -> str:
    r"""A `tabular` with booktabs rules, to be `\input`; comment lines stand before it."""
    header, *body = [" & ".join(map(escape, row)) + r" \\" for row in rows]
    columns = "l" + "r" * (len(rows[0]) - 1)
    lines = [
        *(f"% {' '.join(line.split())}" for line in comment),
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        header,
    ]
    return "\n".join([*lines, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]) + "\n"
