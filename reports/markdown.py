"""The report as Markdown, which reads as plain text in a terminal too."""

import re
from collections.abc import Sequence

from redundancy_eval import shown
from redundancy_eval.reports import cells
from redundancy_eval.reports.cells import Cell
from redundancy_eval.reports.report import Report
from redundancy_eval.reports.tables import Table

# With the backslashes before, which would take the one that is put there.
_MARKDOWN = re.compile(r"(\\*)([|`]|<(?!\s)|(?<=\])\()")


def text(report: Report) -> str:
    """The whole report: what is said in words, the tables, notes and signatures."""
    parts = [literal(said.need) for said in report.models if said.need]
    parts += [literal(said.sentence) for said in report.models]
    told = set[str]()  # what brackets are is said where they come first
    for table in report.tables:
        if table.markdown:
            about = " ".join(each for each in (table.caption, table.brackets) if each and each not in told)
            told.add(table.brackets)
            parts += [f"### {table.title}", *([literal(about)] if about else []), _table(table)]
    for said in report.models:
        whose = literal(f" ({said.model.name})" if len(report.models) > 1 else "")
        parts += [f"Note{whose}: {literal(note)}." for note in said.notes]
        parts.append(f"Signature{whose}: `{shown.text(said.signature, also='`')}`")
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    """A table; a column with the model where there are several."""
    named = len(table.models) > 1
    rows = [[*(["model"] if named else []), table.head, *table.columns]]
    rows += [[*([row.model] if named else []), row.label, *map(_cell, row.cells)] for row in table.rows]
    texts = [True] * (1 + named) + [table.is_text(column) for column in range(len(table.columns))]
    return grid(rows, texts)


def _cell(cell: Cell) -> str:
    change = cells.change(cell)
    return " ".join(filter(None, (cells.figure(cell), cells.interval(cell), f"({change})" if change else "")))


def grid(rows: Sequence[Sequence[str]], texts: int | Sequence[bool] | None = None) -> str:
    """A Markdown table whose columns line up as plain text too.

    Args:
        rows: the heads, then the rows.
        texts: which columns hold words, or how many do before those with numbers, which stand to the right; by default
            all.
    """
    rows = [[literal(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    if texts is None or isinstance(texts, int):
        texts = [texts is None or i < texts for i in range(len(widths))]

    def line(row: Sequence[str]) -> str:
        padded = (c.ljust(w) if left else c.rjust(w) for c, w, left in zip(row, widths, texts, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if left else ":") for w, left in zip(widths, texts, strict=True)) + "|"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def literal(text: str) -> str:
    """Text as Markdown shows it literally: no cells, code, links, images or HTML of its own."""
    return _MARKDOWN.sub(lambda match: match[1] * 2 + "\\" + match[2], shown.text(text))
