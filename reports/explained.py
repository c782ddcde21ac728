"""What `redundancy-eval explain` prints and writes beside its file: means with intervals, without any score."""

import math
from collections.abc import Sequence

from redundancy_eval import masks
from redundancy_eval.explain_file import ENCODER_MEASURES, MEASURES, Explained
from redundancy_eval.reports import csv, markdown
from redundancy_eval.reports.tables import Record
from redundancy_eval.taxonomy import Taxonomy
from redundancy_eval.uncertainty import Number, measures

LEVEL = 0.95
_PRINTED = ("kl", "js", "surprise", "attention_kl", "attention_mass")


def table(found: Explained, taxonomy: Taxonomy) -> str:
    """Every number with its interval as CSV; of encoders and pairs (`clip+sam`) those of the features."""
    records = [
        _record(
            each.measure, f"{MEASURES[each.measure].unit} per {each.per}" if each.per else MEASURES[each.measure].unit,
            f"drop={masks.label(each.mask, found.encoders)}", each.place, each.kind, each.number, each.documents,
        )
        for each in measures.everything(found, taxonomy, LEVEL)
    ]  # fmt: skip
    for name, values in found.encoder_values.items():
        records += [
            _record(name, ENCODER_MEASURES[name].unit, encoder, "", "images", Number(value))
            for encoder, value in zip(found.encoders, values, strict=True)
        ]
    for i, row in enumerate(found.cka or ()):
        records += [
            _record("cka", "share", f"{found.encoders[j]}+{found.encoders[i]}", "", "images", Number(row[j]))
            for j in range(i)
        ]
    return csv.text(records)


def _record(
    measure: str, unit: str, of: str, place: str, kind: str, number: Number, documents: int | str = ""
) -> Record:
    return {
        "measure": measure, "unit": unit, "of": of, "place": place, "kind": kind,
        "value": float(f"{number.value:.7g}"), "low": float(f"{number.low:.7g}"), "high": float(f"{number.high:.7g}"),
        "se": float(f"{number.se:.7g}"), "documents": documents, "images": number.clusters or "",
        "note": number.reason or number.note,
    }  # fmt: skip


def text(found: Explained, taxonomy: Taxonomy) -> str:
    """Means over the categories that were asked (of the last task, where none is of a category) as Markdown."""
    parts = []
    names = [name for name in _PRINTED if name in found.values]
    if names:
        last = [measures.places(found, name, taxonomy)[-1] for name in names]
        parts.append(
            f"{last[0].name}, {last[0].documents} documents; in brackets {100 * LEVEL:g} % intervals over images"
        )
        columns = [measures.numbers(place, LEVEL) for place in last]
        lines = [["drop", *(f"{MEASURES[name].title} ({MEASURES[name].unit})" for name in names)]]
        for row, mask in enumerate(found.masks):
            lines.append([masks.label(mask, found.encoders), *(_between(column[row]) for column in columns)])
        parts.append(markdown.grid(lines, 1))
    if found.cka is not None:
        titles = [ENCODER_MEASURES[name].title for name in found.encoder_values]
        lines = [["encoder", *titles, *(f"CKA with {name}" for name in found.encoders)]]
        for i, name in enumerate(found.encoders):
            own: Sequence[float] = [values[i] for values in found.encoder_values.values()]
            lines.append([name, *map(_short, (*own, *found.cka[i]))])
        parts.append(markdown.grid(lines, 1))
    return "\n\n".join(parts)


def _between(number: Number) -> str:
    ends = "" if math.isnan(number.low) else f" [{_short(number.low)}, {_short(number.high)}]"
    return _short(number.value) + ends


def _short(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3g}"
