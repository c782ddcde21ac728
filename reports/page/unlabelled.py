"""What is known without labels, on the page."""

import math
from collections.abc import Mapping

from redundancy_eval.reports import digits
from redundancy_eval.reports.looks import Look
from redundancy_eval.reports.page import texts
from redundancy_eval.reports.page.parts import View, between, cell, encoder
from redundancy_eval.reports.subject import Subject
from redundancy_eval.reports.without_labels import LIMITS, WORDS


def unlabelled(subject: Subject, looks: Mapping[str, Look]) -> View | None:
    """Answers that change and confidence x change of every encoder beside CUR; None where no answers are known."""
    found = subject.analysis.without_labels
    known = [(name, each) for name in subject.order if (each := found.of((name,), subject.main)) is not None]
    if not any(math.isfinite(each.changed.value) for _, each in known):
        return None
    itself = next((each for each in found.full if each.place == subject.main), None)
    alone = itself is not None and math.isfinite(itself.alone.value)
    said = []
    if itself is not None and alone:
        said.append(
            f"Asked again in other batches, the full model gives another answer in {digits.value(itself.alone, 100)} %"
            f"{between(itself.alone, 100)} of the documents."
        )
    if itself is not None and math.isfinite(itself.confidence.value):
        score = subject.score((), subject.main)
        said.append(
            f"The full model’s mean confidence is {digits.value(itself.confidence)}, its score "
            f"{digits.value(score)} points."
        )
    for ranks in found.ranks:
        if math.isfinite(ranks.spearman.value):
            over = f"{ranks.count} encoders{' × categories' * (ranks.over == 'cells')}"
            said.append(
                f"Rank correlation of {WORDS[ranks.measure]} with CUR over {over}: "
                f"{digits.value(ranks.spearman)}{between(ranks.spearman)} (Spearman)."
            )
    return {
        "limits": LIMITS,
        "said": [texts.clip(each, 400) for each in said],
        "alone": alone,
        "reason": texts.clip(next((e.expected.reason for _, e in known if e.expected.reason), "")),
        "rows": [
            {
                **encoder(subject, name, looks),
                "cur": cell(subject.cell(name, subject.main).cur, 100),
                "lost": cell(each.lost),
                "changed": cell(each.changed, 100),
                "above": cell(each.above_noise, 100),
                "expected": cell(each.expected),
            }
            for name, each in known
        ],
    }
