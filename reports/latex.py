"""Tables as LaTeX (booktabs), to be `\\input` in a paper."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise

import numpy as np

from redundancy_eval import shown
from redundancy_eval.reports import cells
from redundancy_eval.reports.cells import Cell
from redundancy_eval.reports.report import Report
from redundancy_eval.reports.tables import Row, Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}", '"': r"\textquotedbl{}", "–": "--",
}  # fmt: skip
_PREVIEW = r"""% Every table on a page of its own: pdflatex preview.tex
\documentclass[multi=tabular,border=4pt]{standalone}
\usepackage[T1]{fontenc}
\usepackage{booktabs}
\begin{document}
%s\end{document}
"""
_MAIN = r"""% Every table and figure with its caption, to take from: pdflatex main.tex
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[margin=1in]{geometry}
\usepackage{booktabs,graphicx,adjustbox}
\begin{document}
%s\end{document}
"""
_FLOAT = r"""\begin{%s}[p]\centering
\begin{adjustbox}{max width=\linewidth,max totalheight=.75\textheight}
%s
\end{adjustbox}
\caption{%s}
\end{%s}
\clearpage
"""


CAPTIONS = "captions.txt"


def files(report: Report) -> dict[str, str]:
    """Name -> text of a file for each table, one that shows them all, and one with their captions."""
    intervals = report.options.intervals != "none"
    made, said = {}, []
    for table in (each for each in report.tables if each.latex):
        about = caption(table, intervals)
        comment = [table.title, r"needs \usepackage{booktabs}", about, *(model.signature for model in report.models)]
        if table.ranked:
            comment.append("bold: largest of a column (of the model); underlined: second; on the rounded values")
        made[f"{table.stem}.tex"] = tabular(table, comment, intervals)
        said.append(shown.text(f"{table.stem}.tex: {table.title}. {about}"))
    inputs = "".join(f"\\input{{{name}}}\n" for name in made)
    return {**made, "preview.tex": _PREVIEW.replace("%s", inputs), CAPTIONS: "\n\n".join(said) + "\n"}


def main(report: Report, figures: Mapping[str, str]) -> str:
    """A document that takes in all tables, and figures by the name of their PDF with its caption."""
    intervals = report.options.intervals != "none"
    floats = [
        ("table", rf"\input{{{table.stem}.tex}}", escape(f"{table.title}. {caption(table, intervals)}"))
        for table in report.tables
        if table.latex
    ]
    floats += [("figure", rf"\includegraphics{{{name}}}", escape(about)) for name, about in figures.items()]
    return _MAIN.replace("%s", "".join(_FLOAT % (kind, content, about, kind) for kind, content, about in floats))


def caption(table: Table, intervals: bool = True) -> str:
    """What a table's numbers, intervals and stars are, in plain text."""
    marked = any(cell.stars for row in table.rows for cell in row.cells)
    family = "the encoders and categories of a model" if table.stem == "cur" else "the categories of a model"
    stars = f"* p < .05, ** p < .01, *** p < .001, corrected after Holm over {family} (overall apart)." * marked
    return " ".join(filter(None, (table.caption, table.brackets if intervals else "", stars)))


def tabular(table: Table, comment: Sequence[str] = (), intervals: bool = True) -> str:
    r"""A `tabular` with booktabs rules, to be `\input`; comment lines stand before it.

    Categories span their columns, intervals stand under their numbers. In ranked tables the largest number of a column
    is bold and the second underlined, on the rounded values and with ties, model by model.
    """
    columns = len(table.columns)
    arrow = r" $\uparrow$" if table.better else ""
    align = "".join("l" if table.is_text(column) else "r" for column in range(columns))
    lines = [*(f"% {shown.line(line)}" for line in comment), rf"\begin{{tabular}}{{l{align}}}", r"\toprule"]
    spans = [(span, len(list(group))) for span, group in groupby(table.spans)]
    if any(span for span, _ in spans):
        heads = [rf"\multicolumn{{{width}}}{{c}}{{{escape(span)}}}" for span, width in spans]
        ends = np.cumsum([1, *(width for _, width in spans)])
        rules = [rf"\cmidrule(lr){{{start + 1}-{end}}}" for start, end in pairwise(ends)]
        lines += [" & " + " & ".join(heads) + r" \\", " ".join(rules)]
    lines += [" & ".join([escape(table.head), *(escape(c) + arrow for c in table.columns)]) + r" \\", r"\midrule"]
    for place, (model, group) in enumerate(groupby(table.rows, key=lambda row: row.model)):
        rows = list(group)
        if len(table.models) > 1:
            lines += [r"\midrule"] * (place > 0)
            lines.append(rf"\multicolumn{{{columns + 1}}}{{l}}{{\textit{{{escape(model)}}}}} \\")
        marks = _marks(rows, table)
        for i, row in enumerate(rows):
            printed = [_printed(cell, marks.get((i, j), "")) for j, cell in enumerate(row.cells)]
            lines.append(" & ".join([escape(row.label), *printed]) + r" \\")
            below = [cells.interval(cell) if intervals else "" for cell in row.cells]
            if any(below):
                small = [rf"{{\scriptsize {_math(each)}}}" if each else "" for each in below]
                lines.append(" & ".join(["", *small]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _printed(cell: Cell, mark: str) -> str:
    text = escape(cells.figure(cell))
    text = _math(text) if np.isfinite(cell.value) else text
    text = f"{mark}{{{text}}}" if mark else text
    text += f"$^{{{cell.stars}}}$" if cell.stars else ""
    change = cells.change(cell)
    return f"{text} ({_math(change)})" if change else text


def _math(number: str) -> str:
    """A number whose minus is one."""
    return number.replace("-", "$-$")


def _marks(rows: Sequence[Row], table: Table) -> dict[tuple[int, int], str]:
    """(row, column) -> how LaTeX marks the number: bold for the largest, underlined for the second."""
    marks = {}
    for column in range(len(table.columns)) if table.ranked and len(rows) > 1 else ():
        column_cells = [row.cells[column] for row in rows]
        printed = [float(cells.figure(c)) if np.isfinite(c.value) else None for c in column_cells]
        values = sorted({value for value in printed if value is not None}, reverse=True)
        for row, value in enumerate(printed):
            if value is None or len(values) < 2:
                continue
            if value == values[0]:
                marks[row, column] = r"\textbf"
            elif value == values[1]:
                marks[row, column] = r"\underline"
    return marks


def escape(text: str) -> str:
    """Text as LaTeX shows it literally."""
    text = shown.text(text)
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], text)
