"""Tables of one model under zeros and with linear stand-ins: which encoders it relies on, and which it needs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from redundancy_eval.reports import cells, of_encoders
from redundancy_eval.reports.cells import HOLE, Cell
from redundancy_eval.reports.model import Model
from redundancy_eval.reports.tables import Row, Table
from redundancy_eval.uncertainty import OVERALL, Best, Need, Number
from redundancy_eval.uncertainty import Cell as Verdict

_RETRAINED = "retrained"
_COLUMNS = ("under zeros", "with stand-ins", "difference", _RETRAINED, "verdict")


def both(model: Model, place: str) -> Iterator[tuple[Verdict, Verdict, Need]]:
    """Each encoder's verdict under zeros, with stand-ins, and of both; nothing without stand-ins."""
    for name in model.table.encoders if model.stand_ins else ():
        need = model.need(name, place)
        if model.stand_ins and need:
            yield model.cell(name, place), model.stand_ins.cell(name, place), need


def need(models: Sequence[Model]) -> Table:
    """CUR under zeros, with stand-ins, their difference and what both say of an encoder, overall; records of all."""
    rows = [(m.name, each[2].encoder, _cells(m, *each)) for m in models for each in both(m, OVERALL)]
    places = {m.name: (OVERALL, *(place for place in m.measured if place != OVERALL)) for m in models}
    records = tuple(_record(m, *each) for m in models for place in places[m.name] for each in both(m, place))
    return replace(_table("need", "Relied on and needed (CUR, %)", models, rows), records=records)


def by_category(models: Sequence[Model]) -> Table:
    """The same of every category."""
    rows = [
        (m.name, f"{each[2].encoder}, {place}", _cells(m, *each))
        for m in models
        for place in m.measured
        for each in (both(m, place) if place != OVERALL else ())
    ]
    return _table("need_categories", "Relied on and needed, by category (CUR, %)", models, rows)


def _table(
    stem: str, title: str, models: Sequence[Model], rows: Sequence[tuple[str, str, Mapping[str, Cell]]]
) -> Table:
    """A table without the column of retrained models where there are none."""
    columns = [*_COLUMNS] if any(m.retrained for m in models) else [name for name in _COLUMNS if name != _RETRAINED]
    made = tuple(Row(model, label, tuple(found[name] for name in columns)) for model, label, found in rows)
    return Table(stem, title, "encoder", tuple(columns), made)


def _cells(model: Model, zeros: Verdict, predicted: Verdict, need: Need) -> Mapping[str, Cell]:
    retrained = model.retrained.get((need.encoder, need.place))
    found = (
        cells.of(zeros.cur, 100), cells.of(predicted.cur, 100), cells.of(need.difference, 100),
        Cell(text=HOLE) if retrained is None else cells.of(retrained, 100), Cell(text=_word(need, predicted)),
    )  # fmt: skip
    return dict(zip(_COLUMNS, found, strict=True))


def _word(need: Need, predicted: Verdict) -> str:
    """What both say; where stand-ins leave it undecided, with about how many documents would decide."""
    return of_encoders.verdict(predicted) if need.verdict == predicted.verdict else need.verdict


def _record(model: Model, zeros: Verdict, predicted: Verdict, need: Need) -> Mapping[str, object]:
    retrained = model.retrained.get((need.encoder, need.place), Number(math.nan))
    return {
        "model": model.name, "encoder": need.encoder, "category": need.place, "verdict": need.verdict,
        **_under("zeros_", zeros), **_under("predicted_", predicted),
        **cells.fields(replace(need.difference, value=cells.rounded(need.difference.value)), "difference_"),
        **cells.fields(replace(retrained, value=cells.rounded(retrained.value)), "retrained_"),
    }  # fmt: skip


def _under(prefix: str, cell: Verdict) -> Mapping[str, object]:
    number = cell.cur
    return {
        f"{prefix}cur": number.value, f"{prefix}low": cells.rounded(number.low),
        f"{prefix}high": cells.rounded(number.high), f"{prefix}verdict": cell.verdict,
    }  # fmt: skip


def subsets(models: Sequence[Model]) -> Table:
    """The best mask of each size under zeros, and with stand-ins."""
    rows, records = [], []
    for model in models:
        if model.stand_ins is None:
            continue
        found = {each.kept: each for each in model.analysis.best}
        others = {each.kept: each for each in model.stand_ins.analysis.best}
        for kept in sorted({*found, *others}, reverse=True):
            pair = found.get(kept), others.get(kept)
            made = tuple(cell for each in pair for cell in _best(model, each))
            rows.append(Row(model.name, f"{kept} encoder{'s' * (kept > 1)}", made))
            for ablation, each in zip(("zero", "predicted"), pair, strict=True):
                if each is not None:
                    mask = "+".join(model.ordered(each.mask))
                    records.append(
                        {
                            "model": model.name, "encoders": kept, "ablation": ablation, "dropped": mask,
                            **cells.fields(each.points), "after_selection": cells.rounded(each.after_selection),
                            **cells.fields(each.to_full, "to_full_"), "run": each.run, "possible": each.possible,
                        }
                    )  # fmt: skip
    columns = ("best under zeros", "points", "best with stand-ins", "points")
    return Table(
        "need_subsets", "The best masks under zeros and with stand-ins", "kept", columns, tuple(rows),
        records=tuple(records),
    )  # fmt: skip


def _best(model: Model, best: Best | None) -> tuple[Cell, Cell]:
    if best is None or not math.isfinite(best.points.value):
        return Cell(text=HOLE), Cell(text=HOLE)
    return Cell(text=model.mask_name(best.mask)), cells.of(best.points)
