"""A table of a report: rows of cells, and the same for machines."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redundancy_eval.reports.cells import Cell, is_word

if TYPE_CHECKING:
    import pandas as pd

Record = Mapping[str, object]


@dataclass(frozen=True)
class Row:
    """A row of one model ("" where models are rows themselves); a cell for each column."""

    model: str
    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """One table of the report.

    `head` stands above the labels; `spans` names the category above each column ("" for none). `ranked` tables mark
    the largest and the second largest number of each column and model, `better` says that larger is better, `caption`
    what the numbers are and `brackets` what their intervals. `records` are the lines of the CSV file (none: no such
    file); `markdown` and `latex` say where the table is printed.
    """

    stem: str
    title: str
    head: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    brackets: str = ""
    spans: tuple[str, ...] = ()
    ranked: bool = False
    better: bool = False
    records: tuple[Record, ...] = ()
    markdown: bool = True
    latex: bool = True

    @property
    def models(self) -> list[str]:
        """The models whose rows it holds, in order."""
        return list(dict.fromkeys(row.model for row in self.rows))

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing: neither a number nor a word."""
        every = (cell for row in self.rows for cell in row.cells)
        return not any(math.isfinite(cell.value) or is_word(cell) for cell in every)

    def is_text(self, column: int) -> bool:
        """Whether a column holds words."""
        return any(is_word(row.cells[column]) for row in self.rows)

    def frame(self) -> "pd.DataFrame":
        """The lines of its CSV file as a data frame, numbers as they are."""
        import pandas as pd  # half a second that a report on paper does not need

        return pd.DataFrame.from_records(list(map(dict, self.records)))
