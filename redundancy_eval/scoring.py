"""One benchmark under one mask: its points, from the samples where they are, else from the framework's numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import metrics
from redundancy_eval.errors import DataError, Hole
from redundancy_eval.leniency import Leniency
from redundancy_eval.runs import Run, Samples, TaskResult
from redundancy_eval.taxonomy import Benchmark, Part

_ROUNDING = 1e-6  # points; a framework's headline, written in full, against the one recomputed from samples
_EXCUSED = "it does not follow from the samples"  # and a warning says so already


@dataclass(frozen=True)
class Scored:
    """Points (NaN for none), the samples behind them (of every part, or none), and what is to be said.

    `unchecked` is the reason where the points are the framework's own number, `hole` why there is none.
    """

    points: float
    samples: tuple[Samples, ...] = ()
    notes: tuple[str, ...] = ()
    unchecked: str = ""
    hole: str = ""


def score(label: str, benchmark: Benchmark, parts: Sequence[Part], runs: Sequence[Run], lenient: Leniency) -> Scored:
    """Score a benchmark under a mask.

    Args:
        label: of the mask.
        benchmark: how its score is formed.
        parts: the tasks that report it.
        runs: of the mask, the one with each part's task.
        lenient: which kinds of bad data are warnings.

    Raises:
        DataError: a file is damaged, or samples and numbers contradict each other.
    """
    results = [run.tasks[part.task] for run, part in zip(runs, parts, strict=True)]
    samples: tuple[Samples, ...] = ()
    try:
        read = (result.samples(part) for result, part in zip(results, parts, strict=True))
        samples = tuple(each for each in read if each is not None)
        whole = len(samples) == len(parts)
        reason = next((s.reason for s in samples if s.reason), "" if whole else "no samples were logged")
        if not reason:
            checks = [_check(benchmark, *each, lenient) for each in zip(parts, runs, results, samples, strict=True)]
            notes = tuple(note for _, note in checks if note)
            if all(follows for follows, _ in checks):
                points, more = _from_samples(label, benchmark, samples, lenient)
                return Scored(points, samples, (*notes, *more))
            found = _from_numbers(label, benchmark, parts, runs, results, _EXCUSED)
            return replace(found, samples=samples, notes=(*notes, *found.notes), unchecked="")
        found = _from_numbers(label, benchmark, parts, runs, results, reason)
    except Hole as error:
        where = f"{runs[0].path.parent}/"  # the file's name says enough; reports are read elsewhere
        said = f"drop={label}: {benchmark.name} has no score: {str(error).replace(where, '')}"
        found = Scored(float("nan"), notes=(said,), hole=str(error))
    return replace(found, samples=samples if len(samples) == len(parts) else ())


def _from_numbers(
    label: str,
    benchmark: Benchmark,
    parts: Sequence[Part],
    runs: Sequence[Run],
    results: Sequence[TaskResult],
    reason: str,
) -> Scored:
    """The points that follow from the framework's numbers, which nothing checks, for a reason."""
    if any(part.weight is None for part in parts):
        tasks = ", ".join(part.task for part in parts)
        said = f"drop={label}: {benchmark.name} does not follow from the framework's numbers for {tasks} ({reason})"
        return Scored(float("nan"), notes=(said,))
    total = 0.0
    for part, run, result in zip(parts, runs, results, strict=True):
        points = result.headline(part) * part.scale
        if not np.isnan(points) and not -1e-9 <= points <= 100 + 1e-9:
            raise DataError(f"{run.path}: {part.task} {part.metric} gives {points:.10g} points, outside 0..100")
        total += (part.weight or 0.0) * points
    if np.isnan(total):
        return Scored(total, notes=(f"drop={label}: the framework reports no number for {benchmark.name}",))
    return Scored(total, unchecked=reason)


def _check(
    benchmark: Benchmark, part: Part, run: Run, result: TaskResult, samples: Samples, lenient: Leniency
) -> tuple[bool, str]:
    """Whether the framework's number follows from its samples (a missing answer is a wrong one to it), and a note."""
    weights = benchmark.weights if part.headline_weights is None else part.headline_weights
    points = result.headline(part) * part.scale
    rule = benchmark.rule if part.headline_weights is None else "items"
    sums = metrics.cluster_sums(samples.scores, samples.clusters, samples.strata, rule)
    recomputed = 100 * float(metrics.benchmark_score(sums, weights))
    if part.headline_documents:
        recomputed *= len(samples.scores) / part.headline_documents
    tolerance = _ROUNDING + (0.5 * 10**-part.decimals * part.scale if part.decimals is not None else 0)
    if weights and set(weights) - set(samples.strata):
        return True, ""  # with a stratum that has no documents there is no score to compare
    if np.isnan(points):
        return True, f"{benchmark.name} is recomputed from samples; {part.task} reports no number to compare"
    if abs(recomputed - points) <= tolerance:
        return True, ""
    lenient.refuse(
        "headline", f"{run.path}: {part.task} reports {points:.6f} points, but its samples give {recomputed:.6f}"
    )
    return False, ""


def _from_samples(
    label: str, benchmark: Benchmark, samples: Sequence[Samples], lenient: Leniency
) -> tuple[float, list[str]]:
    """Points from samples, and notes."""
    scores, clusters, strata, missing = (_joined(samples, name) for name in ("scores", "clusters", "strata", "missing"))
    notes: list[str] = []
    unknown = set(strata) - set(benchmark.weights) if benchmark.weights else set()
    if unknown:
        raise DataError(f"{samples[0].path}: unknown stratum {sorted(unknown)[0]!r} of {benchmark.name}")
    capped = int(sum(s.capped.sum() for s in samples))
    if capped:
        notes.append(f"drop={label}: {capped} of {len(scores)} answers on {benchmark.name} reached the length limit")
    if missing.any():
        text = f"drop={label}: {missing.sum()} of {len(scores)} answers on {benchmark.name} are missing"
        if "missing-answers" not in lenient.kinds:
            return float("nan"), [*notes, f"{text}, so it has no score (--lenient missing-answers scores the others)"]
        lenient.refuse("missing-answers", f"{text}; the score is that of the others")
        # A cluster with a missing answer has no score of its own under rules that need all of it.
        keys = np.char.add(np.char.add(strata, "\n"), clusters)
        kept = ~np.isin(keys, keys[missing]) if benchmark.rule != "items" else ~missing
        scores, clusters, strata = scores[kept], clusters[kept], strata[kept]
    absent = set(benchmark.weights) - set(strata)
    if absent:
        notes.append(f"drop={label}: {benchmark.name} is undefined: no documents of {', '.join(sorted(absent))}")
    sums = metrics.cluster_sums(scores, clusters, strata, benchmark.rule)
    return 100 * float(metrics.benchmark_score(sums, benchmark.weights)), notes


def _joined(samples: Sequence[Samples], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(each, name) for each in samples])
