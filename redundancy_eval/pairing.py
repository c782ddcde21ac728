"""One benchmark under all masks: points, and per-document scores that are paired across the masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import compare, confidence, masks, scoring
from redundancy_eval.grouping import Model
from redundancy_eval.leniency import Leniency
from redundancy_eval.runs import Samples
from redundancy_eval.scoring import Scored
from redundancy_eval.table import Mask, Said, SampleScores
from redundancy_eval.taxonomy import CSV, VLMEVALKIT, Benchmark, Part


@dataclass(frozen=True)
class Column:
    """A benchmark's scores: points (masks,), NaN for none; paired samples where all masks that have a score log them.

    `rerun` are the samples of the full model's second run, `answers` those of each task by mask, `documents` counts
    them (None: not known), `notes` is what is to be said, `holes` why there is no score.
    """

    points: NDArray[np.float64]
    samples: SampleScores | None
    rerun: SampleScores | None
    documents: int | None
    answers: Mapping[str, Mapping[Mask, Samples]]
    notes: tuple[str, ...]
    holes: tuple[str, ...]


def column(model: Model, benchmark: Benchmark, parts: Sequence[Part], lenient: Leniency) -> Column:
    """Score a benchmark under every mask of a model.

    Args:
        model: its runs.
        benchmark: how its score is formed.
        parts: the tasks that report it.
        lenient: which kinds of bad data are warnings.

    Raises:
        DataError: a file is damaged, or masks were asked differently.
    """
    for part in parts:
        compare.check_settings([run for run in model.runs if part.task in run.tasks], part.task, lenient)
    notes: list[str] = []
    scored: dict[Mask, Scored] = {}
    for mask in model.masks:
        absent = [part.task for part in parts if (mask, part.task) not in model.run_of]
        if absent:
            notes.append(_not_run(model, mask, benchmark, absent))
            continue
        runs = [model.run_of[mask, part.task] for part in parts]
        scored[mask] = scoring.score(model.label(mask), benchmark, parts, runs, lenient)
        notes += scored[mask].notes
    logged = {mask: found.samples for mask, found in scored.items() if found.samples}
    answers = {
        part.task: {mask: of_parts[number] for mask, of_parts in logged.items()} for number, part in enumerate(parts)
    }
    for task, of_mask in answers.items():
        compare.check_documents(list(of_mask.values()), task, lenient)
    whole = logged and not any(s.reason for found in logged.values() for s in found)
    samples = _paired([part.task for part in parts], model.masks, logged) if whole else None
    rerun, more = _rerun(model, benchmark, parts, logged.get(()), lenient)
    return Column(
        np.array([scored[mask].points if mask in scored else np.nan for mask in model.masks]),
        samples,
        rerun,
        _documents(model, parts) if samples is None else len(samples.documents),
        answers,
        (*notes, *_unchecked(model, benchmark, scored), *more),
        tuple(found.hole for found in scored.values() if found.hole),
    )


def _rerun(
    model: Model, benchmark: Benchmark, parts: Sequence[Part], first: Sequence[Samples] | None, lenient: Leniency
) -> tuple[SampleScores | None, Sequence[str]]:
    """Samples of the full model's second run, asked as the first was; and notes.

    Raises:
        DataError: a file is damaged, or the two were asked differently.
    """
    runs = [model.rerun_of[part.task] for part in parts if part.task in model.rerun_of]
    if len(runs) < len(parts) or not first:
        return None, ()
    for part, run in zip(parts, runs, strict=True):
        compare.check_settings([model.run_of[(), part.task], run], part.task, lenient)
    found = scoring.score("none (--rerun)", benchmark, parts, runs, lenient)
    for part, one, other in zip(parts, first, found.samples, strict=False):
        compare.check_documents([one, other], part.task, lenient)
    whole = found.samples and not any(each.reason for each in (*found.samples, *first))
    return (_paired([part.task for part in parts], [()], {(): found.samples}) if whole else None), found.notes


def _not_run(model: Model, mask: Mask, benchmark: Benchmark, absent: Sequence[str]) -> str:
    tried = [run for run in model.runs if masks.dropped(model.encoders, *run.mask) == mask]
    why = {why for run in tried for task in absent if (why := run.failures.get(task))}
    said = "".join(f"; {text}" for text in sorted(why))
    return f"no run of drop={model.label(mask)} on {benchmark.name} ({', '.join(absent)}){said}"


def _unchecked(model: Model, benchmark: Benchmark, scored: Mapping[Mask, Scored]) -> list[str]:
    """Which scores are the framework's own numbers, and of which masks where samples of others are there."""
    if model.framework == CSV:
        return []
    by_reason: dict[str, list[str]] = {}
    for mask, found in scored.items():
        if found.unchecked:
            by_reason.setdefault(found.unchecked, []).append(model.label(mask))
    failed = "; answers that failed count as wrong in it" if model.framework == VLMEVALKIT else ""
    notes = []
    for reason, labels in by_reason.items():
        others = [f"drop={label}" for mask in scored if (label := model.label(mask)) not in labels]
        whose = f" under {', '.join(f'drop={label}' for label in labels)}" if others else ""
        there = f" (samples of {', '.join(others)} are there)" if others else ""
        notes.append(f"{benchmark.name} is the framework's number{whose}, unchecked: {reason}{there}{failed}")
    return notes


def _paired(tasks: Sequence[str], rows: Sequence[Mask], logged: Mapping[Mask, Sequence[Samples]]) -> SampleScores:
    """Scores of the documents that all logged masks share (all of them, unless that was excused)."""
    first, *others = logged.values()
    kept = [
        one.documents[
            np.logical_and.reduce([np.isin(one.documents, other[part].documents) for other in (first, *others)])
        ]
        for part, one in enumerate(first)
    ]
    scores = np.full((len(rows), sum(map(len, kept))), np.nan)
    answers = np.zeros(scores.shape, dtype=np.uint64)
    for mask, found in logged.items():
        places = [_places(s.documents, documents) for s, documents in zip(found, kept, strict=True)]
        row, picked = rows.index(mask), list(zip(found, places, strict=True))
        scores[row] = np.concatenate([np.where(s.missing, np.nan, s.scores)[at] for s, at in picked])
        answers[row] = np.concatenate([np.where(s.missing, np.uint64(0), s.answers)[at] for s, at in picked])
    places = [_places(s.documents, documents) for s, documents in zip(first, kept, strict=True)]
    prefix = [f"{number}:" if len(first) > 1 else "" for number in range(len(first))]
    names = [np.char.add(p, documents.astype(np.str_)) for p, documents in zip(prefix, kept, strict=True)]
    return SampleScores(
        np.concatenate(names),
        scores,
        np.concatenate([s.clusters[at] for s, at in zip(first, places, strict=True)]),
        np.concatenate([s.strata[at] for s, at in zip(first, places, strict=True)]),
        _said(tasks, logged, kept, answers),
    )


def _said(
    tasks: Sequence[str],
    logged: Mapping[Mask, Sequence[Samples]],
    kept: Sequence[NDArray[Any]],
    answers: NDArray[np.uint64],
) -> Said:
    """What was answered to the documents that all masks share; the model's own probabilities where a store has them."""
    full = logged.get((), ())
    known = [confidence.of(task, samples) for task, samples in zip(tasks, full, strict=False)]
    places = [_places(s.documents, documents) for s, documents in zip(full, kept, strict=False)]

    def joined(name: str) -> NDArray[np.float64]:
        found = [getattr(each, name)[at] for each, at in zip(known, places, strict=True)]
        return np.concatenate(found) if found else np.full(answers.shape[1], np.nan)

    as_scored = all(samples.as_scored for found in logged.values() for samples in found)
    reason = next((each.reason for each in known if each.reason), "")
    return Said(answers, as_scored, joined("log_probability"), joined("alone"), reason)


def _places(documents: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.intp]:
    """Where each wanted document stands."""
    order = np.argsort(documents)
    return order[np.searchsorted(documents, wanted, sorter=order)]


def _documents(model: Model, parts: Sequence[Part]) -> int | None:
    counts = [next(run.tasks[part.task].documents for run in model.runs if part.task in run.tasks) for part in parts]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
