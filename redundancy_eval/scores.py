"""Scores of one model under its masks: from runs to a table, checked, with holes where a run is missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import masks, metrics, readers
from redundancy_eval.errors import DataError
from redundancy_eval.taxonomy import Benchmark, Taxonomy

_ROUNDING = 1e-6  # points; framework headline against the mean of its samples


@dataclass(frozen=True)
class SampleScores:
    """Paired per-document scores (0..1) of one benchmark: document ids, and (masks, documents) with NaN holes."""

    documents: tuple[int, ...]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class ScoreTable:
    """Scores of one model in points (0..100).

    `points` is (masks, benchmarks) with NaN where no run covers a mask on a benchmark; `documents` counts the
    benchmarks' documents. `samples` holds paired per-document scores of the benchmarks that were logged.
    """

    model: str
    checkpoint: str
    encoders: tuple[str, ...]
    masks: tuple[tuple[str, ...], ...]
    taxonomy: Taxonomy
    benchmarks: tuple[Benchmark, ...]
    points: NDArray[np.float64]
    documents: tuple[int, ...]
    samples: Mapping[str, SampleScores]
    notes: tuple[str, ...]
    signature: str

    def row(self, mask: Sequence[str]) -> NDArray[np.float64]:
        """Points of one mask, NaN where it was not run."""
        wanted = tuple(name for name in self.encoders if name in mask)
        if wanted in self.masks:
            return self.points[self.masks.index(wanted)]
        return np.full(len(self.benchmarks), np.nan)

    def categories(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Category scores (..., categories) of points (..., benchmarks)."""
        return metrics.category_scores(points, self.taxonomy.groups(self.benchmarks))

    def cur(self) -> NDArray[np.float64]:
        """CUR (encoders, categories), fractions: the relative drop of each category's mean."""
        full = self.categories(self.row(()))
        return np.stack([metrics.cur(full, self.categories(self.row((name,)))) for name in self.encoders])


def tables(
    runs: Sequence[readers.Run],
    taxonomy: Taxonomy,
    encoders: Sequence[str] | None = None,
    known_encoders: Callable[[str, str], Sequence[str]] = lambda model, checkpoint: (),
) -> list[ScoreTable]:
    """One table for each model among the runs.

    Args:
        runs: what was read.
        taxonomy: benchmarks and categories.
        encoders: the model's encoders in its order, when the user says so.
        known_encoders: (model id, checkpoint) -> encoders, () when it does not know.

    Raises:
        DataError: runs that can't stand in one table (two of one mask, other documents or settings, ...).
    """
    groups: dict[object, list[readers.Run]] = {}
    for run in runs:
        groups.setdefault(readers.identity(run), []).append(run)
    return [_table(group, taxonomy, encoders, known_encoders) for group in groups.values()]


def _table(
    runs: Sequence[readers.Run],
    taxonomy: Taxonomy,
    encoders: Sequence[str] | None,
    known_encoders: Callable[[str, str], Sequence[str]],
) -> ScoreTable:
    names, notes = _encoders(runs, encoders, known_encoders)
    run_of: dict[tuple[tuple[str, ...], str], readers.Run] = {}
    for run in runs:
        mask = masks.dropped(names, *run.mask)
        for task in run.tasks:
            if (mask, task) in run_of:
                label, other = masks.label(mask, names), run_of[mask, task]
                raise DataError(f"two runs of drop={label} on task {task}: {other.path} and {run.path}")
            run_of[mask, task] = run
    tasks = list(dict.fromkeys(task for run in runs for task in run.tasks))
    benchmarks = tuple(b for b in taxonomy.benchmarks if b.task in tasks)
    outside = [task for task in tasks if task not in {b.task for b in benchmarks}]
    if outside:
        notes.append(f"not in the taxonomy {taxonomy.name}, left out: {', '.join(outside)}")
    if not benchmarks:
        raise DataError(f"none of the tasks is in the taxonomy {taxonomy.name}: {', '.join(outside)}")
    readers.check_same(runs, [b.task for b in benchmarks])
    ran = {mask for mask, _ in run_of}
    rows = tuple(mask for mask in masks.every(names) if mask in ran)
    points = np.full((len(rows), len(benchmarks)), np.nan)
    for i, mask in enumerate(rows):
        for j, benchmark in enumerate(benchmarks):
            if (mask, benchmark.task) in run_of:
                points[i, j] = _points(run_of[mask, benchmark.task], benchmark)
            else:
                notes.append(f"no run of drop={masks.label(mask, names)} on {benchmark.name}")
    empty = [c for c, g in zip(taxonomy.categories, taxonomy.groups(benchmarks), strict=True) if not g]
    if empty:
        notes.append(f"no benchmark of these categories was run, so they and overall are undefined: {', '.join(empty)}")
    if () not in rows:
        notes.append("the full model (drop=none) was not run, so CUR and IG are undefined")
    absent = [name for name in names if (name,) not in rows]
    if absent:
        notes.append(f"no run with only this encoder dropped, so its CUR and IG are undefined: {', '.join(absent)}")
    zero = (
        [b.name for b, value in zip(benchmarks, points[rows.index(())], strict=True) if value == 0]
        if () in rows
        else []
    )
    if zero:
        notes.append(f"the full model scores 0 on: {', '.join(zero)}")
    samples = {b.name: s for b in benchmarks if (s := _samples(run_of, rows, b)) is not None}
    counts = tuple(next(r.tasks[b.task].documents for r in runs if b.task in r.tasks) for b in benchmarks)
    return ScoreTable(
        runs[0].model, runs[0].checkpoint, names, rows, taxonomy, benchmarks, points, counts, samples, tuple(notes),
        _signature(runs, names, rows, taxonomy, benchmarks, sum(counts)),
    )  # fmt: skip


def _encoders(
    runs: Sequence[readers.Run],
    given: Sequence[str] | None,
    known: Callable[[str, str], Sequence[str]],
) -> tuple[tuple[str, ...], list[str]]:
    """The model's encoders: as given, recorded or known; else the names in the masks, which is noted."""
    if given:
        return tuple(given), []
    recorded = {run.encoders for run in runs if run.encoders}
    if len(recorded) > 1:
        raise DataError(f"runs of one checkpoint record different encoders: {sorted(recorded)}")
    names = next(iter(recorded), ()) or tuple(known(runs[0].model, runs[0].checkpoint))
    if names:
        return names, []
    ambiguous = [run for run in runs if run.mask[1] or run.mask[0].lower() == "all"]
    named = list(
        dict.fromkeys(n for run in runs for n in run.mask[0].lower().split("+") if n not in ("", "none", "all"))
    )
    if ambiguous or not named:
        raise DataError(
            f"{(ambiguous or runs)[0].path}: which encoders {runs[0].checkpoint} has is not known here; "
            "say so with --encoders clip,convnext,... in the checkpoint's order"
        )
    return tuple(named), [
        f"encoders inferred from the masks that were run (--encoders says otherwise): {', '.join(named)}"
    ]


def _points(run: readers.Run, benchmark: Benchmark) -> float:
    result = run.tasks[benchmark.task]
    if benchmark.metric not in result.metrics:
        raise DataError(f"{run.path}: task {benchmark.task} has no number {benchmark.metric!r} in its results")
    points = result.metrics[benchmark.metric] * benchmark.scale
    if not -1e-9 <= points <= 100 + 1e-9:
        raise DataError(f"{run.path}: {benchmark.task} {benchmark.metric} gives {points:g} points, outside 0..100")
    if benchmark.sample_score and result.samples is not None:
        values = [_sample(result.samples, doc_id, benchmark) for doc_id in result.samples.records]
        recomputed = 100 * float(np.mean(values))
        if abs(recomputed - points) > _ROUNDING:
            raise DataError(
                f"{run.path}: {benchmark.task} reports {points:.6f} points, but its samples give {recomputed:.6f}"
            )
    return points


def _sample(samples: readers.Samples, doc_id: int, benchmark: Benchmark) -> float:
    value = readers.sample_value(samples.records[doc_id], benchmark.sample_score)
    if value is None:
        raise DataError(f"{samples.path}:{samples.lines[doc_id]}: no number {benchmark.sample_score} in the sample")
    return value


def _samples(
    run_of: Mapping[tuple[tuple[str, ...], str], readers.Run],
    rows: Sequence[tuple[str, ...]],
    benchmark: Benchmark,
) -> SampleScores | None:
    found = [run_of[mask, benchmark.task].tasks[benchmark.task].samples if (mask, benchmark.task) in run_of else None
             for mask in rows]  # fmt: skip
    logged = [samples for samples in found if samples is not None]
    if not benchmark.sample_score or not logged:
        return None
    documents = tuple(sorted(logged[0].records))
    scores = [[_sample(samples, doc_id, benchmark) if samples else np.nan for doc_id in documents] for samples in found]
    return SampleScores(documents, np.array(scores))


def _signature(
    runs: Sequence[readers.Run],
    encoders: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    taxonomy: Taxonomy,
    benchmarks: Sequence[Benchmark],
    documents: int,
) -> str:
    """One line that says how to get the table again."""
    from redundancy_eval import __version__

    first = runs[0]
    versions = {key: value for run in runs for key, value in run.versions.items()}
    parts = {
        "model": first.model,
        "checkpoint": first.checkpoint,
        "encoders": "+".join(encoders),
        "masks": f"{len(rows)}/{2 ** len(encoders)}",
        "ablation": first.arguments.get("ablation", "zero"),
        "site": first.arguments.get("site", "encoder"),
        "dtype": first.arguments.get("dtype", "auto"),
        "taxonomy": taxonomy.name,
        "tasks": "+".join(b.task for b in benchmarks),
        "documents": str(documents),
        "limit": str(first.settings.get("limit")) if first.settings.get("limit") is not None else "",
        "lmms-eval": versions.get("lmms-eval", "unknown"),
        "redundancy-eval": __version__,
    }
    return "|".join(f"{key}:{value}" for key, value in parts.items() if value)
