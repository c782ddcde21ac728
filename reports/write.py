"""Print, write and verify the report of one or several models."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd

from redundancy_eval import forms, model_args, shown
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.files import read_json
from redundancy_eval.options import Options
from redundancy_eval.reports import formats, frames
from redundancy_eval.table import ScoreTable

SCHEMA = 2
_PREVIEW = r"""% Every table on a page of its own: pdflatex preview.tex
\documentclass[multi=tabular,border=4pt]{standalone}
\usepackage[T1]{fontenc}
\usepackage{booktabs}
\begin{document}
%s\end{document}
"""


def markdown(tables: Sequence[ScoreTable]) -> str:
    """The whole report as Markdown."""
    return _markdown(tables, frames.report(tables))


def _markdown(tables: Sequence[ScoreTable], report: Sequence[frames.Table]) -> str:
    parts = [f"### {table.title}\n\n{formats.table_markdown(table)}" for table in report]
    for table, name in zip(tables, frames.model_names(tables), strict=True):
        whose = f" ({name})" if len(tables) > 1 else ""
        whose = formats.literal(whose)
        parts += [f"Note{whose}: {formats.literal(note)}." for note in table.notes]
        parts.append(f"Signature{whose}: `{shown.text(table.signature, also='`')}`")
    return "\n\n".join(parts) + "\n"


def files(tables: Sequence[ScoreTable], options: Options | None = None) -> dict[str, str]:
    """Every file of the report, name -> text; same input, same text.

    Args:
        tables: what is reported.
        options: how the runs were read, kept in report.json for `verify`.
    """
    report = frames.report(tables)
    made = {"report.md": _markdown(tables, report), "report.json": ""}
    for table in report:
        made[f"{table.stem}.csv"] = _flat(table).to_csv(lineterminator="\n", index=False)
        comment = [table.title, r"needs \usepackage{booktabs}", *(t.signature for t in tables)]
        if table.ranked:
            comment.append("bold: largest of a column (of the model); underlined: second; on the rounded values")
        made[f"{table.stem}.tex"] = formats.latex(table, comment)
    inputs = "".join(f"\\input{{{name}}}\n" for name in made if name.endswith(".tex"))
    made["preview.tex"] = _PREVIEW.replace("%s", inputs)
    # With the names of all, so that a later report knows what it may replace.
    told = {**_json(tables, options or Options()), "files": list(made)}
    made["report.json"] = shown.json_text(json.dumps(told, indent=1, ensure_ascii=False)) + "\n"
    return made


def write(
    tables: Sequence[ScoreTable], out: Path, options: Options | None = None, inputs: Sequence[str | Path] = ()
) -> list[Path]:
    """Write the report's files into a folder, each whole or not at all.

    Args:
        tables: what is reported.
        out: the folder; of what it holds, only files of an earlier report are replaced.
        options: how the runs were read.
        inputs: what was read.

    Raises:
        SetupError: a file in the folder was read here, or no report wrote it.
    """
    made = files(tables, options)
    check_out(out, made, inputs)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        temporary = out / f".{name}"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(out / name)
    return [out / name for name in made]


def check_out(out: Path, names: Iterable[str], inputs: Sequence[str | Path]) -> None:
    """Refuse to replace what no report wrote.

    Raises:
        SetupError: see `write`.
    """
    if out.exists() and not out.is_dir():
        raise SetupError(f"-o {out} is no folder")
    read = {Path(path).resolve() for path in inputs if Path(path).is_file()}
    there = [out / name for name in names if (out / name).exists() or (out / name).is_symlink()]
    for path in there:
        if path.resolve() in read:
            raise SetupError(f"-o {out} would write over {path}, which is read here; choose another folder")
    ours = _written_before(out)
    foreign = [path for path in there if path.name not in ours]
    if foreign:
        raise SetupError(f"-o {out} would write over {foreign[0]}, which no report wrote; choose another folder")


def _written_before(out: Path) -> set[str]:
    """Names of the files of the report that a folder holds, as its report.json lists them; none where there is none."""
    try:
        content = json.loads((out / "report.json").read_text(encoding="utf-8"))
        listed = content["files"] if isinstance(content["schema"], int) and content["options"] is not None else []
        return {name for name in listed if isinstance(name, str)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


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


def told(options: Options, tables: Sequence[ScoreTable]) -> list[str]:
    """Of the options that a report was made with, those on which its numbers rest beside the runs, in a line each."""
    lines = [f"--mask-of {shown.text(rule)}: these runs' mask is the report's word" for rule in options.mask_of]
    if options.encoders:
        lines.append(
            f"--encoders {shown.text(','.join(options.encoders))}: the report's word, where no run records them"
        )
    for kind in options.lenient:
        count = sum(note.startswith(f"warning ({kind})") for table in tables for note in table.notes)
        lines.append(f"--lenient {shown.text(kind)}: {count or 'no'} warning{'s' * (count != 1)}")
    if options.taxonomy != Options().taxonomy:
        lines.append(f"--taxonomy {shown.text(options.taxonomy)}: {tables[0].taxonomy.label}")
    lines += ["--mmvp-pairs"] * options.mmvp_pairs
    if options.scale is not None:
        lines.append(f"--scale {options.scale:g}: the report's word on scores in CSV files")
    return lines


def verify(tables: Sequence[ScoreTable], out: Path, options: Options) -> tuple[int, int]:
    """Compare a written report with one made anew.

    Returns:
        how many numbers in how many files were compared.

    Raises:
        DataError: a file is missing, or a line differs (but for our own version); with file and line of the first.
    """
    numbers, wrong = 0, []
    made = files(tables, options)
    for name, text in made.items():
        path = out / name
        if not path.is_file():
            wrong.append(f"{path} is missing")
            continue
        want, found = (_unversioned(t).splitlines() for t in (text, path.read_text(encoding="utf-8", errors="replace")))
        numbers += sum(len(re.findall(r"\d+(?:\.\d+)?", line)) for line in want)
        differing = ((i, pair) for i, pair in enumerate(zip_longest(found, want, fillvalue="")) if pair[0] != pair[1])
        first = next(differing, None)
        if first or len(found) != len(want):
            line, (printed, given) = first or (len(want), ("", ""))
            wrong.append(f"{path}:{line + 1}: printed is {printed.strip()!r}, the runs give {given.strip()!r}")
    if wrong:
        more = f" (and {len(wrong) - 1} other files differ)" if len(wrong) > 1 else ""
        raise DataError(wrong[0] + more)
    return numbers, len(made)


def _unversioned(text: str) -> str:
    return re.sub(r"(\|redundancy-eval:)[\w.+-]+", r"\1", text)


def _flat(table: frames.Table) -> pd.DataFrame:
    """A table for CSV: index as columns, changes beside their numbers, texts that no spreadsheet runs."""
    frame = table.frame.copy()
    if table.change is not None:
        for column in table.change.columns:
            frame[f"{column} change"] = table.change[column]
    flat = frame.reset_index()
    flat = flat.drop(columns="") if "" in flat.columns else flat
    for name in filter(None, table.frame.index.names):
        flat[name] = [formats.cell(str(text)) for text in flat[name]]
    return flat.rename(columns=lambda name: formats.cell(str(name)))


def _json(tables: Sequence[ScoreTable], options: Options) -> dict[str, Any]:
    def rows(frame: pd.DataFrame) -> dict[str, dict[str, float | None]]:
        return {
            str(index): {str(c): None if math.isnan(v) else float(v) for c, v in row.items()}
            for index, row in frame.iterrows()
        }

    gaps = rows(frames.information_gap(tables))
    return {
        "schema": SCHEMA,
        "units": {"scores": "points, 0..100", "cur": "fraction", "ig": "fraction"},
        "options": asdict(options),
        "models": [
            {
                "name": name,
                "model": model_args.redacted(table.model),
                "checkpoint": model_args.redacted(table.checkpoint),
                "framework": table.framework,
                "encoders": list(table.encoders),
                "taxonomy": table.taxonomy.label,
                "benchmarks": rows(frames.benchmarks(table)),
                "scores": rows(frames.scores(table)),
                "variants": rows(frames.variants(table)[0]),
                "cur": rows(frames.cur(table)),
                "ig": gaps[name],
                "documents": {b.name: n for b, n in zip(table.benchmarks, table.documents, strict=True)},
                "tasks": {b.name: task for b, task in zip(table.benchmarks, table.tasks, strict=True)},
                "notes": list(map(model_args.redacted, table.notes)),
                "signature": model_args.redacted(table.signature),
            }
            for table, name in zip(tables, frames.model_names(tables), strict=True)
        ],
    }
