"""What was measured without labels, on the page: the report's own tables of one model."""

from redundancy_eval.reports import cells, digits, of_measures
from redundancy_eval.reports.cells import Cell
from redundancy_eval.reports.page import texts
from redundancy_eval.reports.page.parts import View
from redundancy_eval.reports.subject import Subject
from redundancy_eval.reports.tables import Table


def tables(subject: Subject) -> list[View]:
    """Measures beside CUR, and how well they order encoders; empty where nothing was measured."""
    if subject.model.beside is None:
        return []
    made = (of_measures.explain([subject.model]), of_measures.agreement([subject.model]))
    return [_table(each) for each in made if each.rows]


def note(subject: Subject) -> str:
    """How it was measured."""
    told = {} if subject.model.beside is None else subject.model.beside.made_with
    return texts.clip("; ".join(f"{name}: {value}" for name, value in told.items() if value not in ([], "")), 600)


def _table(table: Table) -> View:
    return {
        "stem": table.stem,
        "title": texts.name(table.title),
        "head": table.head,
        "columns": [texts.name(column) for column in table.columns],
        "rows": [{"label": texts.name(row.label), "cells": list(map(_cell, row.cells))} for row in table.rows],
    }


def _cell(cell: Cell) -> View:
    """As `parts.cell` gives a number."""
    ends = cells.interval(cell).strip("[]").replace("-", digits.MINUS).replace(", ", " to ")
    return {
        "text": cells.figure(cell).replace("-", digits.MINUS),
        "between": ends,
        "v": f"{cell.value:.6g}" if cell.value == cell.value else "",
        "level": 0,
        "unclear": False,
        "why": "",
    }
