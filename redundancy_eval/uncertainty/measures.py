"""Label-free measures of a model's masks: means with intervals, and how well they order encoders as CUR does.

Means are those of scores (docs/numbers.md): of a benchmark over its documents, of a category over its benchmarks, then
over the categories. The same documents are put to all masks. Intervals are the jackknife's over images, as elsewhere;
no measure is below 0, so no interval is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redundancy_eval import metrics
from redundancy_eval.explain_file import MEASURES, Explained
from redundancy_eval.statistics import agreement, changes, covariance, draws, intervals
from redundancy_eval.statistics.covariance import Array, Scores
from redundancy_eval.statistics.cur import overall_curs
from redundancy_eval.table import Mask, ScoreTable
from redundancy_eval.taxonomy import Taxonomy
from redundancy_eval.uncertainty import encoders as of_encoders
from redundancy_eval.uncertainty.join import Joined, Place, join
from redundancy_eval.uncertainty.numbers import few
from redundancy_eval.uncertainty.results import Number, Settings

MEAN = "Mean"  # over the categories that were asked; "Overall" is over all that the taxonomy has
ANSWER, TOKEN = "answer", "token"
ONE_IMAGE = "one image or group is all that was asked"
NO_IMAGES = "no document with images was asked"
UNKNOWN = "all are alike, or not known, in many resamples"
_DIGITS = 12  # sums in another order differ in the last ones, which are no ranks
_METHOD = "jackknife over images, t"
# Measures that may order encoders, of each dropped alone or (as the paper has it of attention) kept alone.
ORDERING = (
    ("kl", False), ("reverse_kl", False), ("js", False), ("surprise", False), ("attention_kl", False),
    ("attention_js", False), ("attention_kl", True),
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A benchmark, a category or their mean: a measure of all masks; `kind` is benchmark, category or mean.

    `parts` are the benchmarks' cluster sums, to be resampled.
    """

    name: str
    kind: str
    scores: Scores
    documents: int
    parts: tuple[changes.Part, ...] = ()


@dataclass(frozen=True)
class Measured:
    """A measure of a mask in a place; `per` is "answer", "token" or "" (a document)."""

    measure: str
    per: str
    mask: Mask
    place: str
    kind: str
    documents: int
    number: Number


@dataclass(frozen=True)
class Agreement:
    """How well a measure of single drops (or of encoders) orders a model's encoders as CUR does.

    Rank correlations of the categories' means over `encoders`, and of the single cells (encoders in categories);
    `chance` is the share of orders of the encoders that agree at least as well. `categories` are those compared. With
    `kept` the measure is of each encoder kept alone, and the least stands for the greatest CUR.
    """

    measure: str
    kept: bool
    encoders: int
    categories: tuple[str, ...]
    kendall: Number
    spearman: Number
    chance: float
    cells: Number


@dataclass(frozen=True)
class OfEncoder:
    """A measure of an encoder dropped alone (or `kept` alone), or of its features, in a place."""

    encoder: str
    measure: str
    kept: bool
    per: str
    place: str
    number: Number


@dataclass(frozen=True)
class Beside:
    """What was measured of a model's encoders in categories and over these, beside their CUR.

    `cur` is the mean over the same categories as `MEAN` of the measures; `made_with` is the file's.
    """

    cur: Mapping[str, Number]
    numbers: tuple[OfEncoder, ...]
    agreements: tuple[Agreement, ...]
    made_with: Mapping[str, Any]


def beside(explained: Explained, table: ScoreTable, settings: Settings) -> Beside:
    """What was measured of the encoders of a model, beside its CUR.

    Args:
        explained: what was measured.
        table: scores of the same model.
        settings: level, and the seed of draws.
    """
    joined, found = join(table), list[OfEncoder]()
    asked = everything(explained, table.taxonomy, settings.level)
    for name in explained.encoders:
        for kept in (False, True):
            row = _row(explained, explained.encoders, name, kept)
            mask = None if row is None else explained.masks[row]
            found += [
                OfEncoder(name, each.measure, kept, each.per, each.place, each.number)
                for each in asked
                if each.mask == mask and each.measure != "again" and each.kind != "benchmark"
            ]
    for measure, values in explained.encoder_values.items():
        reason = "one number for all images"
        found += [
            OfEncoder(name, measure, False, "", MEAN, Number(value, reason=reason))
            for name, value in zip(explained.encoders, values, strict=True)
        ]
    measured = {each.place for each in asked if each.kind == "category"}
    own = [place for place in joined.categories if place.name in measured or not asked]
    own = [place for place in own if not np.isnan(place.scores.values[0])]
    cur = dict.fromkeys(joined.encoders, Number(math.nan, reason="no category was both scored and measured"))
    if own:
        estimates = overall_curs([place.scores for place in own], 0, joined.singles)
        low, high = intervals.t_interval(estimates, settings.level)
        ends = zip(estimates.values.tolist(), low.tolist(), high.tolist(), strict=True)
        cur = {name: Number(*each) for name, each in zip(joined.encoders, ends, strict=True)}
    return Beside(cur, tuple(found), tuple(agreements(explained, joined, settings)), explained.made_with)


def places(explained: Explained, measure: str, taxonomy: Taxonomy, per: str = ANSWER) -> list[Asked]:
    """A measure of all masks on every benchmark, in categories, and over these.

    A task that is in no benchmark of the taxonomy is a benchmark of its own name, in no category.

    Args:
        explained: what was measured.
        measure: one of MEASURES.
        taxonomy: categories and benchmarks.
        per: "token" divides by the number of the answers' tokens, of sums along answers.
    """
    of_task = {
        part.task: each
        for each in taxonomy.benchmarks
        for alternative in each.sources.get(explained.framework, ())
        for part in alternative
    }
    found, members = [], dict[str, list[Asked]]()
    groups = dict[str, list[int]]()
    for column, document in enumerate(explained.documents):
        known = of_task.get(document.task)
        groups.setdefault(document.task if known is None else known.name, []).append(column)
    categories = {each.name: each.category for each in taxonomy.benchmarks}
    for name, columns in groups.items():
        found.append(_benchmark(explained, measure, name, columns, per))
        if name in categories:
            members.setdefault(categories[name], []).append(found[-1])
    of_categories = [_mean(name, "category", members[name]) for name in taxonomy.categories if name in members]
    return [*found, *of_categories, *([_mean(MEAN, "mean", of_categories)] if of_categories else [])]


def _mean(name: str, kind: str, of: Sequence[Asked]) -> Asked:
    scores = covariance.mean([each.scores for each in of])
    return Asked(name, kind, scores, sum(each.documents for each in of), tuple(p for each in of for p in each.parts))


def _benchmark(explained: Explained, measure: str, name: str, columns: Sequence[int], per: str) -> Asked:
    """Mean over documents that have the measure, in clusters of equal images."""
    values = explained.values[measure][:, columns]
    ran = np.isfinite(values).any(axis=1)  # a measure of the full model alone has no other rows
    there = np.flatnonzero(np.isfinite(values).sum(axis=0) == ran.sum())
    if not len(there) or not ran.any():
        return Asked(name, "benchmark", covariance.unknown(np.full(len(values), np.nan)), 0)
    chosen = [explained.documents[columns[i]] for i in there.tolist()]
    images, cluster = np.unique([each.images for each in chosen], return_inverse=True)
    numerators, denominators = np.zeros((len(values), len(images))), np.zeros(len(images))
    np.add.at(numerators.T, cluster, values[:, there].T)
    np.add.at(denominators, cluster, [each.tokens if per == TOKEN else 1 for each in chosen])
    part = changes.Part(numerators, np.broadcast_to(denominators, numerators.shape), images, {})
    return Asked(name, "benchmark", covariance.benchmark(numerators, denominators), len(chosen), (part,))


def numbers(found: Asked, level: float) -> list[Number]:
    """A place's measure of each mask, with t intervals that end at 0."""
    # Without the pseudo unit, which is that of answers that are right or wrong.
    estimates = covariance.linear(found.scores, np.eye(len(found.scores.values)), pseudo_unit=False)
    low, high = intervals.t_interval(estimates, level)
    made = []
    for i, value in enumerate(estimates.values.tolist()):
        df = float(estimates.df[i])
        if math.isnan(value):
            made.append(Number(value, reason=NO_IMAGES))
        elif math.isnan(df):
            made.append(Number(value, clusters=found.scores.clusters, reason=ONE_IMAGE))
        else:
            ends = max(0.0, float(low[i])), float(high[i])
            se, clusters = float(estimates.se[i]), found.scores.clusters
            made.append(Number(value, *ends, se, df, clusters, _METHOD, note=few(df)))
    return made


def everything(explained: Explained, taxonomy: Taxonomy, level: float) -> list[Measured]:
    """Every measure of every mask in every place, per answer and per token where it is a sum along answers."""
    made = []
    for name in explained.values:
        for per in (ANSWER, TOKEN) if MEASURES[name].along_answer else ("",):
            for place in places(explained, name, taxonomy, per or ANSWER):
                made += [
                    Measured(name, per, mask, place.name, place.kind, place.documents, number)
                    for mask, number in zip(explained.masks, numbers(place, level), strict=True)
                ]
    return made


def agreements(explained: Explained, joined: Joined, settings: Settings) -> list[Agreement]:
    """How well each measure orders the encoders as CUR does, in the categories that both know.

    Documents of runs and of measures are resampled each for themselves: they are not the same ones.

    Args:
        explained: what was measured.
        joined: scores of the same model.
        settings: level, and the seed of resamples.
    """
    curs = {place.name: of_encoders.curs(joined, place).values for place in joined.categories}
    curs = {name: values for name, values in curs.items() if np.isfinite(values).all()}
    if not curs or len(joined.encoders) < 2:
        return []
    drawn = {place.name: _drawn_curs(joined, place, settings) for place in joined.categories if place.name in curs}
    found = []
    for measure, kept in ORDERING:
        rows = [_row(explained, joined.encoders, name, kept) for name in joined.encoders]
        if measure not in explained.values or None in rows:
            continue
        of_rows, sign = [row for row in rows if row is not None], -1 if kept else 1
        asked = [
            place
            for place in places(explained, measure, joined.table.taxonomy)
            if place.kind == "category" and place.name in curs and np.isfinite(place.scores.values[of_rows]).all()
        ]
        names = tuple(place.name for place in asked)
        if asked:
            values = np.stack([sign * place.scores.values[of_rows] for place in asked])
            of_measure = np.stack(
                [sign * _resampled(place.parts, settings.seed, place.name)[:, of_rows] for place in asked]
            )
            of_cur = np.stack([drawn[name] for name in names])
            cur = np.stack([curs[name] for name in names])
            found.append(_agreement(measure, kept, names, (cur, values), (of_cur, of_measure), settings.level))
    order = [explained.encoders.index(name) for name in joined.encoders]
    for measure, features in explained.encoder_values.items():
        fixed = np.array(features)[order][None]
        if np.isfinite(fixed).all():
            cur, of_cur = np.mean(list(curs.values()), 0)[None], np.mean(list(drawn.values()), 0)[None]
            same = np.broadcast_to(fixed, of_cur.shape)
            found.append(_agreement(measure, False, tuple(curs), (cur, fixed), (of_cur, same), settings.level))
    return found


def _row(explained: Explained, encoders: Sequence[str], name: str, kept: bool) -> int | None:
    """Row of the mask that drops an encoder, or keeps it alone."""
    dropped = {other for other in encoders if (other != name) == kept}
    return next((row for row, mask in enumerate(explained.masks) if set(mask) == dropped), None)


def _drawn_curs(joined: Joined, place: Place, settings: Settings) -> Array:
    """CURs (resamples, encoders) in a category; NaN where a benchmark has no samples."""
    rows, parts = [0, *joined.singles], []
    for part in place.parts:
        if part.answers is None or part.benchmark is None:
            return np.full((changes.RESAMPLES, len(joined.encoders)), np.nan)
        sums, weights = part.answers, part.benchmark.weights
        parts.append(changes.Part(sums.numerators[rows], sums.denominators[rows], sums.strata, weights))
    mean = _resampled(parts, settings.seed, f"CUR|{place.name}")
    return np.asarray(metrics.cur(mean[:, :1], mean[:, 1:]))


def _resampled(parts: Sequence[changes.Part], seed: int, label: str) -> Array:
    """(resamples, rows) of a category; NaN where one cluster is all there is, which would be drawn every time."""
    drawn = [
        changes.resampled(part, draws.generator(seed, f"agreement|{label}|{number}"))
        if part.numerators.shape[1] > 1
        else np.full((changes.RESAMPLES, len(part.numerators)), np.nan)
        for number, part in enumerate(parts)
    ]
    return np.asarray(np.mean(drawn, axis=0))


def _agreement(
    measure: str,
    kept: bool,
    names: tuple[str, ...],
    values: tuple[Array, Array],
    drawn: tuple[Array, Array],
    level: float,
) -> Agreement:
    """Of CUR and a measure: values (categories, encoders) and resamples (categories, resamples, encoders)."""
    means = tuple(np.round(each.mean(0), _DIGITS) for each in (*values, *drawn))
    kendall, spearman = (_number(of, means, level) for of in (changes.kendall, changes.spearman))
    cells = Number(math.nan, reason="one category" if len(names) < 2 else "one number for all categories")
    if len(values[0]) > 1:
        flat = [np.round(each.T.ravel(), _DIGITS) for each in values]
        flat += [np.round(np.moveaxis(each, 0, -1).reshape(each.shape[1], -1), _DIGITS) for each in drawn]
        cells = _number(changes.spearman, tuple(flat), level)
    return Agreement(
        measure, kept, values[0].shape[1], names, kendall, spearman, agreement.chance(means[0], means[1]), cells
    )


def _number(of: Callable[[Array, Array], Array], pairs: tuple[Array, ...], level: float) -> Number:
    """A rank correlation of a pair of values, with the percentiles of that of resampled ones."""
    value = float(of(pairs[0], pairs[1]))
    low, high = changes.percentiles(of(pairs[2], pairs[3]), level)
    if math.isnan(value) or math.isnan(low):
        return Number(value, reason="all are alike" if math.isnan(value) else UNKNOWN)
    method = f"bootstrap over clusters, {changes.RESAMPLES} resamples, percentiles"
    return Number(value, low, high, method=method)
