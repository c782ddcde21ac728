"""Tables of what is known without labels: answers that change, confidence x change, and how they rank encoders."""

import math
from collections.abc import Sequence

from redundancy_eval.reports import cells
from redundancy_eval.reports.cells import HOLE, Cell
from redundancy_eval.reports.model import Model
from redundancy_eval.reports.tables import Row, Table
from redundancy_eval.uncertainty import OVERALL, Number, Unlabelled

ALONE = "full model, asked again"
WORDS = {"changed": "answers that change", "expected": "confidence x change"}
LIMITS = (
    "Answers that change: share of documents whose answer is another than the full model's. Confidence x change: the "
    "mean over documents of the full model's own probability of its answer where that changes, an estimate of the "
    "points lost. Neither needs labels, and neither is below 0: a harmful encoder looks like one that is relied on. "
    "Questions that the model guesses change their answers without any loss, which inflates the first; the second is "
    "as good as the model's probabilities are calibrated (compare mean confidence and score on a labelled part)."
)


def without_labels(models: Sequence[Model]) -> Table:
    """Of each encoder dropped alone, overall; the records hold every mask at every benchmark and category."""
    rows, records = [], []
    known = any(math.isfinite(e.changed.value) for model in models for e in model.analysis.without_labels.masks)
    noise = any(_overall_noise(model) for model in models)
    for model in models:
        found = model.analysis.without_labels
        alone = _overall_noise(model)
        if alone is not None:
            rows.append(Row(model.name, ALONE, (_hole(), _hole(), cells.of(alone, 100), _hole(), _hole())))
        for name in model.table.encoders:
            cur = cells.of(model.cell(name, OVERALL).cur, 100)
            each = found.of((name,), OVERALL)
            if each is not None:
                rows.append(Row(model.name, name, (cur, *_cells(each))))
        records += _records(model)
    columns: tuple[str, ...] = (
        "CUR (%)",
        "points lost",
        "answers that change (%)",
        "above asking again",
        "confidence x change (points)",
    )
    if not noise:
        columns = (*columns[:3], columns[4])
        rows = [Row(row.model, row.label, (*row.cells[:3], row.cells[4])) for row in rows]
    return Table(
        "without_labels", "Without labels (overall)", "encoder", columns, tuple(rows if known else ()),
        records=tuple(records),
    )  # fmt: skip


def ranks(models: Sequence[Model]) -> Table:
    """How both rank the encoders, beside CUR."""
    rows, records = [], []
    for model in models:
        found = model.analysis.without_labels.ranks
        for measure, words in WORDS.items():
            mine = [each for each in found if each.measure == measure]
            rows.append(
                Row(model.name, words, tuple(cells.of(n) for each in mine for n in (each.spearman, each.kendall)))
            )
            records += [
                {
                    "model": model.name, "measure": words, "over": each.over, "count": each.count,
                    **cells.fields(each.spearman, "spearman_"), **cells.fields(each.kendall, "kendall_"),
                }
                for each in mine
            ]  # fmt: skip
    columns = ("Spearman, encoders", "Kendall", "Spearman, encoders x categories", "Kendall, all of these")
    return Table(
        "without_labels_ranks", "Rank correlation with CUR", "measure", columns, tuple(rows), records=tuple(records)
    )  # fmt: skip


def _overall_noise(model: Model) -> Number | None:
    """The share of answers that change by themselves; None where that was not measured."""
    found = next((each.alone for each in model.analysis.without_labels.full if each.place == OVERALL), None)
    return found if found is not None and math.isfinite(found.value) else None


def _hole() -> Cell:
    return Cell(text=HOLE)


def _cells(each: Unlabelled) -> tuple[Cell, ...]:
    return (
        cells.of(each.lost), cells.of(each.changed, 100), cells.of(each.above_noise, 100), cells.of(each.expected)
    )  # fmt: skip


def _records(model: Model) -> list[dict[str, object]]:
    """Every mask; of the full model what it changes by itself, and its confidence."""
    found, none = model.analysis.without_labels, Number(math.nan)

    def compared(place: str, kind: str) -> str:
        if kind != "benchmark":
            return ""
        return "as scored" if place in found.as_scored else "as given"

    def record(
        mask: str, place: str, kind: str, changed: Number, above: Number, expected: Number, confidence: Number
    ) -> dict[str, object]:
        return {
            "model": model.name, "mask": mask, "place": place, "kind": kind, "compared": compared(place, kind),
            **cells.fields(changed, "changed_"), **cells.fields(above, "above_noise_"),
            **cells.fields(expected, "expected_"), **cells.fields(confidence, "confidence_"),
        }  # fmt: skip

    full = [
        record(model.mask_name(()), each.place, each.kind, each.alone, none, none, each.confidence)
        for each in found.full
    ]
    return full + [
        record(model.mask_name(each.mask), each.place, each.kind, each.changed, each.above_noise, each.expected, none)
        for each in found.masks
    ]
