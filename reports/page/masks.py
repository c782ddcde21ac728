"""Masks on the page: how far one can go, all of them, what they cost, other models beside them."""

import math
from typing import Any

from redundancy_eval.reports import digits
from redundancy_eval.reports.cells import HOLE
from redundancy_eval.reports.figures import curve, pareto, style
from redundancy_eval.reports.page import charts, texts
from redundancy_eval.reports.page.parts import View, cell
from redundancy_eval.reports.subject import Subject
from redundancy_eval.table import Mask


def by_number_dropped(subject: Subject) -> Any:
    """The chart of scores by number of encoders dropped; empty where there are none."""
    rows = curve.rows([subject])
    if not rows:
        return ""
    points = [charts.Point(row["dropped"], row["score"], _mask_of(subject, row["mask"])) for row in rows]
    floor = subject.floor(subject.main)
    label = f"{texts.name(subject.main)} score of {len(rows)} masks by number of encoders dropped"
    return charts.curve(
        points, subject.score((), subject.main).value, floor.points.value if floor else math.nan,
        _scores(subject), label,
    )  # fmt: skip


def _scores(subject: Subject) -> str:
    return texts.name(style.score([subject])) + (" under zeros" if subject.stand_ins else "")


def _mask_of(subject: Subject, written: str) -> str:
    return texts.name(subject.label(() if written == "none" else written.split("+")))


def against_cost(subject: Subject) -> Any:
    """The chart of scores against cost; empty where costs are not known."""
    rows = pareto.rows([subject])
    if not rows:
        return ""
    points = [charts.Point(r["of_full"], r["score"], texts.name(r["label"]), r["frontier"]) for r in rows]
    unit = f"{texts.name(rows[0]['cost'])}, % of the full model"
    return charts.against_cost(
        points,
        unit,
        _scores(subject),
        f"{texts.name(subject.main)} score of {len(rows)} masks against {unit}",
    )


def best(subject: Subject) -> list[View]:
    """The best mask of each size."""
    return [
        {
            "kept": each.kept,
            "label": texts.name(subject.label(each.mask)),
            "points": cell(each.points),
            "after": digits.plain(each.after_selection, digits.decimals(each.points)),
            "change": cell(each.to_full, sign=True),
            "run": f"{each.run} of {each.possible}",
            "apart": len(each.not_told_apart),
            "same": ", ".join(texts.name(subject.label(mask)) for mask in each.not_told_apart[:4]),
        }
        for each in subject.analysis.best
    ]


def keeps(subject: Subject) -> list[View]:
    """The smallest masks that keep a share of the full score."""

    def named(mask: Mask | None) -> str:
        return "none" if mask is None else texts.name(subject.label(mask))

    return [
        {
            "share": digits.percent(each.share),
            "by": named(each.by_the_numbers),
            "shown": named(each.shown) if not each.reason else f"{digits.UNDEFINED}: {texts.clip(each.reason)}",
        }
        for each in subject.analysis.keeps
    ]


def references(subject: Subject) -> list[View]:
    """Other models beside the masks that they are set against."""
    return [
        {
            "name": texts.name(each.model.name),
            "against": texts.name(subject.label(each.mask)),
            "scores": [cell(each.score(place)) for place in subject.places],
            "differences": [cell(each.difference(place), sign=True) for place in subject.places],
        }
        for each in subject.references
    ]


def every(subject: Subject) -> list[View]:
    """All masks, the best first."""
    chosen = {each.mask for each in subject.analysis.best}
    found = []
    for mask in subject.by_score:
        key = tuple(sorted(mask))
        low = key in subject.below_floor
        found.append(
            {
                "label": texts.name(subject.label(mask)),
                "kind": "full" if not mask else "low" if low else "best" if key in chosen else "",
                "kept": [name not in mask for name in subject.encoders],
                "keeps": " ".join(f"e{i}" for i, name in enumerate(subject.encoders) if name not in mask),
                "size": len(subject.encoders) - len(mask),
                "scores": [cell(subject.score(mask, place)) for place in subject.places],
                "change": cell(subject.change(mask, subject.main), sign=True) if mask else None,
                "stand_ins": cell(subject.stand_ins.score(mask, subject.main)) if subject.stand_ins else None,
                "costs": [
                    digits.plain(100 * subject.costs.share(column, mask))
                    for column in (subject.costs.columns if subject.costs else ())
                    if subject.costs
                ],
            }
        )
    return found


def benchmarks(subject: Subject) -> View:
    """Points of every mask on every benchmark."""
    names = [benchmark.name for benchmark in subject.table.benchmarks]
    counts = subject.table.documents
    return {
        "names": [texts.name(name) for name in names],
        "categories": [texts.name(benchmark.category) for benchmark in subject.table.benchmarks],
        "documents": [HOLE if count is None else f"{count:,}" for count in counts],
        "rows": [
            {
                "label": texts.name(subject.label(mask)),
                "kind": "full" if not mask else "",
                "cells": [cell(subject.on(name, mask)) for name in names],
            }
            for mask in sorted(subject.table.masks, key=len)
        ],
    }


def routers(subject: Subject) -> View | None:
    """What choosing the mask could gain, overall; None where it is not known."""
    found = next((each for each in subject.analysis.routers if each.place == subject.main), None)
    if found is None or not math.isfinite(found.by_task):
        return None
    return {
        "by_task": digits.signed(found.by_task),
        "oracle": digits.signed(found.oracle),
        "guessing": digits.signed(found.guessing),
        "masks": found.masks,
    }
