"""Tables as CSV, for spreadsheets and scripts."""

import re

import pandas as pd

from redundancy_eval import shown
from redundancy_eval.reports.report import Report
from redundancy_eval.reports.tables import Table

# Some spreadsheets take full-width signs too, and in some countries `;` parts cells.
_FORMULA = re.compile(r"(^|;)(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")


def files(report: Report) -> dict[str, str]:
    """Name -> text of a file for each table."""
    return {f"{table.stem}.csv": _flat(table).to_csv(lineterminator="\n", index=False) for table in report.tables}


def _flat(table: Table) -> pd.DataFrame:
    """A table for CSV: index as columns, changes beside their numbers, texts that no spreadsheet runs."""
    frame = table.frame.copy()
    if table.change is not None:
        for column in table.change.columns:
            frame[f"{column} change"] = table.change[column]
    flat = frame.reset_index()
    flat = flat.drop(columns="") if "" in flat.columns else flat
    for name in filter(None, table.frame.index.names):
        flat[name] = [cell(str(text)) for text in flat[name]]
    return flat.rename(columns=lambda name: cell(str(name)))


def cell(text: str) -> str:
    """Text as a cell of a CSV file that no spreadsheet takes for a formula."""
    return _FORMULA.sub(r"\1'", shown.text(text))
