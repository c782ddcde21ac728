"""Read scores from a plain CSV file: `model,mask,benchmark,score` and, if known, `n`."""

import csv
from functools import partial
from pathlib import Path

from redundancy_eval.errors import DataError
from redundancy_eval.runs import Leniency, Run, TaskResult
from redundancy_eval.taxonomy import Part, Taxonomy

FRAMEWORK = "csv"
COLUMNS = ("model", "mask", "benchmark", "score")


def read(path: Path, taxonomy: Taxonomy, lenient: Leniency) -> list[Run]:
    """One run for each (model, mask) of the file; scores are points (0..100).

    Raises:
        DataError: a column is missing, or a line is wrong, with the line.
    """
    names = {benchmark.name.lower(): benchmark.name for benchmark in taxonomy.benchmarks}
    found: dict[tuple[str, str], dict[str, TaskResult]] = {}
    try:
        text_lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason})") from None
    if text_lines:
        reader = csv.DictReader(text_lines)
        absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if absent:
            raise DataError(
                f"{path}:1: no column {absent[0]!r}; a table of scores has {', '.join(COLUMNS)} and n if known"
            )
        for row in reader:
            where = f"{path}:{reader.line_num}"
            model, mask, benchmark, text = ((row[name] or "").strip() for name in COLUMNS)
            try:
                score, n = float(text), (row.get("n") or "").strip()
                documents = int(n) if n else None
            except ValueError:
                raise DataError(f"{where}: score {text!r} or n {row.get('n')!r} is not a number") from None
            if not model or not mask or not benchmark or None in row:
                raise DataError(f"{where}: model, mask and benchmark must be given, and nothing behind the columns")
            benchmark = names.get(benchmark.lower(), benchmark)
            tasks = found.setdefault((model, mask), {})
            if benchmark in tasks:
                lenient.refuse("duplicate-runs", f"{where}: a second score of {model}, mask {mask} on {benchmark}")
            tasks[benchmark] = TaskResult(benchmark, documents, {}, partial(_headline, score), lambda part: None)
    if not found:
        raise DataError(f"{path}:1: no scores")
    return [Run(path, FRAMEWORK, model, {"drop": mask}, {}, tasks) for (model, mask), tasks in found.items()]


def _headline(score: float, part: Part) -> float:
    return score
