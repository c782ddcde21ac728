"""How encoders act together, on the page."""

import math
from collections.abc import Mapping

from redundancy_eval.reports import digits
from redundancy_eval.reports.looks import Look
from redundancy_eval.reports.page import texts
from redundancy_eval.reports.page.parts import View, between, cell, encoder
from redundancy_eval.reports.subject import Subject


def shares(subject: Subject, looks: Mapping[str, Look]) -> list[View]:
    """Shapley values beside what is lost without one encoder."""
    found = subject.shares(subject.main)
    known = [name for name in subject.order if name in found]
    return [
        {
            **encoder(subject, name, looks),
            "lost": cell(subject.lost(name, subject.main)),
            "shapley": cell(found[name].shapley),
            "share": cell(found[name].of_headroom, 100),
        }
        for name in sorted(known, key=lambda each: -_or_low(found[each].shapley.value))
    ]


def _or_low(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def pairs(subject: Subject) -> list[View]:
    """How pairs act together, the strongest first."""
    return [
        {
            "name": " and ".join(texts.name(subject.looks[name].name) for name in subject.ordered(pair.encoders)),
            "at_full": cell(pair.at_full, sign=True),
            "at_full_word": pair.at_full_word,
            "contexts": None if pair.contexts is None else cell(pair.contexts, sign=True),
            "contexts_word": pair.contexts_word,
        }
        for pair in sorted(subject.pairs(subject.main), key=lambda pair: -abs(_or_zero(pair.at_full.value)))
    ]


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def why_not(subject: Subject) -> str:
    """Why Shapley values are not known; empty where they are."""
    found = subject.shares(subject.main)
    if not found:
        return "one encoder alone has no others to act with" if len(subject.encoders) < 2 else "it is not known"
    return next((each.shapley.reason for each in found.values() if each.shapley.reason), "")


def shared(subject: Subject) -> str:
    """Points that are lost only when several encoders are dropped, in a sentence."""
    found = next((each for each in subject.analysis.shared if each.place == subject.main), None)
    if found is None or not math.isfinite(found.points.value):
        return ""
    points, together = digits.value(found.points), digits.value(found.together)
    if found.points.value < 0:
        more = digits.plain(-found.points.value, digits.decimals(found.points))
        return (
            f"Single drops cost {more} points more than all encoders give together ({together}"
            f"{between(found.together)}): masked models fall below the floor."
        )
    return (
        f"{points} of the {together} points that the encoders give together are lost only when several are dropped"
        f"{between(found.points)}."
    )
