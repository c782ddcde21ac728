"""The report as one JSON file: every number unrounded, and how the runs were read."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from redundancy_eval import forms, model_args, shown
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.files import read_json
from redundancy_eval.options import Options
from redundancy_eval.reports import tables
from redundancy_eval.reports.report import Report

NAME = "report.json"
SCHEMA = 2


def text(report: Report, files: Sequence[str]) -> str:
    """The file's text; it names all files of the report, so that a later one knows what it may replace."""
    told = {**_content(report), "files": list(files)}
    return shown.json_text(json.dumps(told, indent=1, ensure_ascii=False)) + "\n"


def _content(report: Report) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "units": {"scores": "points, 0..100", "cur": "fraction", "ig": "fraction"},
        "options": asdict(report.options),
        "models": [_model(report, place) for place in range(len(report.models))],
    }


def _model(report: Report, place: int) -> dict[str, Any]:
    table, name = report.models[place].table, report.models[place].name
    gaps = tables.information_gap([each.table for each in report.models])
    return {
        "name": name,
        "model": model_args.redacted(table.model),
        "checkpoint": model_args.redacted(table.checkpoint),
        "framework": table.framework,
        "encoders": list(table.encoders),
        "taxonomy": table.taxonomy.label,
        "benchmarks": _rows(tables.benchmarks(table)),
        "scores": _rows(tables.scores(table)),
        "variants": _rows(tables.variants(table)[0]),
        "cur": _rows(tables.cur(table)),
        "ig": _rows(gaps)[name],
        "documents": {b.name: n for b, n in zip(table.benchmarks, table.documents, strict=True)},
        "tasks": {b.name: task for b, task in zip(table.benchmarks, table.tasks, strict=True)},
        "notes": list(map(model_args.redacted, table.notes)),
        "signature": model_args.redacted(table.signature),
    }


def _rows(frame: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    return {
        str(index): {str(c): None if math.isnan(v) else float(v) for c, v in row.items()}
        for index, row in frame.iterrows()
    }


def options_of(out: Path) -> Options:
    """How the runs behind a written report were read.

    Raises:
        SetupError: the folder holds no report of this version.
    """
    path = out / "report.json"
    if not path.is_file():
        raise SetupError(f"{out} holds no report.json; verify wants a folder that report wrote")
    content = read_json(path)
    if content.get("schema") != SCHEMA:
        raise SetupError(f"{path}: schema {content.get('schema')!r}; this version reads {SCHEMA}")
    kept = forms.check(content, forms.Report, path)["options"]
    if kept["scale"] not in (None, 1, 100):
        raise DataError(f"{path}: options.scale: expected 1 or 100, got {kept['scale']:g}")
    unknown = sorted(set(kept) - {field.name for field in fields(Options)})
    if unknown:
        raise DataError(f"{path}: options.{unknown[0]}: not known to this version")
    encoders, mask_of, lenient = (tuple(kept[key]) for key in ("encoders", "mask_of", "lenient"))
    return Options(kept["taxonomy"], kept["mmvp_pairs"], encoders, mask_of, lenient, kept["scale"])
