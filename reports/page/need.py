"""Relied on and needed on the page: a dumbbell for each encoder, and the numbers behind it."""

from collections.abc import Mapping

from redundancy_eval.reports.cells import HOLE
from redundancy_eval.reports.looks import Look
from redundancy_eval.reports.page import charts, texts
from redundancy_eval.reports.page.parts import View, cell, encoder
from redundancy_eval.reports.subject import Subject


def of(subject: Subject, looks: Mapping[str, Look]) -> View | None:
    """One model under zeros and with linear stand-ins; None where it was not run with them."""
    if subject.stand_ins is None:
        return None
    main = subject.main
    return {
        "chart": _chart(subject, looks),
        "retrained": bool(subject.model.retrained),
        "main": _rows(subject, main, looks),
        "others": [
            {"place": texts.name(place), "rows": _rows(subject, place, looks)}
            for place in subject.places
            if place != main
        ],
        "name": texts.name(main),
    }


def _chart(subject: Subject, looks: Mapping[str, Look]) -> object:
    rows = [
        charts.Ends(
            looks[name].key, texts.name(looks[name].name), subject.verdict(name, subject.main),
            subject.cell(name, subject.main).cur, needed.cur, subject.model.retrained.get((name, subject.main)),
        )
        for name in subject.order
        if (needed := subject.needed(name, subject.main)) is not None
    ]  # fmt: skip
    label = f"{texts.name(subject.main)} CUR of {len(rows)} encoders, under zeros and with linear stand-ins"
    return charts.dumbbells(rows, 100 * subject.analysis.settings.margin, label)


def _rows(subject: Subject, place: str, looks: Mapping[str, Look]) -> list[View]:
    found = []
    for name in subject.order:
        needed, both = subject.needed(name, place), subject.need(name, place)
        if needed is None or both is None:
            continue
        retrained = subject.model.retrained.get((name, place))
        found.append(
            {
                **encoder(subject, name, looks),
                "word": both.verdict,
                "zeros": cell(subject.cell(name, place).cur, 100),
                "predicted": cell(needed.cur, 100),
                "difference": cell(both.difference, 100, sign=True),
                "retrained": {"text": HOLE, "between": "", "v": "", "why": "no one such model was given"}
                if retrained is None
                else cell(retrained, 100),
            }
        )
    return found
