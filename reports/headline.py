"""The sentence at the top: which encoders a model relies on, which are redundant, and whether there is a gap."""

import math
from collections.abc import Sequence

from redundancy_eval.reports import cells, of_need
from redundancy_eval.reports.model import Model
from redundancy_eval.statistics import verdicts
from redundancy_eval.uncertainty import OVERALL, Cell

_SAYS = {
    verdicts.NEEDED: "needs {}",
    verdicts.RELIED_ON: "relies on {}",
    verdicts.NEEDED + verdicts.BELOW_MARGIN: "needs {}, by less than the margin of {margin}",
    verdicts.RELIED_ON + verdicts.BELOW_MARGIN: "relies on {}, by less than the margin of {margin}",
    verdicts.DETRIMENTAL: "scores higher without {}",
    verdicts.DETRIMENTAL + verdicts.BELOW_MARGIN: "scores higher without {}, by less than the margin of {margin}",
}
_NEED = {
    verdicts.NEEDED: "the model needs {}",
    verdicts.NEEDED + verdicts.BELOW_MARGIN: "the model needs {}, by less than the margin of {margin}",
    verdicts.REPLACEABLE: "{} {} relied on under zeros, and replaceable by the others",
    verdicts.REDUNDANT: "{} {} redundant either way (less than {margin} of the score)",
    verdicts.HARMFUL: "the model scores higher without {}",
    verdicts.HARMFUL + verdicts.BELOW_MARGIN: "the model scores higher without {}, by less than the margin of {margin}",
    verdicts.UNDECIDED: "{} {} undecided",
    verdicts.NOT_KNOWN: "whether {} {} needed is not known",
}
_ORDER = (*_SAYS, verdicts.REDUNDANT, verdicts.UNDECIDED, verdicts.NOT_KNOWN)


def sentence(model: Model) -> str:
    """What is said of a model in words, by its overall CURs and IG."""
    found = {name: model.cell(name, OVERALL) for name in model.table.encoders}
    by_size = sorted(found.values(), key=_falling)
    if all(cell.verdict == verdicts.NOT_KNOWN for cell in by_size):
        return _by_category(model, next((cell.cur.reason for cell in by_size if cell.cur.reason), ""))
    margin = f"{100 * model.analysis.settings.margin:g} %"
    parts: list[str] = []
    for word in _ORDER:
        mine = [cell for cell in by_size if cell.verdict == word]
        if not mine:
            continue
        subject = "" if word not in _SAYS else "it " if parts else "the model "
        parts.append(subject + _part(model, word, mine, margin))
    return f"{model.name}: {'; '.join([*parts, _gap(model)])}."


def need(model: Model) -> str:
    """What is said of encoders under zeros and with linear stand-ins, by their overall CURs; empty without these."""
    if model.stand_ins is None:
        return ""
    found: dict[str, list[str]] = {}
    for zeros, predicted, each in sorted(of_need.both(model, OVERALL), key=lambda each: _falling(each[1])):
        said = f"{each.encoder} ({_cur(predicted)}; under zeros {cells.figure(cells.of(zeros.cur, 100))} %)"
        found.setdefault(each.verdict, []).append(said)
    margin = f"{100 * model.analysis.settings.margin:g} %"
    parts = [_NEED[word].format(_and(found[word]), _are(found[word]), margin=margin) for word in _NEED if word in found]
    return f"{model.name}, with the other encoders' linear guess in place of what is dropped: {'; '.join(parts)}."


def _falling(cell: Cell) -> float:
    return -cell.cur.value if math.isfinite(cell.cur.value) else math.inf


def _by_category(model: Model, reason: str) -> str:
    """Where nothing can be said overall: what is said of each category."""
    parts = []
    for place in model.measured:
        groups: dict[str, list[str]] = {}
        for name in model.table.encoders:
            word = model.cell(name, place).verdict
            if word != verdicts.NOT_KNOWN:
                groups.setdefault(word, []).append(name)
        if groups:
            said = ", ".join(f"{_and(groups[word])} {word}" for word in _ORDER if word in groups)
            parts.append(f"{place}: {said}")
    why = f" ({reason})" if reason else ""
    return f"{model.name}: no overall verdict is given{why}" + "".join(f"; {part}" for part in parts) + "."


def _part(model: Model, word: str, mine: Sequence[Cell], margin: str) -> str:
    listed = _and([f"{cell.encoder} ({_cur(cell)})" for cell in mine])
    if word == verdicts.REDUNDANT:
        everywhere = [each.encoder for each in model.analysis.everywhere if each.redundant]
        shown = [cell.encoder for cell in mine if cell.encoder in everywhere]
        also = f", {_and(shown)} in every category" if shown else ""
        return f"dropped alone, {listed} {_are(mine)} redundant (less than {margin} of the score){also}"
    if word == verdicts.UNDECIDED:
        return _and([f"{cell.encoder} ({_cur(cell)}) is undecided{_documents(cell)}" for cell in mine])
    if word == verdicts.NOT_KNOWN:
        reason = next((cell.cur.reason for cell in mine if cell.cur.reason), "")
        return f"of {_and([cell.encoder for cell in mine])} nothing is known" + (f" ({reason})" if reason else "")
    return _SAYS[word].format(listed, margin=margin)


def _documents(cell: Cell) -> str:
    if not math.isfinite(cell.documents_to_decide) or not math.isfinite(cell.documents):
        return ""
    return f" (about {cell.documents_to_decide:,.0f} documents would decide, these are {cell.documents:,.0f})"


def _cur(cell: Cell) -> str:
    shown = cells.of(cell.cur, 100)
    return " ".join(filter(None, ("CUR", f"{cells.figure(shown)} %", cells.interval(shown))))


def _gap(model: Model) -> str:
    gap = model.gap(OVERALL)
    shown = cells.of(gap.ig, 100)
    if not math.isfinite(gap.null):
        known = f"{cells.figure(shown)} %, without interval" if math.isfinite(shown.value) else cells.figure(shown)
        return f"its overall IG is {known}" + (f" ({gap.ig.reason})" if gap.ig.reason else "")
    null = cells.figure(cells.Cell(100 * gap.null, digits=1))
    p = cells.p_value(gap.p)
    level = "more than" if gap.ig.low > 0 else "no more than"
    return (
        f"its overall IG of {cells.figure(shown)} % {cells.interval(shown)} is {level} the {null} % that equally "
        f"useful encoders would show (p {p if p.startswith('<') else f'= {p}'})"
    )


def _are(several: Sequence[object]) -> str:
    return "are" if len(several) > 1 else "is"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
