"""The report as Markdown, which reads as plain text in a terminal too."""

import re
from collections.abc import Sequence

from redundancy_eval import shown
from redundancy_eval.reports.report import Report
from redundancy_eval.reports.tables import Table, change, number

# With the backslashes before, which would take the one that is put there.
_MARKDOWN = re.compile(r"(\\*)([|`<]|(?<=\])\()")


def text(report: Report) -> str:
    """The whole report as Markdown."""
    parts = [f"### {table.title}\n\n{_table(table)}" for table in report.tables]
    for model in report.models:
        whose = literal(f" ({model.name})" if len(report.models) > 1 else "")
        parts += [f"Note{whose}: {literal(note)}." for note in model.table.notes]
        parts.append(f"Signature{whose}: `{shown.text(model.table.signature, also='`')}`")
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
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
    return grid(rows, 2 if named else 1)


def grid(rows: Sequence[Sequence[str]], texts: int | None = None) -> str:
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
