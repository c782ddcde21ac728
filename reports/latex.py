"""Tables as LaTeX (booktabs), to be `\\input` in a paper."""

import re
from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np
import pandas as pd

from redundancy_eval import shown
from redundancy_eval.reports.report import Report
from redundancy_eval.reports.tables import HOLE, UNDEFINED, Table, change, number

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "–": "--",
}  # fmt: skip
_PREVIEW = r"""% Every table on a page of its own: pdflatex preview.tex
\documentclass[multi=tabular,border=4pt]{standalone}
\usepackage[T1]{fontenc}
\usepackage{booktabs}
\begin{document}
%s\end{document}
"""


def files(report: Report) -> dict[str, str]:
    """Name -> text of a file for each table, and of one that shows them all."""
    made = {}
    for table in report.tables:
        comment = [table.title, r"needs \usepackage{booktabs}", *(model.table.signature for model in report.models)]
        if table.ranked:
            comment.append("bold: largest of a column (of the model); underlined: second; on the rounded values")
        made[f"{table.stem}.tex"] = tabular(table, comment)
    inputs = "".join(f"\\input{{{name}}}\n" for name in made)
    return {**made, "preview.tex": _PREVIEW.replace("%s", inputs)}


def tabular(table: Table, comment: Sequence[str] = ()) -> str:
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


def escape(text: str) -> str:
    """Text as LaTeX shows it literally."""
    text = shown.text(text)
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], text)
