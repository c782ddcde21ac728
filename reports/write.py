"""Writes a report into a folder, over nothing but an earlier report."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from redundancy_eval.errors import SetupError
from redundancy_eval.reports import csv, json_file, latex, markdown, page, paper
from redundancy_eval.reports.additions import Additions, subjects
from redundancy_eval.reports.report import Report

PAGE = "report.html"


def files(report: Report, additions: Additions | None = None) -> dict[str, bytes]:
    """Every file of a report, name -> content; same report, same content.

    Args:
        report: what is written.
        additions: what is shown besides.

    Raises:
        SetupError: an addition does not fit the models.
    """
    additions = additions or Additions()
    texts = {"report.md": markdown.text(report), json_file.NAME: "", **csv.files(report), **latex.files(report)}
    found = subjects(report, additions)
    answers = {said.model.name: each for said, each in zip(report.models, additions.answers, strict=False)}
    samples = {
        subject.name: page.sample(subject, answers[subject.name], seed=report.options.seed)
        for subject in found
        if subject.name in answers
    }
    rows = [{"model": each.name, **row} for each in found if each.paper for row in paper.rows(each.paper)]
    if rows:
        texts["paper.csv"] = csv.text(rows)
    texts[PAGE] = page.build(found, samples)
    drawn: dict[str, bytes] = {}
    if report.options.figures:
        from redundancy_eval.reports import figures  # matplotlib takes a second

        made = figures.files(found, report.options.figures)
        drawn = {f"figures/{name}": content for name, content in made.items()}
    shown = {}
    if "pdf" in report.options.figures:
        shown = {name: figures.caption(Path(name).stem, found) for name in drawn if name.endswith(".pdf")}
    texts["main.tex"] = latex.main(report, shown)
    texts[json_file.NAME] = json_file.text(report, [*texts, *drawn])
    return {**{name: text.encode("utf-8", "replace") for name, text in texts.items()}, **drawn}


def write(
    report: Report, out: Path, inputs: Sequence[str | Path] = (), additions: Additions | None = None
) -> list[Path]:
    """Write the report's files into a folder, each whole or not at all.

    Args:
        report: what is written.
        out: the folder; of what it holds, only files of an earlier report are replaced.
        inputs: what was read.
        additions: what is shown besides.

    Raises:
        SetupError: a file in the folder was read here, or no report wrote it; an addition does not fit.
    """
    made = files(report, additions)
    check_out(out, made, inputs)
    out.mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        path = out / name
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        temporary.write_bytes(content)
        temporary.replace(path)
    return [out / name for name in made]


def check_out(out: Path, names: Iterable[str], inputs: Sequence[str | Path]) -> None:
    """Refuse to replace what no report wrote.

    Raises:
        SetupError: see `write`.
    """
    if out.exists() and not out.is_dir():
        raise SetupError(f"-o {out} is no folder")
    read = {Path(path).resolve() for path in inputs if Path(path).is_file()}
    there = {name: path for name in names if (path := out / name).exists() or path.is_symlink()}
    for path in there.values():
        if path.resolve() in read:
            raise SetupError(f"-o {out} would write over {path}, which is read here; choose another folder")
    ours = _written_before(out)
    foreign = [path for name, path in there.items() if name not in ours]
    if foreign:
        raise SetupError(f"-o {out} would write over {foreign[0]}, which no report wrote; choose another folder")


def _written_before(out: Path) -> set[str]:
    """Names of the files of the report that a folder holds, as its report.json lists them; none where there is none."""
    try:
        content = json.loads((out / json_file.NAME).read_text(encoding="utf-8"))
        listed = content["files"] if isinstance(content["schema"], int) and content["options"] is not None else []
        return {name for name in listed if isinstance(name, str)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()
