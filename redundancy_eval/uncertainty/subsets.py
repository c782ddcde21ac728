"""Which encoders suffice: the best mask of each size, the smallest that keeps a share, the gain of choosing masks."""

from collections.abc import Sequence
from math import comb

import numpy as np

from redundancy_eval.statistics import draws, router, selection
from redundancy_eval.statistics.covariance import Estimates, linear
from redundancy_eval.uncertainty.join import Joined, Place
from redundancy_eval.uncertainty.numbers import numbers
from redundancy_eval.uncertainty.results import NAN, Best, Keeps, Number, Router, Settings

SHARES = (0.9, 0.95, 0.99)
# Benchmarks whose clusters are one question asked again with its options in another order.
REPLICATED = ("MMBench",)


def best(joined: Joined, settings: Settings) -> list[Best]:
    """The best mask for each number of encoders kept, largest first, of those that were run."""
    n, place = len(joined.encoders), joined.overall
    if joined.table.guessed:
        return []
    made = []
    for kept in range(n - 1, 0, -1):
        rows = [row for row in _run(joined) if n - len(joined.masks[row]) == kept]
        if rows:
            made.append(_best(joined, place, rows, kept, settings))
    return made


def _best(joined: Joined, place: Place, rows: Sequence[int], kept: int, settings: Settings) -> Best:
    width, label = len(joined.masks), f"|{kept} kept"
    found = linear(place.scores, np.eye(width)[list(rows)])
    to_full = np.eye(width)[list(rows)]
    to_full[:, 0] -= 1
    against = linear(place.scores, to_full)
    chosen = selection.best(found, draws.generator(settings.seed, "best" + label), settings.level)
    difference = selection.best(against, draws.generator(settings.seed, "to full" + label), settings.level)
    apart = selection.not_told_apart(found, draws.generator(settings.seed, "not told apart" + label), settings.level)
    known = not np.isnan(chosen.quantile)
    same = [rows[chosen.index]] if not known else [row for row, kept_ in zip(rows, apart, strict=True) if kept_]
    return Best(
        kept, len(rows), comb(len(joined.encoders), kept), joined.masks[rows[chosen.index]],
        _simultaneous(found, chosen, place, rows, [], joined),
        100 * chosen.corrected,
        _simultaneous(against, selection.Best(chosen.index, NAN, NAN, difference.quantile), place, rows, [0], joined),
        tuple(joined.masks[row] for row in same) if known else (),
    )  # fmt: skip


def _simultaneous(
    found: Estimates, chosen: selection.Best, place: Place, rows: Sequence[int], also: Sequence[int], joined: Joined
) -> Number:
    one = found.take([chosen.index])
    half = chosen.quantile * one.se
    # All masks of the size must be known: the interval holds for all of them at once.
    needs = [[*also, *rows]]
    low, high = one.values - half, one.values + half
    return numbers(one, low, high, place, needs, 100, f"{place.method}, draws, simultaneous")[0]


def keeps(joined: Joined, settings: Settings) -> list[Keeps]:
    """The smallest mask that keeps 90, 95 and 99 % of the full overall score."""
    n, place, full = len(joined.encoders), joined.overall, joined.overall.scores.values[0]
    rows = [row for row in _run(joined) if 0 < len(joined.masks[row]) < n]
    if joined.table.guessed or not rows or np.isnan(full):
        return []
    sizes, values = np.array([n - len(joined.masks[row]) for row in rows]), place.scores.values[rows]
    made = []
    for share in SHARES:
        contrasts = np.eye(len(joined.masks))[rows]
        contrasts[:, 0] -= share
        found = linear(place.scores, contrasts)
        rng = draws.generator(settings.seed, f"keeps|{share}")
        picked = [
            selection.smallest(values, sizes, allowed)
            for allowed in (found.values >= 0, selection.shown_above_zero(found, rng, settings.level))
        ]
        by, shown = (None if at is None else joined.masks[rows[at]] for at in picked)
        made.append(Keeps(share, by, shown, len(rows), place.reason([0, *rows])))
    return made


def _run(joined: Joined) -> list[int]:
    """Rows with an overall score."""
    return np.flatnonzero(~np.isnan(joined.overall.scores.values)).tolist()


def routers(joined: Joined, settings: Settings) -> list[Router]:
    """What choosing the mask could gain, of every benchmark with samples, every category and overall, in points."""
    found = {place.name: _router(joined, place, settings) for place in joined.benchmarks}
    made = list(found.values())
    for category in joined.categories:
        found[category.name] = _mean_router(category, [found[part.name] for part in category.parts])
        made.append(found[category.name])
    made.append(_mean_router(joined.overall, [found[part.name] for part in joined.categories]))
    return made


def _router(joined: Joined, place: Place, settings: Settings) -> Router:
    rows = [row for row, there in enumerate(joined.in_table) if there]
    if place.answers is None or place.benchmark is None or not joined.in_table[0]:
        reason = place.reason(rows) or ("no samples" if joined.in_table[0] else "the full model was not run")
        return _no_router(place, len(rows), reason)
    answers, benchmark = place.answers, place.benchmark
    samples, scores = answers.samples, answers.samples.scores[rows]
    if place.reason(rows) or np.isnan(scores).any():
        reason = place.reason(rows) or f"answers are missing on {place.name}"
        return _no_router(place, len(rows), reason)
    rng = draws.generator(settings.seed, f"router|{place.name}")
    by_task = router.cross_fitted(
        answers.numerators[rows], answers.denominators[rows], answers.strata, benchmark.weights, rng
    )
    checked = router.replicate_checked(scores, samples.clusters) if place.name in REPLICATED else NAN
    oracle = router.oracle(scores, samples.clusters, samples.strata, benchmark.rule, benchmark.weights)
    guessing = router.guessing(place.scores.values[rows])
    gains = (100 * by_task, 100 * checked, 100 * oracle, 100 * guessing)
    return Router(place.name, place.kind, len(rows), *gains)


def _mean_router(place: Place, parts: Sequence[Router]) -> Router:
    """Plain means; replicates are of single benchmarks and not averaged."""
    count = max((part.masks for part in parts), default=0)
    reason = next((part.reason for part in parts if part.reason), "") if parts else place.why[0]
    if reason:
        return _no_router(place, count, reason)
    means = (float(np.mean([getattr(part, name) for part in parts])) for name in ("by_task", "oracle", "guessing"))
    by_task, oracle, guessing = means
    return Router(place.name, place.kind, count, by_task, NAN, oracle, guessing)


def _no_router(place: Place, masks: int, reason: str) -> Router:
    return Router(place.name, place.kind, masks, NAN, NAN, NAN, NAN, reason)
