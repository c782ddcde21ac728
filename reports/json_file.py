"""The report as one JSON file: every number, and how the report was made."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from redundancy_eval import forms, model_args, shown
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.files import read_json
from redundancy_eval.options import Options
from redundancy_eval.reports import cells, of_measures
from redundancy_eval.reports.report import Report, Said
from redundancy_eval.uncertainty import OVERALL, plain

NAME = "report.json"
SCHEMA = 4


def text(report: Report, files: Sequence[str]) -> str:
    """The file's text; it names all files of the report, so that a later one knows what it may replace."""
    told = {**_content(report), "files": list(files)}
    return shown.json_text(json.dumps(told, indent=1, ensure_ascii=False)) + "\n"


def _content(report: Report) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "units": {
            "benchmarks, scores, variants": "points, 0..100", "cur, ig": "fraction",
            "needs": "CUR under zeros less that with linear stand-ins (the model `stand_ins`), fractions",
            "analysis": "scores, floors, headrooms, Shapley and Banzhaf values, interactions, best masks, routers in "
            "points; CUR, IG, shares, level and margin as fractions; encoders and masks by name, masks as what is "
            "dropped; null: not known, with a reason",
        },
        "options": asdict(report.options),
        "models": [_model(said, report) for said in report.models],
    }  # fmt: skip


def _model(said: Said, report: Report) -> dict[str, Any]:
    model, table = said.model, said.model.table
    best = next((each for each in report.tables if each.stem == "variants"), None)
    rows = best.rows if best else ()
    return {
        "name": model.name,
        "model": model_args.redacted(table.model),
        "checkpoint": model_args.redacted(table.checkpoint),
        "framework": table.framework,
        "encoders": list(table.encoders),
        "taxonomy": table.taxonomy.label,
        "until": None if table.until is None else table.until.as_json(),
        "need": model_args.redacted(said.need),
        "sentence": model_args.redacted(said.sentence),
        "benchmarks": {
            model.mask_name(mask): {
                b.name: _plain(model.score(mask, b.name, "benchmark").value) for b in table.benchmarks
            }
            for mask in table.masks
        },
        "scores": {
            model.mask_name(mask): {
                place: _plain(model.score(mask, place, "overall" if place == OVERALL else "category").value)
                for place in model.places
            }
            for mask in table.masks
        },
        "variants": {
            row.label: {place: _plain(cell.value) for place, cell in zip(model.places, row.cells, strict=True)}
            for row in rows
            if row.model == model.name
        },
        "cur": {
            name: {place: _plain(model.cell(name, place).cur.value) for place in model.places}
            for name in table.encoders
        },
        "ig": {place: _plain(model.gap(place).ig.value) for place in model.places},
        "analysis": _rounded(plain(model.analysis)),
        "stand_ins": None if model.stand_ins is None else model.stand_ins.name,
        "needs": _rounded(plain(model.needs)),
        "explain": _rounded(of_measures.as_json(model)),
        "documents": {b.name: n for b, n in zip(table.benchmarks, table.documents, strict=True)},
        "tasks": {b.name: task for b, task in zip(table.benchmarks, table.tasks, strict=True)},
        "notes": list(map(model_args.redacted, said.notes)),
        "signature": model_args.redacted(said.signature),
    }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _rounded(value: Any) -> Any:
    """Computed numbers to as many digits as another machine finds too."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return cells.rounded(value) if isinstance(value, float) else value


def options_of(out: Path) -> Options:
    """How a written report was made.

    Raises:
        SetupError: the folder holds no report of this version.
        DataError: its options are damaged.
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
    try:
        return Options(
            kept["taxonomy"], kept["mmvp_pairs"], encoders, mask_of, lenient, kept["scale"], kept["level"],
            kept["margin"], kept["seed"], kept["intervals"], kept["rerun"], tuple(kept["figures"]), kept["images"],
            kept["cost"], kept["compare"], tuple(kept["references"]), kept["explain"],
        )  # fmt: skip
    except SetupError as error:
        raise DataError(f"{path}: options.level, margin, seed, intervals or figures: {error}") from None
