"""Scores of one model under its masks: from runs to a table, checked, with holes where a run is missing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import compare, grouping, metrics, pairing, replies, sample, signature, stand_ins
from redundancy_eval.errors import DataError
from redundancy_eval.grouping import KnownEncoders, Model
from redundancy_eval.leniency import Leniency
from redundancy_eval.runs import Run
from redundancy_eval.table import Mask, ScoreTable
from redundancy_eval.taxonomy import CSV, Benchmark, Part, Taxonomy
from redundancy_eval.until import Until


def tables(
    runs: Sequence[Run],
    taxonomy: Taxonomy,
    encoders: Sequence[str] = (),
    known_encoders: KnownEncoders = lambda model, checkpoint: (),
    lenient: Leniency | None = None,
) -> list[ScoreTable]:
    """One table for each model (and framework) among the runs.

    Args:
        runs: what was read.
        taxonomy: benchmarks and categories.
        encoders: the model's encoders in its order, when the user says so.
        known_encoders: (model id, checkpoint) -> encoders, () when it does not know.
        lenient: which kinds of bad data are warnings.

    Raises:
        SetupError: the encoders that the user gave contradict what is known.
        DataError: runs that can't stand in one table (two of one mask, other documents or settings, ...).
    """
    lenient = lenient or Leniency()
    groups = grouping.group(runs, lenient)
    shared = lenient.take()
    made = [
        _table(grouping.model(group, encoders, known_encoders, lenient), taxonomy, lenient, shared) for group in groups
    ]
    found = [each.table for each in made]
    for zeros, predicted in stand_ins.partners(found).items():
        stand_ins.check_full_models(made[zeros], made[predicted], lenient)
        notes = (*found[predicted].notes, *lenient.take())
        found[predicted] = replace(found[predicted], notes=tuple(dict.fromkeys(notes)))
    return found


def _table(model: Model, taxonomy: Taxonomy, lenient: Leniency, shared: Sequence[str]) -> stand_ins.Made:
    """The table, with the reason of every hole among its notes."""
    compare.check_runs(model.runs, lenient)
    compare.check_reruns(model.runs, list(model.rerun_of.values()), lenient)
    chosen, said = _sources(model, taxonomy)
    columns = [pairing.column(model, benchmark, parts, lenient) for benchmark, parts in chosen]
    points = np.stack([column.points for column in columns], axis=1)
    holes = [hole for column in columns for hole in column.holes]
    if holes and np.isnan(points).all():
        raise DataError(holes[0])
    answers = {task: of_mask for column in columns for task, of_mask in column.answers.items()}
    replied = replies.check(model, answers, points, lenient)
    compare.check_files(model.runs, lenient)
    benchmarks = tuple(benchmark for benchmark, _ in chosen)
    tasks = tuple("+".join(part.task for part in parts) for _, parts in chosen)
    documents = tuple(column.documents for column in columns)
    rerun = {b.name: c.rerun for b, c in zip(benchmarks, columns, strict=True) if c.rerun is not None}
    notes = (
        *shared, *model.notes, *said, *(note for column in columns for note in column.notes), *replied,
        *_undefined(model, taxonomy, benchmarks, points), *_unclustered(chosen, columns), *_calibrated(model),
        *_sampled(model, chosen),
        *lenient.take(),
    )  # fmt: skip
    table = ScoreTable(
        model=signature.first_of(model.runs).model,
        checkpoint=signature.checkpoint(model.runs),
        framework=model.framework,
        encoders=model.encoders,
        masks=model.masks,
        taxonomy=taxonomy,
        benchmarks=benchmarks,
        tasks=tasks,
        points=points,
        documents=documents,
        samples={b.name: c.samples for b, c in zip(benchmarks, columns, strict=True) if c.samples is not None},
        notes=tuple(dict.fromkeys(notes)),
        signature=signature.line(model, taxonomy, tasks, documents),
        guessed=model.guessed,
        ablation=signature.ablation(model.runs),
        rerun=rerun if model.rerun_of else None,
        arguments=signature.arguments(model.runs),
        until=max((run.until for run in model.runs if run.until), key=Until.level, default=None),
        routed=next((run.routed for run in model.runs if run.is_full and run.routed), {}),
        files={
            benchmark.name: tuple(
                (task, {mask: samples.path for mask, samples in of_mask.items()})
                for task, of_mask in column.answers.items()
            )
            for benchmark, column in zip(benchmarks, columns, strict=True)
        },
    )
    return stand_ins.Made(table, model, answers)


def _calibrated(model: Model) -> list[str]:
    """A note on prompts with images that the stand-ins were made of."""
    of_mask: dict[Mask, dict[int, int]] = {}
    for (mask, _), run in model.run_of.items():
        of_mask.setdefault(mask, {})[id(run)] = run.calibrated
    count = max((sum(counts.values()) for counts in of_mask.values()), default=0)
    about = "images that the calibration of the stand-ins was made of (no question or label was looked at)"
    several = any(str(run.resolved.get("processes", 1)) != "1" for run in model.runs)  # of which one counts its own
    return [f"{'at least ' * several}{count} prompt{'s' * (count != 1)} show {about}"] if count else []


def _sources(model: Model, taxonomy: Taxonomy) -> tuple[list[tuple[Benchmark, tuple[Part, ...]]], list[str]]:
    """The benchmarks that were run, each with the tasks that report it; and what is left out.

    Raises:
        DataError: none was.
    """
    ran = {task: task for run in model.runs for task in run.tasks}
    used: set[str] = set()
    chosen, notes = [], []
    for benchmark in taxonomy.benchmarks:
        alternatives = benchmark.sources.get(model.framework, ())
        if model.framework == CSV:
            alternatives = ((Part(benchmark.name, "score", scale=1),),)
        found = [parts for parts in alternatives if all(part.task in ran for part in parts)]
        used |= {part.task for parts in alternatives for part in parts if part.task in ran}
        if not found:
            for parts in alternatives:
                absent = [part.task for part in parts if part.task not in ran]
                if len(absent) < len(parts):
                    notes.append(f"{benchmark.name} has no score: {', '.join(absent)} was not run")
            continue
        chosen.append((benchmark, found[0]))
        if found[1:]:
            others = ", ".join("+".join(part.task for part in parts) for parts in found[1:])
            mine = "+".join(part.task for part in found[0])
            notes.append(f"{benchmark.name} is {mine}; also run, left out: {others}")
    failed = {task: why for run in model.runs for task, why in run.failures.items() if task not in ran}
    failures = [f"no results on {task}; {why}" for task, why in sorted(failed.items())]
    outside = [task for task in ran if task not in used]
    if not chosen:
        other = f"none of the tasks is in the taxonomy {taxonomy.name}: {', '.join(outside)}"
        raise DataError(f"{model.runs[0].path}: {'; '.join(failures) or other}")
    notes += failures
    if outside:
        notes.append(f"not in the taxonomy {taxonomy.name}, left out: {', '.join(outside)}")
    return chosen, notes


def _unclustered(chosen: Sequence[tuple[Benchmark, Sequence[Part]]], columns: Sequence[pairing.Column]) -> list[str]:
    """Which benchmarks ask several questions about an image and come from a task whose samples do not name it."""
    notes = []
    for (benchmark, parts), column in zip(chosen, columns, strict=True):
        every = (part for found in benchmark.sources.values() for parts in found for part in parts)
        plain = [part.task for part in parts if not part.cluster]
        if column.samples is not None and plain and any(part.cluster for part in every):
            notes.append(
                f"samples of {', '.join(plain)} do not name their images: questions of {benchmark.name} about one "
                "image count as independent, so intervals may be too narrow"
            )
    return notes


def _sampled(model: Model, chosen: Sequence[tuple[Benchmark, Sequence[Part]]]) -> list[str]:
    """Which benchmarks are random samples."""
    names: dict[str, list[str]] = {}
    for benchmark, parts in chosen:
        for part in parts:
            told = next((run.tasks[part.task].sample for run in model.runs if part.task in run.tasks), {})
            if told and told["drawn"] < told["of"]:
                name = benchmark.name if len(parts) == 1 else f"{benchmark.name} ({part.task})"
                names.setdefault(sample.words(told), []).append(name)
    return [f"a random sample of {words}{', each' * (len(of) > 1)}: {', '.join(of)}" for words, of in names.items()]


def _undefined(
    model: Model, taxonomy: Taxonomy, benchmarks: Sequence[Benchmark], points: NDArray[np.float64]
) -> list[str]:
    """Notes on what is undefined."""
    notes = []
    groups = taxonomy.groups(benchmarks)
    empty = [c for c, group in zip(taxonomy.categories, groups, strict=True) if not group]
    if empty:
        notes.append(f"no benchmark of these categories was run, so they and overall are undefined: {', '.join(empty)}")
    kinds = {_is_demo(b) for b in benchmarks}
    partly = [
        b.name for b in taxonomy.benchmarks if b not in benchmarks and b.category not in empty and _is_demo(b) in kinds
    ]
    if partly:
        notes.append(f"not run, so their categories are the mean of the others: {', '.join(partly)}")
    if () not in model.masks:
        notes.append("the full model (drop=none) was not run, so CUR and IG are undefined")
    else:
        full = points[model.masks.index(())]
        zero = [b.name for b, value in zip(benchmarks, full, strict=True) if value < metrics.NOTHING]
        if zero:
            notes.append(f"the full model scores 0 on: {', '.join(zero)}")
    if len(model.encoders) == 1 and not model.guessed:
        notes.append("with one encoder there is no gap between encoders, so IG is undefined")
    absent = [name for name in model.encoders if (name,) not in model.masks]
    if absent:
        notes.append(f"no run with only this encoder dropped, so its CUR and IG are undefined: {', '.join(absent)}")
    if model.framework == CSV:
        notes.append("scores from a CSV file: nothing could be recomputed or paired")
    return notes


def _is_demo(benchmark: Benchmark) -> bool:
    return benchmark.name.startswith("demo ")
