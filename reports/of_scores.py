"""Tables of masks: their scores on benchmarks and in categories, and the best ones of each size."""

import math
from collections.abc import Sequence

from redundancy_eval.reports import cells
from redundancy_eval.reports.cells import HOLE, Cell
from redundancy_eval.reports.model import FULL, Model
from redundancy_eval.reports.tables import Record, Row, Table
from redundancy_eval.table import Mask
from redundancy_eval.uncertainty import OVERALL


def benchmarks(models: Sequence[Model]) -> Table:
    """Points of every mask on every benchmark."""
    there = {b.name: b.category for model in models for b in model.table.benchmarks}
    names = [b.name for b in models[0].table.taxonomy.benchmarks if b.name in there]
    rows, records = _scores(models, [(name, "benchmark") for name in names])
    return Table(
        "benchmarks", "Score on each benchmark (points)", "mask", tuple(names), rows,
        spans=tuple(there[name] for name in names), ranked=True, better=True, records=records,
    )  # fmt: skip


def scores(models: Sequence[Model]) -> Table:
    """Points of every mask in every category and overall."""
    places = models[0].places
    rows, records = _scores(models, [(name, _kind(name)) for name in places])
    return Table(
        "scores", "Score in each category (points)", "mask", places, rows,
        ranked=True, better=True, records=records,
    )  # fmt: skip


def _kind(place: str) -> str:
    return "overall" if place == OVERALL else "category"


def _scores(models: Sequence[Model], places: Sequence[tuple[str, str]]) -> tuple[tuple[Row, ...], tuple[Record, ...]]:
    rows, records = [], []
    for model in models:
        own = {b.name for b in model.table.benchmarks}
        for mask in model.table.masks:
            found = {
                place: model.score(mask, place, kind) for place, kind in places if kind != "benchmark" or place in own
            }
            name = model.mask_name(mask)
            made = tuple(
                cells.of(found[place], missing=HOLE) if place in found else Cell(text=HOLE) for place, _ in places
            )
            rows.append(Row(model.name, name, made))
            records += [
                {"model": model.name, "mask": name, kind: place, **cells.fields(found[place])}
                for place, kind in places
                if place in found
            ]
    return tuple(rows), _one_column(records)


def _one_column(records: Sequence[Record]) -> tuple[Record, ...]:
    """Categories and overall stand in one column."""
    return tuple({("category" if key == "overall" else key): value for key, value in each.items()} for each in records)


def variants(models: Sequence[Model]) -> Table:
    """The full model and, for each number of encoders kept, its best variant by overall score; and the changes."""
    places = models[0].places
    rows, records = [], []
    for model in models:
        full: Mask | None = () if () in model.table.masks else None
        for name, mask in _variants(model):
            made = []
            for place in places:
                value = model.score(mask, place, _kind(place)).value
                base = math.nan if full is None or not mask else model.score(full, place, _kind(place)).value
                made.append(Cell(text=HOLE) if math.isnan(value) else Cell(value, change=value - base))
                records.append(
                    {"model": model.name, "variant": name, "category": place, "value": value, "change": value - base}
                )
            rows.append(Row(model.name, name, tuple(made)))
    return Table(
        "variants", "Best variant of each size (points; change)", "variant", places, tuple(rows),
        better=True, records=tuple(records),
    )  # fmt: skip


def _variants(model: Model) -> list[tuple[str, Mask]]:
    table, n = model.table, len(model.table.encoders)
    overall = {mask: model.score(mask, OVERALL, "overall").value for mask in table.masks}
    chosen = {n - each.kept: model.ordered(each.mask) for each in model.analysis.best}
    found = []
    for dropped in range(n + table.guessed):
        masks = [mask for mask in table.masks if len(mask) == dropped and not math.isnan(overall[mask])]
        if not masks:
            continue
        if not dropped:
            found.append((FULL, masks[0]))
            continue
        best = chosen.get(dropped, max(masks, key=lambda mask: overall[mask]))
        of = "?" if table.guessed else math.comb(n, dropped)
        note = "" if len(masks) == of else f" (best of {len(masks)}/{of})"
        size = f"{dropped} dropped" if table.guessed else f"{n - dropped} encoder{'s' * (n - dropped != 1)}"
        found.append((f"{size}: {model.mask_name(best)}{note}", best))
    return found


def selection(models: Sequence[Model]) -> Table:
    """The best mask of each size by the overall score, by an estimate that is honest after the choice."""
    rows, records = [], []
    for model in models:
        for each in model.analysis.best:
            name = model.mask_name(each.mask)
            alike = [model.mask_name(mask) for mask in each.not_told_apart]
            listed = f": {', '.join(alike)}" if len(alike) <= 4 else ""
            size = f"{each.kept} encoder{'s' * (each.kept != 1)}"
            made = (
                Cell(text=name), Cell(each.points.value), Cell(each.after_selection, each.points.low, each.points.high),
                cells.of(each.to_full),
                Cell(text=f"{len(alike)} of {each.run}{listed}" if alike else ""),
                Cell(text=f"{each.run} of {each.possible}"),
            )  # fmt: skip
            rows.append(Row(model.name, size, made))
            records.append(
                {
                    "model": model.name, "encoders": each.kept, "best": name, "run": each.run,
                    "possible": each.possible, **cells.fields(each.points),
                    "after_selection": cells.rounded(each.after_selection), **cells.fields(each.to_full, "change_"),
                    "not_told_apart": "; ".join(alike),
                }
            )  # fmt: skip
    columns = ("best", "points", "after selection", "change to full", "not told from the best", "run")
    return Table(
        "selection", "Best masks of each size, after the choice (overall points)", "encoders kept", columns,
        tuple(rows), records=tuple(records),
    )  # fmt: skip


def keeps(models: Sequence[Model]) -> Table:
    """The smallest masks that keep a share of the full model's overall score."""
    rows, records = [], []
    for model in models:
        for each in model.analysis.keeps:
            by, shown = (
                model.mask_name(mask) if mask is not None else "none"
                for mask in (each.by_the_numbers, each.shown)
            )  # fmt: skip
            shown = cells.UNDEFINED if each.reason else shown
            rows.append(Row(model.name, f"{100 * each.share:g} %", (Cell(text=by), Cell(text=shown))))
            records.append(
                {
                    "model": model.name, "share": each.share, "by_the_numbers": by, "shown": shown,
                    "candidates": each.candidates, "reason": each.reason,
                }
            )  # fmt: skip
    return Table(
        "keeps", "Fewest encoders that keep a share of the full model's overall score", "keeps",
        ("by the numbers", "shown"), tuple(rows), records=tuple(records),
    )  # fmt: skip


def router(models: Sequence[Model]) -> Table:
    """What choosing a mask for each task, or each question, could gain over the full model."""
    rows, records = [], []
    for model in models:
        for each in model.analysis.routers:
            gains = (each.by_task, each.checked, each.oracle, each.guessing)
            if each.place in model.measured if each.kind != "benchmark" else not math.isnan(each.checked):
                rows.append(Row(model.name, each.place, tuple(Cell(gain, digits=1) for gain in gains)))
            names = ("by_task", "checked", "oracle", "guessing")
            records.append(
                {
                    "model": model.name, "place": each.place, "kind": each.kind, "masks": each.masks,
                    **{name: cells.rounded(gain) for name, gain in zip(names, gains, strict=True)},
                    "reason": each.reason,
                }
            )  # fmt: skip
    columns: tuple[str, ...] = ("by task", "checked on replicates", "any mask right", "by guessing")
    if all(math.isnan(row.cells[1].value) for row in rows):  # no benchmark asks a question more than once
        columns = (columns[0], *columns[2:])
        rows = [Row(row.model, row.label, (row.cells[0], *row.cells[2:])) for row in rows]
    return Table(
        "router", "What choosing the mask could gain (points above the full model)", "category", columns, tuple(rows),
        records=tuple(records),
    )  # fmt: skip
