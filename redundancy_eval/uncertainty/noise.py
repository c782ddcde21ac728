"""Answers that change: by dropping an encoder, and by nothing but a second run of the full model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from redundancy_eval import metrics
from redundancy_eval.errors import DataError
from redundancy_eval.statistics import covariance, cur, intervals, noise
from redundancy_eval.statistics.covariance import Array
from redundancy_eval.table import SampleScores
from redundancy_eval.uncertainty.join import PAIRED, Joined, Place, mean_place
from redundancy_eval.uncertainty.numbers import numbers, t_numbers
from redundancy_eval.uncertainty.results import Changed, Number, Rerun, Settings

NOT_MEASURED = "the full model was not run a second time, so how many answers change by themselves is not known"


@dataclass(frozen=True)
class _Second:
    """Of one place: shares of changed answers (encoders and the second run), and scores of (full, second run)."""

    shares: Place
    scores: Place


def analyse(
    joined: Joined, settings: Settings, rerun: Mapping[str, SampleScores] | None
) -> tuple[list[Changed], list[Rerun]]:
    """Shares of changed answers in every category and overall.

    Args:
        joined: the table.
        settings: level.
        rerun: by benchmark, the second run of the full model: scores (1, documents) of the same documents.

    Raises:
        DataError: the second run has other documents.
    """
    benchmarks = {place.name: _benchmark(joined, place, rerun) for place in joined.benchmarks}
    categories = [_mean(place, [benchmarks[part.name] for part in place.parts], joined) for place in joined.categories]
    overall = _mean(joined.overall, categories, joined)
    changed: list[Changed] = []
    reruns: list[Rerun] = []
    for second, parts in [*((each, [each]) for each in categories), (overall, categories)]:
        changed += _changed(joined, second.shares, settings, rerun is not None)
        if rerun is not None:
            reruns.append(_rerun(second, parts, settings, len(joined.encoders)))
    return changed, reruns


def _benchmark(joined: Joined, place: Place, rerun: Mapping[str, SampleScores] | None) -> _Second:
    width = len(joined.encoders) + 1
    again = None if rerun is None else rerun.get(place.name)
    absent = NOT_MEASURED if rerun is None else f"{place.name} has no second run"
    if place.answers is None or place.benchmark is None:
        none = place.why[0] or f"{place.name} has no samples"
        return _Second(
            _place(place, covariance.unknown(np.full(width, np.nan)), [none] * width),
            _place(place, covariance.unknown(np.full(2, np.nan)), [none] * 2),
        )
    samples, benchmark = place.answers.samples, place.benchmark
    full = samples.scores[0]
    second = np.full(len(full), np.nan) if again is None else _aligned(place.name, samples, again)
    rows = noise.changed(np.concatenate([samples.scores[joined.singles], second[None]]), full)
    why = [place.reason([0, row]) for row in joined.singles] + [place.why[0] or (absent if again is None else "")]
    why = [
        reason or (f"answers are missing on {place.name}" if np.isnan(row).any() else "")
        for reason, row in zip(why, rows, strict=True)
    ]
    rows = np.where(np.array([bool(reason) for reason in why])[:, None], np.nan, rows)
    pair = np.where(bool(why[-1]), np.nan, np.stack([full, second]))
    return _Second(
        _place(place, _scores(rows, samples, "items", benchmark.weights), why),
        _place(place, _scores(pair, samples, benchmark.rule, benchmark.weights), [why[-1]] * 2),
    )


def _scores(rows: Array, samples: SampleScores, rule: str, weights: Mapping[str, float]) -> covariance.Scores:
    sums = metrics.cluster_sums(rows, samples.clusters, samples.strata, rule)
    return covariance.benchmark(sums.numerators, sums.denominators, sums.strata, weights)


def _aligned(name: str, samples: SampleScores, again: SampleScores) -> Array:
    """The second run's scores in the order of the first's documents.

    Raises:
        DataError: they are not the same documents.
    """
    other = np.setxor1d(samples.documents, again.documents)
    if len(other) or len(again.documents) != len(samples.documents):
        which = f": document {other[0]}" if len(other) else ""
        raise DataError(f"the second run of the full model has other documents on {name}{which}")
    order = np.argsort(again.documents)
    at = order[np.searchsorted(again.documents[order], samples.documents)]
    return np.asarray(again.scores[0][at], dtype=np.float64)


def _place(place: Place, scores: covariance.Scores, why: Sequence[str]) -> Place:
    return Place(place.name, place.kind, scores, place.documents, PAIRED, tuple(why))


def _mean(place: Place, parts: Sequence[_Second], joined: Joined) -> _Second:
    return _Second(
        mean_place(place.name, place.kind, [part.shares for part in parts], len(joined.encoders) + 1),
        mean_place(place.name, place.kind, [part.scores for part in parts], 2),
    )


def _changed(joined: Joined, place: Place, settings: Settings, measured: bool) -> list[Changed]:
    n = len(joined.encoders)
    found, low, high = intervals.score_intervals(place.scores, settings.level)
    rows = [[row] for row in range(n + 1)]
    shares = numbers(found, low, high, place, rows, 1, f"{place.method}, Wilson")
    against, flags = noise.no_more_than_rerun(place.scores, range(n), n, settings.level)
    above: list[Number] = t_numbers(against, place, [[row, n] for row in range(n)], settings.level)
    return [
        Changed(name, place.name, shares[e], above[e], bool(flags[e]) if measured and not above[e].reason else None)
        for e, name in enumerate(joined.encoders)
    ]


def _rerun(second: _Second, parts: Sequence[_Second], settings: Settings, n: int) -> Rerun:
    found, low, high = intervals.score_intervals(second.shares.scores, settings.level)
    rows = [[row] for row in range(n + 1)]
    share = numbers(found, low, high, second.shares, rows, 1, f"{PAIRED}, Wilson")[n]
    curs = cur.overall_curs([part.scores.scores for part in parts], 0, [1])
    return Rerun(second.shares.name, share, t_numbers(curs, second.scores, [[0, 1]], settings.level)[0])
