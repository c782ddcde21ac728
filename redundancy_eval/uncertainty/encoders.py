"""Encoder by encoder: CUR, tests and verdicts, IG, the floor."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import metrics
from redundancy_eval.statistics import covariance, cur, draws, floor, gap, intervals, planning, selection, verdicts
from redundancy_eval.statistics.covariance import Array, Estimates
from redundancy_eval.uncertainty.join import Joined, Place
from redundancy_eval.uncertainty.numbers import NOT_KNOWN, few, numbers, t_numbers
from redundancy_eval.uncertainty.results import (
    NAN,
    Cell,
    Everywhere,
    Floor,
    Gap,
    Number,
    Score,
    Settings,
)

GUESSED = "which encoders the model has is not known, only those that masks name"


def scores(joined: Joined, settings: Settings) -> list[Score]:
    """Every mask of the table on every benchmark, in every category and overall, with Wilson's interval."""
    found = []
    rows = [[row] for row in range(len(joined.masks))]
    for place in (*joined.benchmarks, *joined.places):
        estimates, low, high = intervals.score_intervals(place.scores, settings.level)
        points = numbers(estimates, low, high, place, rows, 100, f"{place.method}, Wilson")
        for mask, there, number in zip(joined.masks, joined.in_table, points, strict=True):
            if there:
                found.append(Score(mask, place.name, place.kind, number))
    return found


def curs(joined: Joined, place: Place) -> Estimates:
    """CURs of all encoders in a category, or overall (the mean over categories)."""
    parts = place.parts if place is joined.overall else (place,)
    return cur.overall_curs([part.scores for part in parts], 0, joined.singles)


def cells(joined: Joined, settings: Settings, positive: str) -> tuple[list[Cell], list[Everywhere]]:
    """Verdicts: one family of all encoders in all categories, another of the overall CURs."""
    categories = [curs(joined, place) for place in joined.categories]
    overall = curs(joined, joined.overall)
    of_categories = _family(joined, joined.categories, categories, settings, positive)
    of_overall = _family(joined, [joined.overall], [overall], settings, positive)
    return of_categories + of_overall, _everywhere(of_categories, settings)


def _family(
    joined: Joined, places: Sequence[Place], found: Sequence[Estimates], settings: Settings, positive: str
) -> list[Cell]:
    alpha = 1 - settings.level
    values = np.stack([each.values for each in found])
    p = np.stack([verdicts.p_difference(each) for each in found])
    equal = np.stack([verdicts.p_equivalence(each, settings.margin) for each in found])
    p_adjusted, equal_adjusted = verdicts.holm(p), verdicts.holm(equal)
    words = verdicts.verdicts(values, p_adjusted, equal_adjusted, alpha, positive)
    family = max(1, int(np.sum(~np.isnan(p))))
    made = []
    for k, (place, each) in enumerate(zip(places, found, strict=True)):
        of_curs = cur_numbers(joined, place, each, settings.level)
        corrected = _floor_corrected(joined, place, settings.level)
        wanted = verdicts.documents_to_decide(each.values, each.se, place.documents, settings.margin, family, alpha)
        for e, name in enumerate(joined.encoders):
            undecided = words[k, e] == verdicts.UNDECIDED
            made.append(
                Cell(
                    name,
                    place.name,
                    of_curs[e],
                    float(p[k, e]),
                    float(p_adjusted[k, e]),
                    float(equal[k, e]),
                    float(equal_adjusted[k, e]),
                    str(words[k, e]),
                    place.documents,
                    _two_digits(float(wanted[e])) if undecided else NAN,
                    planning.smallest_margin(float(each.se[e]), family),
                    corrected[e],
                )
            )
    return made


def cur_numbers(joined: Joined, place: Place, found: Estimates, level: float) -> list[Number]:
    """CURs as numbers, with the reason where one is not known."""
    return weak_full(joined, place, t_numbers(found, place, [[0, row] for row in joined.singles], level))


def weak_full(joined: Joined, place: Place, made: list[Number]) -> list[Number]:
    """Numbers in relation to the full score; where that is not clear of 0, this is the reason."""
    parts = place.parts if place is joined.overall else (place,)
    known = (part for part in parts if part.scores.known[0] and not np.isnan(part.scores.values[0]))
    weak = next((part for part in known if not cur.clear_of_zero(part.scores, 0)), None)
    if weak is None:
        return made
    full = covariance.linear(weak.scores, np.eye(len(joined.masks))[:1])
    points, se = 100 * full.values[0], 100 * full.se[0]
    reason = f"the full score of {weak.name} is not clear of 0 ({points:.1f} points, SE {se:.1f})"
    return [replace(number, reason=reason) if number.reason == NOT_KNOWN else number for number in made]


def _two_digits(documents: float) -> float:
    """Rounded up to two digits."""
    if not np.isfinite(documents) or documents <= 0:
        return documents
    unit = 10.0 ** max(0, int(np.floor(np.log10(documents))) - 1)
    return float(np.ceil(documents / unit) * unit)


def _everywhere(cells: Sequence[Cell], settings: Settings) -> list[Everywhere]:
    """Intersection-union over categories (no correction), Holm over encoders."""
    of_encoder: dict[str, list[Cell]] = {}
    for cell in cells:
        of_encoder.setdefault(cell.encoder, []).append(cell)
    p = np.array([max((cell.p_equivalence for cell in each), key=_nan_last) for each in of_encoder.values()])
    adjusted = verdicts.holm(p)
    return [
        Everywhere(
            name,
            float(p[e]),
            float(adjusted[e]),
            bool(adjusted[e] <= 1 - settings.level),
            next((cell.cur.reason for cell in each if cell.cur.reason), ""),
        )
        for e, (name, each) in enumerate(of_encoder.items())
    ]


def _nan_last(value: float) -> float:
    """A key under which NaN is the largest."""
    return float("inf") if np.isnan(value) else value


def _floor_corrected(joined: Joined, place: Place, level: float) -> list[Number]:
    """Relative to the headroom of the category's score, and of the overall score."""
    none, needs = joined.none, [[0, joined.none, row] for row in joined.singles]
    reason = no_headroom(joined, place)
    if reason:
        return [Number(NAN, reason=place.reason(rows) or reason) for rows in needs]
    return t_numbers(floor.floor_corrected(place.scores, 0, joined.singles, none), place, needs, level)


def no_headroom(joined: Joined, place: Place) -> str:
    """Why nothing is put in relation to a place's headroom; empty where it can be."""
    if joined.table.guessed:
        return GUESSED
    if floor.clear_headroom(place.scores, 0, joined.none):
        return ""
    known = place.reason([0, joined.none])
    found = floor.headroom(place.scores, 0, joined.none)
    half = intervals.t_quantile(0.975, found.df) * found.se
    return known or f"headroom {100 * found.values[0]:.1f} +-{100 * half[0]:.1f} points"


def floors(joined: Joined, settings: Settings) -> list[Floor]:
    """What is left without any encoder; masks surely below it after Holm over all but full and none."""
    if joined.table.guessed or not joined.in_table[joined.none]:
        return []
    made = []
    for place in joined.places:
        none = joined.none
        estimates, low, high = intervals.score_intervals(place.scores, settings.level)
        rows = [[row] for row in range(len(joined.masks))]
        points = numbers(estimates, low, high, place, rows, 100, f"{place.method}, Wilson")[none]
        room = t_numbers(floor.headroom(place.scores, 0, none), place, [[0, none]], settings.level, 100)[0]
        others = [row for row, there in enumerate(joined.in_table) if there and row not in (0, none)]
        below = floor.below_floor(place.scores, others, none, settings.level) if others else np.zeros(0, dtype=bool)
        found = tuple(joined.masks[row] for row, flag in zip(others, below, strict=True) if flag)
        made.append(Floor(place.name, points, room, found))
    return made


def gaps(joined: Joined, settings: Settings) -> list[Gap]:
    """IG of every category and overall, with the encoders that may be its ends."""
    made = []
    for place in joined.places:
        found = curs(joined, place)
        reason = _no_gap(joined, place, found)
        if reason:
            value = NAN if joined.table.guessed else float(metrics.information_gap(found.values))
            made.append(Gap(place.name, Number(value, clusters=place.scores.clusters, reason=reason), NAN, NAN, (), ()))
            continue
        ig = gap.information_gap(found, draws.generator(settings.seed, f"IG|{place.name}"), settings.level)
        df, clusters = float(found.df.min()), place.scores.clusters
        number = Number(ig.value, ig.low, ig.high, NAN, df, clusters, f"{place.method}, draws", note=few(df))
        ends = [
            _names(joined, selection.not_told_apart(side, draws.generator(settings.seed, label), settings.level))
            for side, label in (
                (found, f"largest|{place.name}"),
                (Estimates(-found.values, found.covariance, found.df), f"smallest|{place.name}"),
            )
        ]
        made.append(Gap(place.name, number, ig.null, ig.p, ends[0], ends[1]))
    return made


def _no_gap(joined: Joined, place: Place, found: Estimates) -> str:
    if joined.table.guessed:
        return GUESSED
    if len(joined.encoders) < 2:
        return "with one encoder there is no gap between encoders"
    if not np.isnan(found.df).any():
        return ""
    needed = [0, *joined.singles]
    unclear = next((n.reason for n in cur_numbers(joined, place, found, 0.95) if n.reason), "")
    return place.reason(needed) or unclear


def _names(joined: Joined, kept: NDArray[np.bool_] | Array) -> tuple[str, ...]:
    return tuple(name for name, there in zip(joined.encoders, kept, strict=True) if there)
