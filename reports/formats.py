"""Tables as text: Markdown for the terminal, LaTeX (booktabs) for papers."""

import re
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pandas as pd

from redundancy_eval import shown
from redundancy_eval.reports.frames import Table

HOLE = "–"  # a score that was not measured
UNDEFINED = "n/a"  # a CUR or IG that does not exist
DIGITS = 2
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "–": "--",
}  # fmt: skip
# With the backslashes before, which would take the one that is put there.
_MARKDOWN = re.compile(r"(\\*)([|`<]|(?<=\])\()")
# Some spreadsheets take full-width signs too, and in some countries `;` parts cells.
_FORMULA = re.compile(r"(^|;)(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")


def number(value: Any, table: Table) -> str:
    """A number of a table as it is printed."""
    if pd.isna(value):
        return UNDEFINED if table.undefined else HOLE
    # Adding 0 after rounding turns -0.00 into 0.00.
    return f"{round(float(value) * table.scale, DIGITS) + 0.0:.{DIGITS}f}"


def change(table: Table, row: int, column: int) -> str:
    """The change that stands behind a number, with its sign; "" where there is none."""
    value: Any = np.nan if table.change is None else table.change.iat[row, column]
    return "" if pd.isna(value) else f"{round(float(value) * table.scale, DIGITS) + 0.0:+.{DIGITS}f}"


def table_markdown(table: Table) -> str:
    """A table as Markdown; a column with the model where there are several."""
    models = list(table.frame.index.get_level_values(0))
    named = len(set(models)) > 1
    axis = table.frame.index.names
    rows = [[*([str(axis[0])] if named else []), str(axis[1]), *map(str, table.frame.columns)]]
    for i, (model, name) in enumerate(table.frame.index):
        cells = [
            f"{number(value, table)} ({sign})" if (sign := change(table, i, j)) else number(value, table)
            for j, value in enumerate(table.frame.iloc[i])
        ]
        rows.append([*([str(model)] if named else []), str(name), *cells])
    return markdown(rows, 2 if named else 1)


def markdown(rows: Sequence[Sequence[str]], texts: int | None = None) -> str:
    """A Markdown table whose columns line up as plain text too; columns behind the first `texts` to the right."""
    rows = [[literal(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    right = [texts is not None and i >= texts for i in range(len(widths))]

    def line(row: Sequence[str]) -> str:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)) + "|"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def literal(text: str) -> str:
    """Text as Markdown shows it literally: no cells, code, links, images or HTML of its own."""
    return _MARKDOWN.sub(lambda match: match[1] * 2 + "\\" + match[2], shown.text(text))


def cell(text: str) -> str:
    """Text as a cell of a CSV file that no spreadsheet takes for a formula."""
    return _FORMULA.sub(r"\1'", shown.text(text))


def escape(text: str) -> str:
    """Text as LaTeX shows it literally."""
    text = shown.text(text)
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], text)


def latex(table: Table, comment: Sequence[str] = ()) -> str:
    r"""A `tabular` with booktabs rules, to be `\input`; comment lines stand before it.

    Categories span their columns. In ranked tables the largest number of a column is bold and the second underlined,
    on the rounded values and with ties, model by model.
    """
    frame, columns = table.frame, len(table.frame.columns)
    arrow = r" $\uparrow$" if table.better else ""
    axis = str(frame.index.names[1])
    lines = [
        *(f"% {shown.line(line)}" for line in comment),
        rf"\begin{{tabular}}{{l{'r' * columns}}}",
        r"\toprule",
    ]
    spans = [(span, len(list(group))) for span, group in groupby(table.spans)]
    if any(span for span, _ in spans):
        heads = [rf"\multicolumn{{{width}}}{{c}}{{{escape(span)}}}" for span, width in spans]
        ends = np.cumsum([1, *(width for _, width in spans)])
        rules = [rf"\cmidrule(lr){{{start + 1}-{end}}}" for start, end in pairwise(ends)]
        lines += [" & " + " & ".join(heads) + r" \\", " ".join(rules)]
    lines += [" & ".join([escape(axis), *(escape(str(c)) + arrow for c in frame.columns)]) + r" \\", r"\midrule"]
    models = list(frame.index.get_level_values(0))
    for place, (model, group) in enumerate(groupby(range(len(frame)), key=lambda i: models[i])):
        rows = list(group)
        if len(set(models)) > 1:
            lines += [r"\midrule"] * (place > 0)
            lines.append(rf"\multicolumn{{{columns + 1}}}{{l}}{{\textit{{{escape(str(model))}}}}} \\")
        marks = _marks(frame.iloc[rows], table)
        for i in rows:
            cells = []
            for j in range(columns):
                text = escape(number(frame.iat[i, j], table))
                text = f"{marks[i - rows[0], j]}{{{text}}}" if (i - rows[0], j) in marks else text
                sign = change(table, i, j)
                cells.append(f"{text} ({sign.replace('-', '$-$')})" if sign else text)
            lines.append(" & ".join([escape(str(frame.index[i][1])), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _marks(block: pd.DataFrame, table: Table) -> dict[tuple[int, int], str]:
    """(row, column) -> how LaTeX marks the number: bold for the largest, underlined for the second."""
    marks = {}
    for column in range(block.shape[1]) if table.ranked and len(block) > 1 else ():
        shown = [number(value, table) for value in block.iloc[:, column]]
        values = sorted({float(text) for text in shown if text not in (HOLE, UNDEFINED)}, reverse=True)
        for row, text in enumerate(shown):
            if text in (HOLE, UNDEFINED) or len(values) < 2:
                continue
            if float(text) == values[0]:
                marks[row, column] = r"\textbf"
            elif float(text) == values[1]:
                marks[row, column] = r"\underline"
    return marks
