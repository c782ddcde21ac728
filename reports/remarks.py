"""Notes under a report: those of the table, and why something is n/a or has no interval."""

import math
import re
from collections.abc import Iterator

from redundancy_eval.reports import cells
from redundancy_eval.reports.model import Model
from redundancy_eval.uncertainty import OVERALL, Itself, Number, Rerun
from redundancy_eval.uncertainty.numbers import FEW

# Scores that are not there: the table's own notes tell of each.
_HOLE = re.compile(r"^no benchmark of .* was run$|^drop=.* has no score on ")


def notes(model: Model) -> tuple[str, ...]:
    """All notes on a model, each once."""
    reasons: dict[str, dict[str, list[str]]] = {}
    few: dict[str, float] = {}
    for what, place, number in _numbers(model):
        if _HOLE.search(number.reason):
            continue
        if number.reason:
            places = reasons.setdefault(number.reason, {}).setdefault(what, [])
            places += [place] * (place not in places)
        elif number.df < FEW and place in model.places:
            few[place] = min(number.df, few.get(place, math.inf))
    said = []
    for reason, by_what in reasons.items():
        listed = "; ".join(
            f"{what} ({', '.join(places)})" if len(places) < len(model.places) else what
            for what, places in by_what.items()
        )
        said.append(f"n/a or without interval, {listed}: {reason}")
    if few:
        listed = ", ".join(f"{place} (df {df:.1f})" for place, df in few.items())
        said.append(f"few images or groups, so that intervals are rough: {listed}")
    again = [_second_run(each) for each in model.analysis.reruns if each.place == OVERALL and not each.share.reason]
    confident = [_confidence(model, each) for each in model.analysis.without_labels.full if each.place == OVERALL]
    own = (*model.table.notes, *model.analysis.notes, *_routing(model), *again, *filter(None, confident), *said)
    return tuple(dict.fromkeys(own))


def _confidence(model: Model, full: Itself) -> str:
    """The full model's confidence beside its score; "" where it is not known."""
    if not math.isfinite(full.confidence.value):
        return ""
    confidence, score = (cells.of(each) for each in (full.confidence, model.score((), OVERALL, "overall")))
    return (
        f"the full model's mean probability of its own answers is {cells.figure(confidence)} % "
        f"{cells.interval(confidence)}, its score {cells.figure(score)} points: confidence x change is as good as "
        "these agree, in every category"
    )


def _routing(model: Model) -> Iterator[str]:
    """How often a model that chooses encoders for each question chose each, beside its CUR."""
    routed = model.table.routed
    if routed.get("questions"):
        told = "; ".join(
            f"{name} for {100 * routed[name] / routed['questions']:.1f} %, CUR "
            f"{cells.figure(cells.of(model.cell(name, OVERALL).cur, 100))} %"
            for name in model.table.encoders
            if name in routed
        )
        yield (
            f"the full model chooses encoders for each question; of {routed['questions']} questions with an image it "
            f"chose {told}. An encoder that is never chosen has CUR 0 by construction"
        )


def _second_run(again: Rerun) -> str:
    share, cur = (cells.of(each, 100) for each in (again.share, again.cur))
    return (
        f"in a second run of the full model {cells.figure(share)} % {cells.interval(share)} of the answers have "
        f"another score, overall CUR {cells.figure(cur)} % {cells.interval(cur)}"
    )


def _numbers(model: Model) -> Iterator[tuple[str, str, Number]]:
    """Everything that may lack a value or an interval: what it is, where, and the number."""
    found = model.analysis
    for score in found.scores:
        if math.isfinite(score.points.value):  # holes have notes of their own
            yield "scores", score.place, score.points
    for cell in found.cells:
        yield "CUR", cell.place, cell.cur
        yield "floor-corrected CUR", cell.place, cell.floor_corrected
    for need in model.needs:
        yield "CUR under zeros less that with stand-ins", need.place, need.difference
    for gap in found.gaps:
        yield "IG", gap.place, gap.ig
    for share in found.shares:
        yield "Shapley values", share.place, share.shapley
    for pair in found.pairs:
        yield "pairs", pair.place, pair.at_full
        if pair.contexts is not None:
            yield "pairs over all contexts", pair.place, pair.contexts
    for best in found.best:
        yield "best masks", OVERALL, best.points
    for keeps in found.keeps:
        yield "what keeps a share", OVERALL, Number(math.nan, reason=keeps.reason)
    for again in found.reruns:
        yield "the second run", again.place, again.share
    for each in found.without_labels.masks:
        if each.place == OVERALL:
            yield "answers that change", each.place, each.changed
            yield "confidence x change", each.place, each.expected
    for router in found.routers:
        if router.kind != "benchmark":
            yield "what choosing masks could gain", router.place, Number(math.nan, reason=router.reason)
