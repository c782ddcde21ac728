"""What a report shows beside what its runs say: answers, costs, the paper's numbers, other models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from redundancy_eval.answers import Answers
from redundancy_eval.costs_file import Costs
from redundancy_eval.errors import SetupError
from redundancy_eval.reports import paper
from redundancy_eval.reports.model import Model, Other
from redundancy_eval.reports.report import Report
from redundancy_eval.reports.subject import Reference, Subject
from redundancy_eval.uncertainty import analyse


@dataclass(frozen=True)
class Additions:
    """What is shown besides; `answers` and `costs` (None: not known) are of each model, in order."""

    answers: Sequence[Answers] = ()
    costs: Sequence[Costs | None] = ()
    others: Sequence[Other] = ()


def subjects(report: Report, additions: Additions) -> list[Subject]:
    """The models of a report with what is shown besides; one with linear stand-ins stands beside the one under zeros.

    Raises:
        SetupError: the paper has no numbers on any of them, or another model cannot be compared.
    """
    found = [Subject.of(said.model) for said in report.models]
    for place, costs in enumerate(additions.costs):
        found[place] = replace(found[place], costs=costs)
    lent = {one.model.stand_ins.name for one in found if one.model.stand_ins}
    found = [one for one in found if one.name not in lent]
    if report.options.compare == "paper":
        found = _beside_the_paper(found)
    if additions.others:
        if len(found) != 1:
            raise SetupError(f"--reference sets other models beside one; these are runs of {len(found)} models")
        (one,) = found
        found = [replace(one, references=tuple(_reference(other, one.model) for other in additions.others))]
    return found


def _reference(other: Other, against: Model) -> Reference:
    named = Model(other.name, other.table, analyse(other.table, against.analysis.settings))
    return Reference.of(named, against, other.kept)


def _beside_the_paper(found: Sequence[Subject]) -> list[Subject]:
    made, reasons = [], []
    for subject in found:
        try:
            made.append(replace(subject, paper=paper.compare(subject.model)))
        except SetupError as error:
            reasons.append(error)
            made.append(subject)
    if len(reasons) == len(made):
        raise reasons[0]
    return made
