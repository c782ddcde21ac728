"""Relied on, or needed: one model under zeros and with linear stand-ins, paired by document."""

from redundancy_eval.statistics import cur, verdicts
from redundancy_eval.table import ScoreTable
from redundancy_eval.uncertainty import encoders
from redundancy_eval.uncertainty.beside import beside
from redundancy_eval.uncertainty.join import Joined, Place, join
from redundancy_eval.uncertainty.numbers import t_numbers
from redundancy_eval.uncertainty.results import OVERALL, Analysis, Need, Number


def needs(zeros: ScoreTable, predicted: ScoreTable, relied: Analysis, needed: Analysis) -> tuple[Need, ...]:
    """How much less each encoder is missed when the others' linear guess stands in for it, and what that makes it.

    The difference of the two CURs is (with the guess - with zeros) / full; its variance is that of statistics.md,
    section 1, with the scores of the two masks as those of two masks of one model. Words are those of each analysis'
    own tests. The full model is the first table's (`stand_ins.check_full_models` has seen that there is one).

    Args:
        zeros: the model's table under zeros.
        predicted: its table with linear stand-ins; see `stand_ins.partners`.
        relied: what is said of the first.
        needed: what is said of the second.

    Raises:
        SetupError: a benchmark's tasks are others.
    """
    others = {
        _under(name, table, predicted): (table, (name,)) for table in (zeros, predicted) for name in zeros.encoders
    }
    joined = join(beside(zeros, (), others))
    found = []
    for place in joined.places:
        for name, number in zip(zeros.encoders, _differences(joined, place, zeros, predicted, relied), strict=True):
            words = relied.cell(name, place.name).verdict, needed.cell(name, place.name).verdict
            compared = number.value == number.value  # of the same benchmarks
            found.append(Need(name, place.name, number, verdicts.need(*words) if compared else verdicts.NOT_KNOWN))
    return tuple(found)


def _under(name: str, table: ScoreTable, predicted: ScoreTable) -> str:
    return f"{name} ({predicted.ablation})" if table is predicted else name


def _differences(
    joined: Joined, place: Place, zeros: ScoreTable, predicted: ScoreTable, relied: Analysis
) -> list[Number]:
    rows = [
        [joined.masks.index((_under(name, table, predicted),)) for name in zeros.encoders]
        for table in (zeros, predicted)
    ]
    parts = place.parts if place is joined.overall else (place,)
    found = cur.differences([part.scores for part in parts], 0, *rows)
    needs = [[0, *both] for both in zip(*rows, strict=True)]
    made = encoders.weak_full(joined, place, t_numbers(found, place, needs, relied.settings.level))
    reason = _other_benchmarks(place.name, zeros, predicted)
    return [Number(float("nan"), reason=reason)] * len(made) if reason else made


def _other_benchmarks(place: str, zeros: ScoreTable, predicted: ScoreTable) -> str:
    """Why a category, or overall, is not compared; empty where it can be."""
    ours, theirs = (
        {b.name for b in table.benchmarks if place in (b.category, OVERALL)} for table in (zeros, predicted)
    )
    only = sorted(ours ^ theirs)
    return f"not run both under zeros and with linear stand-ins: {', '.join(only)}" if only else ""
