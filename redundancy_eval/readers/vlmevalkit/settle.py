"""Runs of VLMEvalKit whose masks are known: each data set once under a mask, the same questions under all of them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from redundancy_eval import files
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.leniency import Leniency
from redundancy_eval.readers.vlmevalkit import files as kit
from redundancy_eval.runs import Run, TaskResult, identity
from redundancy_eval.taxonomy import VLMEVALKIT, Taxonomy


def settle(runs: Sequence[Run], taxonomy: Taxonomy, lenient: Leniency) -> list[Run]:
    """Runs whose masks are known, each data set once: copies are one run, and of two runs the newer one counts.

    Raises:
        DataError: two runs of one mask, or no data set is in the taxonomy.
        SetupError: the mask of a run is not known.
    """
    known = kit.known(taxonomy)
    mine = [run for run in runs if run.framework == VLMEVALKIT]
    outside = sorted({task for run in mine for task in run.tasks if task not in known})
    if outside and not any(known & {*run.tasks, *run.failures} for run in mine):
        raise DataError(
            f"{mine[0].path}: none of the data sets is in the taxonomy {taxonomy.name}: {', '.join(outside)} "
            "(--taxonomy FILE adds data sets)"
        )
    kept = [run for run in runs if not _is_aside(run, known, lenient)]
    rivals: dict[tuple[Any, ...], list[Run]] = {}
    for run in kept:
        for task in run.tasks if run.framework == VLMEVALKIT and any(run.mask) else ():
            rivals.setdefault((identity(run), _mask(run), task), []).append(run)
    several = {key: found for key, found in rivals.items() if len(found) > 1}
    lost = {(id(run), key[-1]) for key, found in several.items() for run in _losers(found, key[-1], lenient)}
    settled = []
    for run in kept:
        tasks = {name: task for name, task in run.tasks.items() if (id(run), name) not in lost}
        if tasks or not run.tasks or run.failures:
            settled.append(replace(run, tasks=tasks) if len(tasks) < len(run.tasks) else run)
    _check_counts([run for run in settled if run.framework == VLMEVALKIT and any(run.mask)], lenient)
    _check_told(settled)
    return settled


def _check_told(runs: Sequence[Run]) -> None:
    for run in runs:
        if run.framework == VLMEVALKIT and not any(run.mask):
            alike = sum(run.model == other.model for other in runs)
            name = run.model if alike == 1 else kit.model_folder(run.path).name
            raise SetupError(
                f"{run.path}: VLMEvalKit does not record which encoders {name} dropped; say so with "
                f"--mask-of '{name}=none' (or =clip, =clip+sam, ...)"
            )


def _check_counts(runs: Sequence[Run], lenient: Leniency) -> None:
    """Name a question that one mask was asked and another was not, where their predictions are counted."""
    counted: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        for task, result in run.tasks.items():
            first = counted.setdefault((identity(run), task), run)
            if (
                None in (first.tasks[task].documents, result.documents)
                or first.tasks[task].documents == result.documents
            ):
                continue
            asked, there = _asked(run.tasks[task]), _asked(first.tasks[task])
            only = min(asked ^ there, key=lambda index: (len(index), index), default="")
            owner = run if only in asked else first
            lenient.refuse(
                "documents",
                f"{first.path} and {run.path}, task {task}: {len(there)} and {len(asked)} predictions; document {only} "
                f"is in {owner.path} only",
            )


def _asked(task: TaskResult) -> set[str]:
    """Indices of the questions that were asked, all rotations of them."""
    tables = [path for path in task.files if path.suffix in kit.TABLES]
    predictions = min(tables, key=lambda path: len(path.name))
    return {row.get("index", "") for row in kit.table(predictions, ("index",))}


def _is_aside(run: Run, known: set[str], lenient: Leniency) -> bool:
    """Whether a run without a mask holds other data sets only, so that no one needs its mask."""
    aside = run.framework == VLMEVALKIT and not any(run.mask) and bool(run.tasks) and not known & {*run.tasks}
    if aside:
        lenient.warnings.append(f"{run.path}: only data sets that are not in the taxonomy ({', '.join(run.tasks)})")
    return aside


def _mask(run: Run) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(sorted(text.lower().replace(" ", "").split("+"))) for text in run.mask)


def _losers(runs: Sequence[Run], task: str, lenient: Leniency) -> list[Run]:
    """Of runs of one mask on one task, those that do not count."""
    distinct: list[Run] = []
    contents: list[frozenset[str]] = []
    for run in sorted(runs, key=lambda run: kit.model_folder(run.path) == run.path):  # upstream's folders of runs first
        content = frozenset(files.sha256(path) for path in run.tasks[task].files)
        if not any(content <= other for other in contents):  # else it is a copy, if not of all files
            distinct.append(run)
            contents.append(content)
    if len(distinct) > 1:
        # What lies in the model's folder has no time of its own: it was copied from the folder of a run.
        folders = {run.path.parent for run in distinct}
        dated = [run for run in distinct if run.path not in folders]
        *_, last = dated = sorted(dated, key=lambda run: _time(run, task))
        if len(dated) > 1 and _time(dated[-2], task) == _time(last, task):
            raise DataError(
                f"two runs of drop={last.mask[0]} on task {task}: {dated[-2].path} and {last.path}; which is the newer "
                "one cannot be told: keep one of them"
            )
        older = " and ".join(str(run.path) for run in distinct if run is not last)
        lenient.refuse(
            "duplicate-runs", f"two runs of drop={last.mask[0]} on task {task}: {older} and {last.path}, the newer one"
        )
        distinct = [last]
    return [run for run in runs if not any(run is one for one in distinct)]


def _time(run: Run, task: str) -> tuple[float, float]:
    """When a run was made: by its folder's name or status.json, else by its files; then by its files."""
    changed = max((path.stat().st_mtime for path in run.tasks[task].files), default=0.0)
    name = kit.RUN_FOLDER.fullmatch(run.path.name)
    if name:
        told = f"{name[1]}{name[2] or '000000'}"
        try:
            return datetime.strptime(told, "%Y%m%d%H%M%S").timestamp(), changed
        except ValueError:
            return changed, changed
    status = run.path / "status.json"
    if status.is_file() and not status.is_symlink():
        try:
            return datetime.fromisoformat(str(files.read_json(status).get("created_at"))).timestamp(), changed
        except (ValueError, OverflowError, OSError):
            pass
    return changed, changed
