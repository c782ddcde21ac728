"""Print and write the report of one or several models."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from redundancy_eval.reports import formats, frames
from redundancy_eval.scores import ScoreTable


class Section(NamedTuple):
    """One table of the report: file stem, title, numbers, and the same as text."""

    stem: str
    title: str
    frame: pd.DataFrame
    cells: list[list[str]]


def sections(tables: Sequence[ScoreTable]) -> list[Section]:
    """Every table of the report."""

    def points(stem: str, title: str, frame: pd.DataFrame) -> Section:
        return Section(stem, f"{title} (points)", frame, formats.cells(frame))

    def percent(stem: str, title: str, frame: pd.DataFrame) -> Section:
        return Section(stem, f"{title} (%)", frame, formats.cells(frame, 100.0, missing=formats.UNDEFINED))

    made = []
    for table, name in zip(tables, frames.model_names(tables), strict=True):
        stem = f"_{_slug(name)}" if len(tables) > 1 else ""
        made += [
            points(f"benchmarks{stem}", f"{name}: score on each benchmark", frames.benchmarks(table)),
            points(f"scores{stem}", f"{name}: score in each category", frames.scores(table)),
            percent(f"cur{stem}", f"{name}: Conditional Utilization Rate", frames.cur(table)),
        ]
    return [*made, percent("ig", "Information Gap", frames.information_gap(tables))]


def markdown(tables: Sequence[ScoreTable]) -> str:
    """The whole report as Markdown."""
    parts = [f"### {section.title}\n\n{formats.markdown(section.cells)}" for section in sections(tables)]
    for table in tables:
        parts += [f"Note: {note}." for note in table.notes]
        parts.append(f"Signature: `{table.signature}`")
    return "\n\n".join(parts) + "\n"


def write(tables: Sequence[ScoreTable], out: Path) -> list[Path]:
    """Write report.md, report.json and each table as CSV and LaTeX into a folder; same input, same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    signatures = [table.signature for table in tables]
    files = {
        "report.md": markdown(tables),
        "report.json": json.dumps(_json(tables), indent=1, ensure_ascii=False) + "\n",
    }
    for section in sections(tables):
        files[f"{section.stem}.csv"] = section.frame.to_csv(lineterminator="\n")
        comment = [section.title, "needs \\usepackage{booktabs}", *signatures]
        files[f"{section.stem}.tex"] = formats.latex(section.cells, comment)
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in files]


def _json(tables: Sequence[ScoreTable]) -> dict[str, Any]:
    def rows(frame: pd.DataFrame) -> dict[str, dict[str, float | None]]:
        return {
            str(index): {str(c): None if math.isnan(v) else float(v) for c, v in row.items()}
            for index, row in frame.iterrows()
        }

    gaps = rows(frames.information_gap(tables))
    return {
        "schema": 1,
        "units": {"scores": "points, 0..100", "cur": "fraction", "ig": "fraction"},
        "models": [
            {
                "model": table.model,
                "checkpoint": table.checkpoint,
                "encoders": list(table.encoders),
                "taxonomy": table.taxonomy.name,
                "benchmarks": rows(frames.benchmarks(table)),
                "scores": rows(frames.scores(table)),
                "cur": rows(frames.cur(table)),
                "ig": list(gaps.values())[number],
                "documents": {b.name: n for b, n in zip(table.benchmarks, table.documents, strict=True)},
                "notes": list(table.notes),
                "signature": table.signature,
            }
            for number, table in enumerate(tables)
        ],
    }


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name)
