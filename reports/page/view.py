"""What the template shows of one model: numbers as text, in the order in which they are read. Nothing is computed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from redundancy_eval.reports import digits, remarks
from redundancy_eval.reports.looks import Look
from redundancy_eval.reports.page import charts, masks, need, texts, together, unlabelled, verdict, why
from redundancy_eval.reports.page.drill import Sample
from redundancy_eval.reports.page.parts import View, between, cell, encoder
from redundancy_eval.reports.subject import Subject
from redundancy_eval.table import Mask
from redundancy_eval.uncertainty import OVERALL, Number


def model(subject: Subject, number: int, looks: Mapping[str, Look], sample: Sample) -> View:
    """Everything that is shown of a model."""
    return {
        "id": f"m{number}",
        "name": texts.name(subject.name),
        "encoders": [encoder(subject, name, looks) for name in subject.encoders],
        "under": _under(subject),
        "headline": verdict.headline(subject),
        "facts": facts(subject),
        "cards": cards(subject, looks),
        "need": need.of(subject, looks),
        "doubts": [texts.clip(doubt) for doubt in verdict.doubts(subject)],
        "columns": [texts.name(place) for place in subject.places],
        "cur": cur_tables(subject, looks),
        "margin": digits.percent(subject.analysis.settings.margin),
        "level": digits.percent(subject.analysis.settings.level),
        "curve": masks.by_number_dropped(subject),
        "suffice": [
            {"under": under, "best": masks.best(each), "keeps": masks.keeps(each)}
            for under, each in ((_under(subject), subject), (" with stand-ins", subject.stand_ins))
            if each is not None
        ],
        "references": masks.references(subject),
        "costs": [texts.name(column) for column in (subject.costs.wholes if subject.costs else ())],
        "cost_note": texts.clip(subject.costs.note) if subject.costs else "",
        "masks": masks.every(subject),
        "possible": f"{2 ** len(subject.encoders):,}" if not subject.table.guessed else "?",
        "pareto": masks.against_cost(subject),
        "shares": together.shares(subject, looks),
        "pairs": together.pairs(subject),
        "shared": together.shared(subject),
        "together_reason": texts.clip(together.why_not(subject)),
        "unlabelled": unlabelled.unlabelled(subject, looks),
        "benchmarks": masks.benchmarks(subject),
        "routers": masks.routers(subject),
        "why": why.tables(subject),
        "why_note": why.note(subject),
        "examples": examples(subject, sample, looks),
        "sample": sample,
        "paper": against_paper(subject, looks),
        "notes": [texts.clip(note, 600) for note in _notes(subject)],
        "signature": "\n".join(
            texts.clip(f"{each.table.signature}|{each.analysis.signature}", 4000)
            for each in (subject, subject.stand_ins)
            if each is not None
        ),
    }


def _under(subject: Subject) -> str:
    """What is said of numbers under zeros where others stand beside them."""
    return " under zeros" if subject.stand_ins else ""


def _notes(subject: Subject) -> list[str]:
    """Notes on a model, and what else is to be said of its runs with stand-ins."""
    own = remarks.notes(subject.model)
    others = remarks.notes(subject.stand_ins.model) if subject.stand_ins else ()
    return [*own, *(f"with stand-ins: {note}" for note in others if note not in own)]


def facts(subject: Subject) -> list[tuple[str, str]]:
    """Numbers that frame all others: (number, what it is)."""
    full, floor, gap = subject.score((), subject.main), subject.floor(subject.main), subject.gap(subject.main)
    counts = subject.table.documents
    found = [(digits.value(full), f"points, full model{between(full)}")]
    if floor:
        found.append((digits.value(floor.points), f"with every encoder dropped, the floor{between(floor.points)}"))
    total = "unknown number of" if None in counts else f"{sum(filter(None, counts)):,}"
    found.append((total, f"documents, {len(counts)} benchmark{'s' * (len(counts) != 1)}"))
    possible = "" if subject.table.guessed else f" of {2 ** len(subject.encoders):,}"
    found.append((str(len(subject.table.masks)), f"{possible} masks run".strip()))
    if math.isfinite(gap.ig.value):
        null = f"; equally useful encoders reach up to {digits.plain(100 * gap.null)} %, {digits.p_value(gap.p)}"
        shown = "" if gap.ig.low > 0 else ": no gap shown"
        what = f"Information Gap{_under(subject)}{between(gap.ig, 100)}{null}{shown}"
        found.append((f"{digits.value(gap.ig, 100)} %", what))
    else:
        found.append((digits.UNDEFINED, f"Information Gap: {texts.clip(gap.ig.reason)}"))
    return found


def cards(subject: Subject, looks: Mapping[str, Look]) -> list[View]:
    """An encoder each, by falling CUR; with linear stand-ins, that CUR and the one under zeros."""
    margin = 100 * subject.analysis.settings.margin
    level = f"{digits.percent(subject.analysis.settings.level)} interval"
    zeros = {name: subject.cell(name, subject.main) for name in subject.order}
    cells = {name: subject.needed(name, subject.main) or zeros[name] for name in subject.order}
    low, high = charts.reach((each.cur for found in (zeros, cells) for each in found.values()), margin)
    found = []
    for name, each in cells.items():
        shown = subject.stand_ins or subject
        rows = [("CUR, stand-ins" if subject.stand_ins else "CUR", f"{digits.value(each.cur, 100)} %")]
        if digits.known(each.cur):
            rows.append((level, digits.interval(each.cur, 100)))
        rows.append(("points lost", digits.value(shown.lost(name, subject.main))))
        most = max(
            (shown.cell(name, place) for place in subject.places[1:]),
            key=lambda found: found.cur.value if math.isfinite(found.cur.value) else -math.inf,
            default=None,
        )
        if most is not None and math.isfinite(most.cur.value):
            rows.append((f"most in {texts.name(most.place)}", f"{digits.value(most.cur, 100)} %"))
        if subject.stand_ins is not None:
            rows.append(("CUR, zeros", f"{digits.value(zeros[name].cur, 100)} %"))
            if digits.known(zeros[name].cur):
                rows.append((level, digits.interval(zeros[name].cur, 100)))
        if math.isfinite(each.documents_to_decide):
            rows.append(("documents to decide", f"about {each.documents_to_decide:,.0f}"))
        for column in subject.costs.wholes if subject.costs else ():
            share = subject.costs.share(column, (name,)) if subject.costs else math.nan
            if math.isfinite(share):
                rows.append((f"saves {texts.name(column)}", f"{digits.plain(100 * (1 - share), 0)} %"))
        word = subject.verdict(name, subject.main)
        glyph = charts.interval(
            each.cur, low, high, margin, looks[name].key, zeros=zeros[name].cur if subject.stand_ins else None
        )
        found.append(
            {
                **encoder(subject, name, looks), "word": word, "tone": _tone(word), "glyph": glyph, "rows": rows,
                "reason": texts.clip(each.cur.reason),
            }
        )  # fmt: skip
    return found


def _tone(word: str) -> str:
    """A verdict's first word, as a class of the style sheet."""
    return word.split(",")[0].split(" ")[0].replace("n/a", "unknown")


def cur_tables(subject: Subject, looks: Mapping[str, Look]) -> list[View]:
    """CUR in % (with linear stand-ins first), points lost, and CUR of what stands above the floor, place by place."""
    under = _under(subject)
    kinds: list[tuple[str, str, float, Subject, Any]] = [
        ("cur", f"CUR{under}, %", 100, subject, lambda name, place: subject.cell(name, place).cur),
        ("points", f"points lost{under}", 1, subject, subject.lost),
        (
            "floor", f"share of what stands above the floor{under}, %", 100, subject,
            lambda name, place: subject.cell(name, place).floor_corrected,
        ),
    ]  # fmt: skip
    others = subject.stand_ins
    if others is not None:
        kinds.insert(0, ("needed", "CUR with linear stand-ins, %", 100, others, lambda n, p: others.cell(n, p).cur))
        kinds.insert(2, ("lost", "points lost with stand-ins", 1, others, others.lost))
    found = []
    for key, title, scale, whose, of in kinds:
        numbers = {(name, place): of(name, place) for name in subject.order for place in subject.places}
        shade = max((abs(scale * n.value) for n in numbers.values() if math.isfinite(n.value)), default=math.nan)
        rows = [
            {
                **encoder(subject, name, looks),
                "word": whose.cell(name, subject.main).verdict,
                "cells": [cell(numbers[name, place], scale, shade) for place in subject.places],
            }
            for name in subject.order
        ]
        found.append({"key": key, "title": title, "rows": rows})
    return found


def against_paper(subject: Subject, looks: Mapping[str, Look]) -> View | None:
    """The model beside the paper's numbers; None where it was not compared."""
    found = subject.paper
    if found is None:
        return None
    rows = []
    for row in found.rows:
        each = row.published
        what = f"CUR of {looks[each.encoder].name}" if each.encoder in looks else each.quantity
        if each.quantity == "score":
            size = f"{each.dropped} dropped" if each.dropped else "full model"
            what = f"score, {size}{f', {each.of}' if each.of else ''}"
        error = "" if math.isnan(each.error) else f" ±{digits.plain(each.error, 2)}"
        rows.append(
            {
                "what": texts.name(what),
                "place": texts.name(each.place),
                "paper": f"{digits.plain(each.value, 2)}{error}",
                "v": f"{each.value:g}",
                "kind": each.kind,
                "ours": cell(row.ours),
                "difference": cell(Number(row.difference), sign=True),
                "apart": digits.UNDEFINED if row.apart is None else "yes" if row.apart else "no",
            }
        )
    return {"name": texts.name(found.model), "rows": rows, "differs": [texts.clip(each) for each in found.differs]}


def examples(subject: Subject, sample: Sample, looks: Mapping[str, Look]) -> list[View]:
    """Documents whose score turns; anchors hold no text from outside."""
    order = [benchmark.name for benchmark in subject.table.benchmarks]
    found = []
    for number, each in enumerate(sample.examples):
        found.append(
            {
                "anchor": f"x{number}",
                "benchmark": texts.name(each.benchmark),
                "benchmark_id": f"b{order.index(each.benchmark)}",
                "document": texts.name(each.document),
                "kinds": " ".join(each.kinds),
                "encoders": " ".join(f"e{subject.encoders.index(name)}" for name in each.encoders),
                "question": texts.lines(each.question),
                "reference": texts.clip(each.reference),
                "picture": each.picture,
                "said": [
                    {
                        "who": _who(subject, said.mask, looks),
                        "text": texts.clip(said.text),
                        "score": f"{said.score:.2f}" if math.isfinite(said.score) else "no score",
                        "right": said.score >= 0.5,
                        "partly": said.score not in (0, 1),
                        "turned": len(said.mask) == 1 and said.mask[0] in each.encoders,
                    }
                    for said in each.said
                ],
            }
        )
    return found


def _who(subject: Subject, mask: Mask, looks: Mapping[str, Look]) -> str:
    if not mask or subject.is_floor(mask):
        return subject.label(mask)
    return f"{digits.MINUS} {texts.name(looks[mask[0]].name)}"


def comparison(subjects: Sequence[Subject], looks: Mapping[str, Look]) -> list[View]:
    """Several models side by side."""
    found = []
    for number, subject in enumerate(subjects):
        floor, gap = subject.floor(OVERALL), subject.gap(OVERALL)
        kept = next((each for each in subject.analysis.keeps if each.share == 0.95), None)
        words = [(encoder(subject, name, looks), subject.verdict(name, OVERALL)) for name in subject.order]
        found.append(
            {
                "id": f"m{number}",
                "name": texts.name(subject.name),
                "full": cell(subject.score((), OVERALL)),
                "floor": cell(floor.points if floor else Number(math.nan, reason="not run")),
                "gap": cell(gap.ig, 100),
                "null": digits.plain(100 * gap.null),
                "words": words,
                "keeps": digits.UNDEFINED if kept is None or kept.reason
                else "none" if kept.shown is None else texts.name(subject.label(kept.shown)),
            }
        )  # fmt: skip
    return found
