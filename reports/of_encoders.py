"""Tables of encoders: verdicts, CUR, IG, floor, Shapley values, pairs, changed answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from redundancy_eval.reports import cells
from redundancy_eval.reports.cells import HOLE, Cell
from redundancy_eval.reports.model import Model
from redundancy_eval.reports.tables import Row, Table
from redundancy_eval.statistics import verdicts as tests
from redundancy_eval.uncertainty import OVERALL, Gap, Number
from redundancy_eval.uncertainty import Cell as Verdict


def verdict(cell: Verdict) -> str:
    """A verdict as it is printed; where undecided, with about how many documents would decide."""
    if cell.verdict != tests.UNDECIDED or not math.isfinite(cell.documents_to_decide):
        return cell.verdict
    return f"{cell.verdict} ({cell.documents_to_decide:,.0f})"


def verdicts(models: Sequence[Model]) -> Table:
    """A word for every encoder in every category and overall."""
    rows = [
        Row(model.name, name, tuple(Cell(text=verdict(model.cell(name, place))) for place in model.places))
        for model in models
        for name in model.table.encoders
    ]
    return Table("verdicts", "Verdicts", "encoder", models[0].places, tuple(rows))


def cur(models: Sequence[Model]) -> Table:
    """CUR of every encoder, and all that was tested of it."""
    rows, records = [], []
    for model in models:
        for name in model.table.encoders:
            found = [model.cell(name, place) for place in model.places]
            made = tuple(cells.of(each.cur, 100, stars=cells.stars(each.p_adjusted)) for each in found)
            rows.append(Row(model.name, name, made))
            for each in found:
                tested = ("p", "p_adjusted", "p_equivalence", "p_equivalence_adjusted")
                records.append(
                    {
                        "model": model.name, "encoder": name, "category": each.place, **cells.fields(each.cur),
                        **{test: cells.rounded(getattr(each, test)) for test in tested},
                        "verdict": each.verdict, "documents": _count(each.documents),
                        "documents_to_decide": _count(each.documents_to_decide),
                        "smallest_margin": cells.rounded(each.smallest_margin),
                        **cells.fields(each.floor_corrected, "floor_corrected_"),
                    }
                )  # fmt: skip
    return Table(
        "cur", "Conditional Utilization Rate (%)", "encoder", models[0].places, tuple(rows),
        ranked=True, records=tuple(records),
    )  # fmt: skip


def _count(documents: float) -> int | str:
    return int(documents) if math.isfinite(documents) else ""


def gaps(models: Sequence[Model]) -> Table:
    """IG of every category and overall, beside what equally useful encoders would show; for reading."""
    rows = []
    for model in models:
        for place in model.measured:
            gap = model.gap(place)
            made = (
                cells.of(gap.ig, 100), Cell(100 * gap.null, digits=1), Cell(text=cells.p_value(gap.p)),
                Cell(text=", ".join(gap.largest)), Cell(text=", ".join(gap.smallest)),
            )  # fmt: skip
            rows.append(Row(model.name, place, made))
    columns = ("IG", "equally useful: up to", "p", "largest", "smallest")
    return Table("gaps", "Information Gap (%)", "category", columns, tuple(rows), latex=False)


def information_gap(models: Sequence[Model]) -> Table:
    """IG in the paper's form, a row for each model."""
    rows, records = [], []
    for model in models:
        found = [model.gap(place) for place in model.places]
        adjusted = _adjusted(found)
        made = tuple(cells.of(gap.ig, 100, stars=cells.stars(adjusted[gap.place])) for gap in found)
        rows.append(Row("", model.name, made))
        for gap in found:
            records.append(
                {
                    "model": model.name, "category": gap.place, **cells.fields(gap.ig),
                    "null": cells.rounded(gap.null), "p": cells.rounded(gap.p),
                    "p_adjusted": cells.rounded(adjusted[gap.place]),
                    "largest": "; ".join(gap.largest), "smallest": "; ".join(gap.smallest),
                }
            )  # fmt: skip
    return Table(
        "ig", "Information Gap (%)", "model", models[0].places, tuple(rows),
        records=tuple(records), markdown=False,
    )  # fmt: skip


def _adjusted(gaps: Sequence[Gap]) -> Mapping[str, float]:
    """p after Holm over the categories; overall is a family of its own."""
    within = [gap for gap in gaps if gap.place != OVERALL]
    adjusted = tests.holm(np.array([gap.p for gap in within]))
    return {gap.place: gap.p for gap in gaps} | {g.place: float(p) for g, p in zip(within, adjusted, strict=True)}


def floor(models: Sequence[Model]) -> Table:
    """What is left with all encoders dropped."""
    rows, records = [], []
    for model in models:
        for place in model.measured:
            found = model.floor(place)
            if found is None:
                continue
            below = [model.mask_name(mask) for mask in found.below]
            rows.append(
                Row(
                    model.name, place,
                    (cells.of(found.points), cells.of(found.headroom), Cell(text=", ".join(below) or "none")),
                )
            )  # fmt: skip
            records.append(
                {
                    "model": model.name, "category": place, **cells.fields(found.points),
                    **cells.fields(found.headroom, "headroom_"), "below": "; ".join(below),
                }
            )  # fmt: skip
    columns = ("all dropped", "headroom", "masks below it")
    return Table("floor", "Floor (points)", "category", columns, tuple(rows), records=tuple(records))


def corrected(models: Sequence[Model]) -> Table:
    """CUR relative to the headroom above the floor."""
    rows = [
        Row(
            model.name,
            name,
            tuple(cells.of(model.cell(name, place).floor_corrected, 100) for place in model.places),
        )
        for model in models
        for name in model.table.encoders
    ]
    return Table("corrected", "Floor-corrected CUR (%)", "encoder", models[0].places, tuple(rows))


def shapley(models: Sequence[Model]) -> Table:
    """Shapley values in points, and their share of the headroom."""
    rows, records = [], []
    for model in models:
        for name in model.table.encoders if model.analysis.shares else ():
            found = {place: share for place in model.places if (share := model.share(name, place))}
            made = [cells.of(found[place].shapley) for place in model.places]
            rows.append(Row(model.name, name, (*made, cells.of(found[OVERALL].of_headroom, 100))))
            records += [
                {
                    "model": model.name, "encoder": name, "category": place, **cells.fields(share.shapley),
                    **cells.fields(share.of_headroom, "of_headroom_"), **cells.fields(share.banzhaf, "banzhaf_"),
                }
                for place, share in found.items()
            ]  # fmt: skip
    columns = (*models[0].places, "% of headroom")
    return Table("shapley", "Shapley values (points)", "encoder", columns, tuple(rows), records=tuple(records))


def pairs(models: Sequence[Model]) -> Table:
    """How pairs of encoders act together."""
    rows, records = [], []
    for model in models:
        order = model.table.encoders
        for each in sorted(model.analysis.pairs, key=lambda p: sorted(order.index(name) for name in p.encoders)):
            name = "+".join(model.ordered(each.encoders))
            contexts = each.contexts or Number(math.nan)
            if each.place == OVERALL:
                made = (
                    cells.of(each.at_full), Cell(text=each.at_full_word),
                    cells.of(contexts), Cell(text=each.contexts_word or cells.UNDEFINED),
                )  # fmt: skip
                rows.append(Row(model.name, name, made))
            records.append(
                {
                    "model": model.name, "pair": name, "category": each.place, **cells.fields(each.at_full),
                    "word": each.at_full_word, "p_adjusted": cells.rounded(each.at_full_p_adjusted),
                    **cells.fields(contexts, "contexts_"), "contexts_word": each.contexts_word,
                    "contexts_p_adjusted": cells.rounded(each.contexts_p_adjusted),
                }
            )  # fmt: skip
    columns = ("at the full model", "which is", "over all contexts", "which are")
    return Table("pairs", "Pairs of encoders (overall points)", "pair", columns, tuple(rows), records=tuple(records))


def shared(models: Sequence[Model]) -> Table:
    """What leave-one-out tables can say of encoders together."""
    rows, records = [], []
    for model in models:
        for each in model.analysis.shared:
            if each.place in model.measured:
                rows.append(Row(model.name, each.place, (cells.of(each.points), cells.of(each.together))))
            records.append(
                {
                    "model": model.name, "category": each.place, **cells.fields(each.points),
                    **cells.fields(each.together, "together_"),
                }
            )  # fmt: skip
    columns = ("lost only when several are dropped", "given together")
    return Table(
        "shared", "What encoders give together (points)", "category", columns, tuple(rows),
        records=tuple(records),
    )  # fmt: skip


def changed(models: Sequence[Model]) -> Table:
    """Answers that change their score when an encoder is dropped, and in a second run of the full model."""
    rows, records = [], []
    for model in models:
        again = {each.place: each for each in model.analysis.reruns}
        if again:
            made = tuple(cells.of(again[place].share, 100) for place in model.places)
            rows.append(Row(model.name, "second run", (*made, Cell(text=HOLE))))
            records += [
                {
                    "model": model.name, "dropped": "", "category": place, **cells.fields(each.share),
                    **cells.fields(each.cur, "cur_"), **cells.fields(Number(math.nan), "above_rerun_"),
                    "no_more_than_rerun": "",
                }
                for place, each in again.items()
            ]  # fmt: skip
        found = {(each.encoder, each.place): each for each in model.analysis.changed}
        for name in model.table.encoders:
            mine = [found[name, place] for place in model.places]
            words = {True: "no more than a second run", False: "may be more than a second run", None: HOLE}
            word = words[mine[-1].no_more_than_rerun]
            rows.append(Row(model.name, f"without {name}", (*(cells.of(e.share, 100) for e in mine), Cell(text=word))))
            records += [
                {
                    "model": model.name, "dropped": name, "category": each.place, **cells.fields(each.share),
                    **cells.fields(Number(math.nan), "cur_"), **cells.fields(each.above_rerun, "above_rerun_"),
                    "no_more_than_rerun": "" if each.no_more_than_rerun is None else each.no_more_than_rerun,
                }
                for each in mine
            ]  # fmt: skip
    columns = (*models[0].places, "overall it changes")
    if not any(model.analysis.reruns for model in models):  # nothing to compare with
        columns = models[0].places
        rows = [replace(row, cells=row.cells[:-1]) for row in rows]
    return Table("changed", "Answers whose score changes (%)", "mask", columns, tuple(rows), records=tuple(records))
