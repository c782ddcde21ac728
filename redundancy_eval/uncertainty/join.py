"""From a table to scores with their covariance: what is known of every benchmark, category and overall, and why not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import masks, metrics
from redundancy_eval.statistics import covariance
from redundancy_eval.statistics.covariance import Array, Scores
from redundancy_eval.table import Mask, Said, SampleScores, ScoreTable
from redundancy_eval.taxonomy import Benchmark
from redundancy_eval.uncertainty.results import OVERALL

_TOLERANCE = 1e-6  # points; samples that give others are not those of the printed number

PAIRED, UNPAIRED, POINTS = "jackknife over clusters", "unpaired binomials from n alone", "points only"


@dataclass(frozen=True)
class Answers:
    """Item scores (masks, items) of the masks' rows, items by (stratum, cluster, document), and their cluster sums."""

    samples: SampleScores
    strata: NDArray[np.str_]
    numerators: Array
    denominators: Array


@dataclass(frozen=True)
class Place:
    """A benchmark, a category or overall: scores of all masks (fractions), and why something is unknown of a mask."""

    name: str
    kind: str
    scores: Scores
    documents: float
    method: str
    why: tuple[str, ...]
    parts: tuple["Place", ...] = ()
    benchmark: Benchmark | None = None
    answers: Answers | None = None

    def reason(self, rows: Sequence[int]) -> str:
        """Why something is not known that needs these masks; empty where it is known."""
        return next((self.why[row] for row in rows if self.why[row]), "")


@dataclass(frozen=True)
class Joined:
    """A table's places. Encoders by name; masks with names in that order, the full model first.

    Rows of the full model, of every single drop and of all dropped are there even where they are not in the table, with
    NaN; `in_table` tells which are.
    """

    table: ScoreTable
    encoders: tuple[str, ...]
    masks: tuple[Mask, ...]
    in_table: tuple[bool, ...]
    benchmarks: tuple[Place, ...]
    categories: tuple[Place, ...]
    overall: Place
    notes: tuple[str, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """Categories and overall."""
        return *self.categories, self.overall

    @property
    def singles(self) -> list[int]:
        """Rows of the masks with one encoder dropped, in the encoders' order."""
        return [self.masks.index((name,)) for name in self.encoders]

    @property
    def none(self) -> int:
        """Row of the mask with all encoders dropped."""
        return self.masks.index(self.encoders)


def join(table: ScoreTable) -> Joined:
    """Scores and covariances of a table, in an order that does not depend on its masks, encoders or documents."""
    encoders = tuple(sorted(table.encoders))
    in_order = {mask: tuple(sorted(mask)) for mask in table.masks}
    wanted = {*in_order.values(), *masks.leave_one_out(encoders)}
    rows = tuple(sorted(wanted, key=lambda mask: (len(mask), mask)))
    points = np.full((len(rows), len(table.benchmarks)), np.nan)
    for number, mask in enumerate(table.masks):
        points[rows.index(in_order[mask])] = table.points[number]
    labels = [masks.label(mask, table.encoders, whole=not table.guessed) for mask in rows]
    source = [table.masks.index(m) if m in table.masks else -1 for m in _in_table_order(rows, table.encoders)]
    benchmarks = tuple(
        _benchmark(
            benchmark, points[:, column], table.samples.get(benchmark.name), source, table.documents[column], labels
        )
        for column, benchmark in enumerate(table.benchmarks)
    )
    categories = []
    for name, group in zip(table.taxonomy.categories, table.taxonomy.groups(table.benchmarks), strict=True):
        categories.append(mean_place(name, "category", [benchmarks[i] for i in group], len(rows)))
    overall = mean_place(OVERALL, "overall", categories, len(rows))
    return Joined(
        table, encoders, rows, tuple(mask in in_order.values() for mask in rows),
        benchmarks, tuple(categories), overall, tuple(_notes(benchmarks)),
    )  # fmt: skip


def _in_table_order(rows: Sequence[Mask], encoders: Sequence[str]) -> list[Mask]:
    return [tuple(name for name in encoders if name in mask) for mask in rows]


def _benchmark(
    benchmark: Benchmark,
    points: Array,
    samples: SampleScores | None,
    source: Sequence[int],
    documents: int | None,
    labels: Sequence[str],
) -> Place:
    name, values = benchmark.name, points / 100
    unrun = [
        f"drop={label} has no score on {name}" if np.isnan(p) else "" for label, p in zip(labels, points, strict=True)
    ]
    count = float("nan") if documents is None else float(documents)

    def place(scores: Scores, method: str, why: Sequence[str], answers: Answers | None = None) -> Place:
        reasons = tuple(first or second for first, second in zip(unrun, why, strict=True))
        return Place(name, "benchmark", scores, count, method, reasons, benchmark=benchmark, answers=answers)

    if samples is None:
        if documents and benchmark.rule == "items" and not benchmark.weights and documents > 1:
            return place(covariance.binomial(values, documents), UNPAIRED, [""] * len(labels))
        reason = f"{name} has no samples, and its number of documents is not known"
        if documents:
            reason = f"{name} has no samples, and its score is no plain mean over documents"
        return place(covariance.unknown(values), POINTS, [reason] * len(labels))
    answers = _answers(samples, source, benchmark)
    d = answers.denominators
    given = covariance.benchmark(answers.numerators, d, answers.strata, benchmark.weights)
    why = [""] * len(labels)
    for row, label in enumerate(labels):
        if np.isnan(points[row]):
            continue
        if np.isnan(given.values[row]):
            why[row] = f"drop={label} has no samples on {name}"
        elif abs(100 * given.values[row] - points[row]) > _TOLERANCE:
            why[row] = (
                f"drop={label}: the samples of {name} give {100 * given.values[row]:.6f} points, "
                f"not the {points[row]:.6f} of the table"
            )
    usable = np.isfinite(points) & np.array([not reason for reason in why])
    x = np.where(usable[:, None], answers.numerators, np.nan)
    scores = covariance.benchmark(x, d, answers.strata, benchmark.weights)
    scores = replace(scores, values=values)
    for row in np.flatnonzero(usable & ~scores.known).tolist():
        why[row] = f"one image or group is all of {name}, or of a stratum of it"
    whole = replace(answers, numerators=x)
    return place(scores, PAIRED, why, whole)


def _answers(samples: SampleScores, source: Sequence[int], benchmark: Benchmark) -> Answers:
    """Cluster sums of every mask over the answers that it has; a mask without any is NaN."""
    order = np.lexsort((samples.documents, samples.clusters, samples.strata))
    scores = np.stack([samples.scores[at] if at >= 0 else np.full(len(order), np.nan) for at in source])[:, order]
    clusters, strata = samples.clusters[order], samples.strata[order]
    said = None if samples.said is None else _said(samples.said, source, order)
    ordered = SampleScores(samples.documents[order], scores, clusters, strata, said)
    sums = metrics.cluster_sums(scores, clusters, strata, benchmark.rule)
    ran = ~np.isnan(scores).all(axis=1)
    if not np.isnan(scores[ran]).any():
        return Answers(ordered, sums.strata, sums.numerators, np.broadcast_to(sums.denominators, sums.numerators.shape))
    if benchmark.rule == "items":
        there = ~np.isnan(scores)
        numerators = metrics.cluster_sums(np.nan_to_num(scores), clusters, strata, "items").numerators
        denominators = metrics.cluster_sums(there.astype(np.float64), clusters, strata, "items").numerators
    else:  # a cluster with a missing answer has no score of its own
        lost = np.isnan(sums.numerators)
        numerators = np.where(lost, 0.0, sums.numerators)
        denominators = np.where(lost, 0.0, sums.denominators)
    numerators = np.where(ran[:, None], numerators, np.nan)
    return Answers(ordered, sums.strata, numerators, np.where(ran[:, None], denominators, sums.denominators))


def _said(said: Said, source: Sequence[int], order: NDArray[np.intp]) -> Said:
    """Answers of the masks' rows, in the order of the items; none of a mask that was not run."""
    rows = [said.answers[at] if at >= 0 else np.zeros(len(order), dtype=np.uint64) for at in source]
    return replace(said, answers=np.stack(rows)).take(order)


def mean_place(name: str, kind: str, parts: Sequence[Place], rows: int) -> Place:
    """The plain mean of benchmarks or of categories."""
    if not parts:
        why = (f"no benchmark of {name} was run",) * rows
        return Place(name, kind, covariance.unknown(np.full(rows, np.nan)), float("nan"), POINTS, why)
    why = tuple(next((part.why[row] for part in parts if part.why[row]), "") for row in range(rows))
    methods = {part.method for part in parts}
    method = methods.pop() if len(methods) == 1 else (POINTS if POINTS in methods else f"{PAIRED}; partly {UNPAIRED}")
    documents = float(sum(part.documents for part in parts))
    return Place(name, kind, covariance.mean([part.scores for part in parts]), documents, method, why, tuple(parts))


def _notes(benchmarks: Sequence[Place]) -> list[str]:
    notes = []
    unpaired = [place.name for place in benchmarks if place.method == UNPAIRED]
    if unpaired:
        notes.append(
            "no samples, so intervals take answers as independent between masks and between documents, which as a rule "
            f"makes them wider than paired ones: {', '.join(unpaired)}"
        )
    missing = [
        place.name
        for place in benchmarks
        if place.answers is not None and (place.answers.denominators != place.answers.denominators[0]).any()
    ]
    if missing:
        notes.append(
            f"missing answers are taken to be missing whether or not they would have been right: {', '.join(missing)}"
        )
    return notes
