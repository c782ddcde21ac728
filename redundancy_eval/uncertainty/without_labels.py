"""What masks change without any label: answers that change, confidence x change, and how both rank encoders."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redundancy_eval import metrics
from redundancy_eval.statistics import agreement, changes, covariance, draws, intervals
from redundancy_eval.statistics.covariance import Array, linear
from redundancy_eval.uncertainty import encoders
from redundancy_eval.uncertainty.join import PAIRED, Joined, Place, mean_place
from redundancy_eval.uncertainty.numbers import numbers, t_numbers
from redundancy_eval.uncertainty.results import (
    NAN,
    Itself,
    Number,
    Ranks,
    Settings,
    Unlabelled,
    WithoutLabels,
)

NOT_MEASURED = "the full model was not asked alone as well, so what changes by itself is not known"
MEASURES = ("changed", "expected")
_FEWEST = 3  # of two values there are two orders


@dataclass(frozen=True)
class _At:
    """One benchmark, category or overall: rows of `changed` are the masks and then the full model asked alone, rows of
    `expected` the masks and then the full model's confidence.
    """

    scores: Place
    changed: Place
    expected: Place


def analyse(joined: Joined, settings: Settings) -> WithoutLabels:
    """Answers that change and confidence x change, of every mask at every benchmark, category and overall."""
    benchmarks = {place.name: _benchmark(joined, place) for place in joined.benchmarks}
    categories = [_mean(place, [benchmarks[part.name] for part in place.parts]) for place in joined.categories]
    places = [*benchmarks.values(), *categories, _mean(joined.overall, categories)]
    as_scored = [
        place.name
        for place in joined.benchmarks
        if place.answers and (said := place.answers.samples.said) is not None and said.as_scored
    ]
    return WithoutLabels(
        tuple(each for at in places for each in _masks(joined, at, settings)),
        tuple(_itself(at, settings) for at in places),
        tuple(_ranks(joined, categories, places[-1], settings)),
        tuple(as_scored),
    )


def _benchmark(joined: Joined, place: Place) -> _At:
    width = len(joined.masks) + 1
    if place.answers is None or place.benchmark is None or (said := place.answers.samples.said) is None:
        absent = next((why for why in place.why if why), f"the answers to {place.name} are not known")
        unknown = Place(
            place.name, place.kind, covariance.unknown(np.full(width, np.nan)), place.documents, PAIRED,
            (absent,) * width,
        )  # fmt: skip
        return _At(place, unknown, unknown)
    changed = changes.changed(said.answers)
    expected = changes.expected_loss(changed, said.log_probability)
    why = [
        (place.reason([0, row]) if not ran else "") or f"answers to {place.name} are not known"
        for row, ran in enumerate(joined.in_table)
    ]
    return _At(
        place,
        _place(place, np.vstack([changed, said.alone]), [*why, NOT_MEASURED]),
        _place(
            place,
            np.vstack([expected, np.exp(said.log_probability)]),
            [said.reason or reason for reason in why] + [said.reason],
        ),
    )


def _place(place: Place, rows: Array, why: Sequence[str]) -> Place:
    """Means over documents, in the strata's weights; a row that lacks a document is not known."""
    assert place.answers is not None and place.benchmark is not None
    samples, lost = place.answers.samples, np.isnan(rows.sum(axis=1))
    rows = np.where(lost[:, None], np.nan, rows)
    sums = metrics.cluster_sums(rows, samples.clusters, samples.strata, "items")
    found = covariance.benchmark(sums.numerators, sums.denominators, sums.strata, place.benchmark.weights)
    reasons = tuple(reason if missing else "" for reason, missing in zip(why, lost, strict=True))
    return Place(place.name, place.kind, found, place.documents, PAIRED, reasons)


def _mean(place: Place, parts: Sequence[_At]) -> _At:
    def mean(of: Sequence[Place]) -> Place:
        return mean_place(place.name, place.kind, of, len(place.why) + 1)

    return _At(place, mean([part.changed for part in parts]), mean([part.expected for part in parts]))


def _shares(place: Place, level: float, scale: float) -> list[Number]:
    found, low, high = intervals.score_intervals(place.scores, level)
    rows = [[row] for row in range(len(found.values))]
    return numbers(found, low, high, place, rows, scale, f"{place.method}, Wilson")


def _masks(joined: Joined, at: _At, settings: Settings) -> list[Unlabelled]:
    rows = [row for row, there in enumerate(joined.in_table) if there and joined.masks[row]]
    if not rows:
        return []
    alone = len(joined.masks)
    changed, expected = _shares(at.changed, settings.level, 1), _shares(at.expected, settings.level, 100)
    needs = [[row, alone] for row in rows]
    above = t_numbers(linear(at.changed.scores, _less(rows, alone, alone + 1)), at.changed, needs, settings.level)
    against_full = linear(at.scores.scores, -_less(rows, 0, alone))
    lost = t_numbers(against_full, at.scores, [[0, row] for row in rows], settings.level, 100)
    return [
        Unlabelled(joined.masks[row], at.scores.name, at.scores.kind, changed[row], above[i], expected[row], lost[i])
        for i, row in enumerate(rows)
    ]


def _less(rows: Sequence[int], other: int, width: int) -> Array:
    """Contrasts: each row less another one."""
    contrasts = np.eye(width)[list(rows)]
    contrasts[:, other] -= 1
    return contrasts


def _itself(at: _At, settings: Settings) -> Itself:
    return Itself(
        at.scores.name,
        at.scores.kind,
        _shares(at.changed, settings.level, 1)[-1],
        _shares(at.expected, settings.level, 100)[-1],
    )


def _ranks(joined: Joined, categories: Sequence[_At], overall: _At, settings: Settings) -> list[Ranks]:
    """Rank correlations with CUR, of the overall numbers of the encoders and of all their category numbers."""
    there = [at for at in categories if at.scores.parts]
    drawn = _draws(joined, [at.scores for at in there], settings)
    singles = joined.singles
    made = []
    for measure in MEASURES:
        known = [getattr(at, measure) for at in there]
        whole = getattr(overall, measure)
        cells = np.stack([each.scores.values[singles] for each in known], axis=-1) if known else np.zeros((0, 0))
        curs = [encoders.curs(joined, at.scores).values for at in there]
        of_cells = np.stack(curs, axis=-1) if curs else cells
        reason = next((each.reason(singles) for each in known if each.reason(singles)), "")
        pairs = drawn.get(measure)
        for over, mine, cur, missing in (
            ("encoders", whole.scores.values[singles], encoders.curs(joined, overall.scores).values,
             whole.reason(singles) or overall.scores.reason([0, *singles])),
            ("cells", cells.ravel(), of_cells.ravel(),
             reason or next((r for at in there if (r := at.scores.reason([0, *singles]))), "")),
        ):  # fmt: skip
            draws_of = None if pairs is None else pairs[over]
            made.append(_correlations(measure, over, mine, cur, draws_of, missing, joined, settings.level))
    return made


def _correlations(
    measure: str, over: str, mine: Array, cur: Array, drawn: tuple[Array, Array] | None, missing: str,
    joined: Joined, level: float,
) -> Ranks:  # fmt: skip
    count = len(mine)
    few = f"a rank correlation of fewer than {_FEWEST} values says nothing" if count < _FEWEST else ""
    found = []
    for correlation in (agreement.spearman, agreement.kendall):
        value = NAN if few else float(correlation(_tied(mine), _tied(cur)))
        low = high = NAN
        if drawn is not None and np.isfinite(value):
            low, high = changes.percentiles(correlation(*map(_tied, drawn)), level)
        reason = few or ("" if np.isfinite(low) else missing or "all values are equal, or not known, in many resamples")
        method = f"bootstrap over clusters, {changes.RESAMPLES} resamples, percentiles" if not reason else ""
        found.append(Number(value, low, high, clusters=joined.overall.scores.clusters, method=method, reason=reason))
    return Ranks(measure, over, count, *found)


def _tied(values: Array) -> Array:
    """Sums in another order differ in their last digits, which are no ranks."""
    return np.round(values, 12)


def _draws(
    joined: Joined, categories: Sequence[Place], settings: Settings
) -> dict[str, dict[str, tuple[Array, Array]]]:
    """Of each measure, in every resample: (its values, CURs) over the encoders, and over encoders x categories.

    Empty where a benchmark has no samples of a mask that is needed.
    """
    rows, n = [0, *joined.singles], len(joined.encoders)
    means = []  # of each category (draws, rows)
    for place in categories:
        parts = [(part.name, _part(part, rows)) for part in place.parts]
        sampled = [
            changes.resampled(part, draws.generator(settings.seed, f"without labels|{name}"))
            for name, part in parts
            if part is not None
        ]
        if len(sampled) < len(parts):
            return {}
        means.append(np.mean(sampled, axis=0))
    if not means:
        return {}
    found = np.stack(means, axis=-1)
    curs = metrics.cur(found[:, :1], found[:, 1 : n + 1])
    made = {}
    for number, measure in enumerate(MEASURES, 1):
        mine = found[:, 1 + number * n : 1 + (number + 1) * n]
        flat = (len(mine), -1)
        made[measure] = {
            "encoders": (mine.mean(axis=-1), metrics.overall_cur(curs)),
            "cells": (mine.reshape(flat), curs.reshape(flat)),
        }
    return made


def _part(place: Place, rows: Sequence[int]) -> changes.Part | None:
    """Cluster sums of the scores of full model and single drops, of what these change, and of confidence x change."""
    answers = place.answers
    if answers is None or place.benchmark is None or answers.samples.said is None or place.reason(rows):
        return None
    samples, said = answers.samples, answers.samples.said
    changed = changes.changed(said.answers[list(rows)])[1:]
    expected = changes.expected_loss(changed, said.log_probability)
    sums = metrics.cluster_sums(np.vstack([changed, expected]), samples.clusters, samples.strata, "items")
    sizes = np.broadcast_to(sums.denominators, sums.numerators.shape)
    return changes.Part(
        np.vstack([answers.numerators[list(rows)], sums.numerators]),
        np.vstack([answers.denominators[list(rows)], sizes]),
        answers.strata,
        place.benchmark.weights,
    )
