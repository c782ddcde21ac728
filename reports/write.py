"""Print and write the report of one or several models."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from redundancy_eval.reports import formats, frames
from redundancy_eval.scores import ScoreTable

_PERCENT = 100.0


def sections(tables: Sequence[ScoreTable]) -> list[tuple[str, str, pd.DataFrame, float]]:
    """(file stem, title, frame, factor for print) of every table of the report."""
    made = []
    for table, name in zip(tables, frames.model_names(tables), strict=True):
        stem = f"_{_slug(name)}" if len(tables) > 1 else ""
        made += [
            (f"benchmarks{stem}", f"{name}: score on each benchmark (points)", frames.benchmarks(table), 1.0),
            (f"scores{stem}", f"{name}: score in each category (points)", frames.scores(table), 1.0),
            (f"cur{stem}", f"{name}: Conditional Utilization Rate (%)", frames.cur(table), _PERCENT),
        ]
    return [*made, ("ig", "Information Gap (%)", frames.information_gap(tables), _PERCENT)]


def markdown(tables: Sequence[ScoreTable]) -> str:
    """The whole report as Markdown."""
    parts = [
        f"### {title}\n\n{formats.markdown(formats.cells(frame, scale))}" for _, title, frame, scale in sections(tables)
    ]
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
    for stem, title, frame, scale in sections(tables):
        files[f"{stem}.csv"] = frame.to_csv(lineterminator="\n")
        comment = [title, "needs \\usepackage{booktabs}", *signatures]
        files[f"{stem}.tex"] = formats.latex(formats.cells(frame, scale), comment)
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
