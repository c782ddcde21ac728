"""Label-free measures of a model's masks: means with intervals, and how well they order encoders as CUR does.

Means are those of scores (docs/numbers.md): of a benchmark over its documents, of a category over its benchmarks, then
over the categories. The same documents are put to all masks. Intervals are the jackknife's over images, as elsewhere;
no measure is below 0, so no interval is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from redundancy_eval.explain_file import MEASURES, Explained
from redundancy_eval.statistics import agreement, covariance, draws, intervals
from redundancy_eval.statistics.covariance import Array, Estimates, Scores
from redundancy_eval.statistics.cur import overall_curs
from redundancy_eval.table import Mask, ScoreTable
from redundancy_eval.taxonomy import Taxonomy
from redundancy_eval.uncertainty import encoders as of_encoders
from redundancy_eval.uncertainty.join import Joined, join
from redundancy_eval.uncertainty.numbers import NOT_KNOWN, few
from redundancy_eval.uncertainty.results import Number, Settings

MEAN = "Mean"  # over the categories that were asked; "Overall" is over all that the taxonomy has
ANSWER, TOKEN = "answer", "token"
ONE_IMAGE = "one image or group is all that was asked"
NO_IMAGES = "no document with images was asked"
_METHOD = "jackknife over images, t"
# Measures that may order encoders, of each dropped alone or (as the paper has it of attention) kept alone.
ORDERING = (
    ("kl", False), ("reverse_kl", False), ("js", False), ("surprise", False), ("attention_kl", False),
    ("attention_js", False), ("attention_kl", True),
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A benchmark, a category or their mean: a measure of all masks; `kind` is benchmark, category or mean."""

    name: str
    kind: str
    scores: Scores
    documents: int


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
    """What was measured of a model's encoders, beside their CUR.

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
                if each.mask == mask and each.measure != "again"
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
    found, members = [], dict[str, list[Scores]]()
    counts = dict[str, int]()
    groups = dict[str, list[int]]()
    for column, document in enumerate(explained.documents):
        known = of_task.get(document.task)
        groups.setdefault(document.task if known is None else known.name, []).append(column)
    categories = {each.name: each.category for each in taxonomy.benchmarks}
    for name, columns in groups.items():
        scores, count = _benchmark(explained, measure, columns, per)
        found.append(Asked(name, "benchmark", scores, count))
        if name in categories:
            members.setdefault(categories[name], []).append(scores)
            counts[categories[name]] = counts.get(categories[name], 0) + count
    of_categories = [
        Asked(name, "category", covariance.mean(members[name]), counts[name])
        for name in taxonomy.categories
        if name in members
    ]
    if of_categories:
        mean = covariance.mean([each.scores for each in of_categories])
        of_categories.append(Asked(MEAN, "mean", mean, sum(each.documents for each in of_categories)))
    return [*found, *of_categories]


def _benchmark(explained: Explained, measure: str, columns: Sequence[int], per: str) -> tuple[Scores, int]:
    """Mean over documents that have the measure, in clusters of equal images."""
    values = explained.values[measure][:, columns]
    ran = np.isfinite(values).any(axis=1)  # a measure of the full model alone has no other rows
    there = np.isfinite(values[ran]).all(axis=0) & ran.any()
    chosen = [explained.documents[column] for column, has in zip(columns, there, strict=True) if has]
    if not chosen:
        return covariance.unknown(np.full(len(values), np.nan)), 0
    names, cluster = np.unique([each.images for each in chosen], return_inverse=True)
    numerators, denominators = np.zeros((len(values), len(names))), np.zeros(len(names))
    np.add.at(numerators.T, cluster, values[:, there].T)
    np.add.at(denominators, cluster, [each.tokens if per == TOKEN else 1 for each in chosen])
    return covariance.benchmark(numerators, denominators), len(chosen)


def numbers(found: Asked, level: float) -> list[Number]:
    """A place's measure of each mask, with t intervals that end at 0."""
    estimates = _plain(found.scores)
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


def _plain(scores: Scores, rows: Sequence[int] | None = None) -> Estimates:
    """Without the pseudo unit, which is that of answers that are right or wrong."""
    contrasts = np.eye(len(scores.values))
    return covariance.linear(scores, contrasts if rows is None else contrasts[list(rows)], pseudo_unit=False)


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

    Args:
        explained: what was measured.
        joined: scores of the same model.
        settings: level, and the seed of draws.
    """
    curs = {place.name: of_encoders.curs(joined, place) for place in joined.categories}
    curs = {name: each for name, each in curs.items() if not np.isnan(each.values).any()}
    if not curs or len(joined.encoders) < 2:
        return []
    found = []
    for measure, kept in ORDERING:
        rows = [_row(explained, joined.encoders, name, kept) for name in joined.encoders]
        if measure not in explained.values or None in rows:
            continue
        of_place = {
            place.name: _plain(place.scores, [row for row in rows if row is not None])
            for place in places(explained, measure, joined.table.taxonomy)
            if place.kind == "category" and place.name in curs
        }
        of_place = {name: each for name, each in of_place.items() if not np.isnan(each.values).any()}
        if of_place:
            found.append(_of_masks(measure, kept, curs, of_place, settings))
    order = [explained.encoders.index(name) for name in joined.encoders]
    drawn = {name: _drawn(each, settings.seed, f"encoders|{name}") for name, each in curs.items()}
    for measure, values in explained.encoder_values.items():
        if np.isfinite(values).all():
            fixed = np.array(values)[order]
            cur = np.mean([each.values for each in curs.values()], axis=0)
            mean = np.mean(list(drawn.values()), axis=0)
            found.append(_correlated(measure, False, tuple(curs), (cur, fixed), (mean, fixed), settings))
    return found


def _row(explained: Explained, encoders: Sequence[str], name: str, kept: bool) -> int | None:
    """Row of the mask that drops an encoder, or keeps it alone."""
    dropped = {other for other in encoders if (other != name) == kept}
    return next((row for row, mask in enumerate(explained.masks) if set(mask) == dropped), None)


def _of_masks(
    measure: str, kept: bool, curs: Mapping[str, Estimates], values: Mapping[str, Estimates], settings: Settings
) -> Agreement:
    names, sign = tuple(name for name in curs if name in values), -1 if kept else 1
    label = f"{measure}|{'kept' if kept else 'dropped'}"
    ours = np.stack([curs[name].values for name in names])  # (categories, encoders)
    theirs = sign * np.stack([values[name].values for name in names])
    drawn = np.stack([_drawn(curs[name], settings.seed, f"{label}|{name}|CUR") for name in names])
    of_measure = sign * np.stack([_drawn(values[name], settings.seed, f"{label}|{name}|measure") for name in names])
    means = (ours.mean(0), theirs.mean(0)), (drawn.mean(0), of_measure.mean(0))
    made = _correlated(measure, kept, names, *means, settings)
    if len(names) < 2:
        return made
    flat = [np.moveaxis(each, 0, -1).reshape(agreement.DRAWS, -1) for each in (drawn, of_measure)]
    value = float(agreement.spearman(ours.T.ravel(), theirs.T.ravel()))
    return replace(made, cells=_number(value, agreement.spearman(*flat), settings.level))


def _correlated(
    measure: str,
    kept: bool,
    names: tuple[str, ...],
    values: tuple[Array, Array],
    drawn: tuple[Array, Array],
    settings: Settings,
) -> Agreement:
    """Of CUR and a measure: their values (encoders,), and draws (draws, encoders) of each."""
    kendall, spearman = (
        _number(float(of(*values)), of(*np.broadcast_arrays(*drawn)), settings.level)
        for of in (agreement.kendall, agreement.spearman)
    )
    cells = Number(math.nan, reason="one category" if len(names) < 2 else "one number for all categories")
    return Agreement(measure, kept, len(values[0]), names, kendall, spearman, agreement.chance(*values), cells)


def _drawn(found: Estimates, seed: int, label: str) -> Array:
    """(draws, encoders) of the law of estimates; NaN where it is not known."""
    if np.isnan(found.covariance).any():
        return np.full((agreement.DRAWS, len(found.values)), np.nan)
    rng = draws.generator(seed, f"agreement|{label}")
    noise = draws.of_draws(found.covariance, float(found.df.min()), rng, lambda each: each, agreement.DRAWS)
    return np.asarray(found.values + noise)


def _number(value: float, drawn: Array, level: float) -> Number:
    """Percentiles of draws. Their noise moves orders apart, so they lie low: the interval holds the value anyway."""
    if math.isnan(value):
        return Number(value, reason="all are alike")
    if not np.isfinite(drawn).all():
        return Number(value, reason=NOT_KNOWN)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Number(value, float(min(low, value)), float(max(high, value)), method="draws of CUR and measure")
