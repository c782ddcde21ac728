"""Tables of what was measured without labels: beside CUR, and how well each measure orders the encoders as CUR does."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redundancy_eval.explain_file import ENCODER_MEASURES, MEASURES
from redundancy_eval.reports import cells
from redundancy_eval.reports.cells import HOLE, Cell
from redundancy_eval.reports.model import Model
from redundancy_eval.reports.tables import Row, Table
from redundancy_eval.uncertainty import Number
from redundancy_eval.uncertainty.measures import MEAN, Beside

STEMS = EXPLAIN, AGREEMENT = ("explain", "explain_agreement")


@dataclass(frozen=True)
class _Column:
    """A measure of single drops, or (`kept`) of encoders kept alone, or of their features."""

    measure: str
    kept: bool = False

    @property
    def title(self) -> str:
        known = MEASURES.get(self.measure) or ENCODER_MEASURES[self.measure]
        return f"{known.title}{', kept alone' if self.kept else ''} ({known.unit})"


# What stands beside CUR; the files of numbers have the rest.
_SHOWN = (
    _Column("kl"), _Column("js"), _Column("surprise"), _Column("attention_kl"), _Column("attention_kl", True),
    _Column("attention_mass"), _Column("rank_share"), _Column("difference"), _Column("untold"),
)  # fmt: skip


def explain(models: Sequence[Model]) -> Table:
    """CUR of every encoder beside the measures, as means over the categories that were measured."""
    known = [model for model in models if model.beside is not None]
    shown = [column for column in _SHOWN if any(_numbers(_of(model), column) for model in known)]
    decimals = {
        column: _decimals(number for model in known for number in _numbers(_of(model), column).values())
        for column in shown
    }
    rows, records = [], []
    for model in known:
        beside = _of(model)
        for name in model.table.encoders:
            made = [cells.of(beside.cur[name], 100)]
            made += [_cell(_numbers(beside, column).get(name), decimals[column]) for column in shown]
            rows.append(Row(model.name, name, tuple(made)))
        records += [
            {
                "model": model.name, "encoder": each.encoder, "measure": each.measure,
                "kept_alone": each.kept, "per": each.per, "place": each.place, **cells.fields(each.number),
            }
            for each in beside.numbers
        ]  # fmt: skip
    columns = ("CUR (%)", *(column.title for column in shown))
    return Table(EXPLAIN, "Inside the model, without labels", "encoder", columns, tuple(rows), records=tuple(records))


def agreement(models: Sequence[Model]) -> Table:
    """Rank correlation of each measure with CUR."""
    rows, records = [], []
    for model in models:
        for each in model.beside.agreements if model.beside is not None else ():
            label = _Column(each.measure, each.kept).title
            made = (
                cells.of(each.kendall), cells.of(each.spearman), Cell(text=cells.p_value(each.chance)),
                cells.of(each.cells, missing=HOLE),
            )  # fmt: skip
            rows.append(Row(model.name, label, made))
            records.append(
                {
                    "model": model.name, "measure": each.measure, "kept_alone": each.kept, "encoders": each.encoders,
                    "categories": "; ".join(each.categories), **_ends(each.kendall, "kendall"),
                    **_ends(each.spearman, "spearman"), "chance": cells.rounded(each.chance),
                    **_ends(each.cells, "cells_spearman"), "reason": each.kendall.reason or each.cells.reason,
                }
            )  # fmt: skip
    columns = ("Kendall's tau", "Spearman's rho", "by chance", "rho over encoders in categories")
    return Table(
        AGREEMENT, "Inside the model: rank correlation with CUR", "measure", columns, tuple(rows),
        records=tuple(records),
    )  # fmt: skip


def _of(model: Model) -> Beside:
    assert model.beside is not None
    return model.beside


def _numbers(beside: Beside, column: _Column) -> Mapping[str, Number]:
    return {
        each.encoder: each.number
        for each in beside.numbers
        if (each.measure, each.kept, each.place) == (column.measure, column.kept, MEAN) and each.per != "token"
    }


def _cell(number: Number | None, digits: int) -> Cell:
    if number is None or math.isnan(number.value):
        return Cell(text=HOLE if number is None else "")
    return Cell(number.value, number.low, number.high, digits=digits)


def _decimals(numbers: Iterable[Number]) -> int:
    """So many, from two to four, that the smallest number of a column has two digits that count."""
    smallest = min((abs(each.value) for each in numbers if math.isfinite(each.value) and each.value), default=1.0)
    return min(4, max(2, 1 - math.floor(math.log10(smallest))))


def _ends(number: Number, name: str) -> Mapping[str, float]:
    return {name: cells.rounded(number.value), f"{name}_low": cells.rounded(number.low),
            f"{name}_high": cells.rounded(number.high)}  # fmt: skip


def as_json(model: Model) -> object:
    """All of it for machines; None where nothing was measured."""
    if model.beside is None:
        return None
    return {
        "made_with": dict(model.beside.made_with),
        "cur": {name: _ends(number, "value") for name, number in model.beside.cur.items()},
        "numbers": [
            {"encoder": each.encoder, "measure": each.measure, "kept_alone": each.kept, "per": each.per,
             "place": each.place, **_ends(each.number, "value")}
            for each in model.beside.numbers
        ],
        "agreement": [dict(each) for each in agreement([model]).records],
    }  # fmt: skip
