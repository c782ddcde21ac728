"""What stands under each figure: what is shown, of how many documents, with which intervals, chosen on what."""

from collections.abc import Sequence

from redundancy_eval.reports import digits
from redundancy_eval.reports.subject import Subject
from redundancy_eval.uncertainty import Settings

_TEXTS = {
    "cur_forest": (
        "Conditional Utilization Rate of every encoder (share of the score that is lost when it is dropped alone), "
        "overall and by category, with {level} intervals, each for itself; hollow: the interval holds 0, or is not "
        "known; grey band: the margin of {margin} of the full score."
    ),
    "need": (
        "Conditional Utilization Rate of every encoder under zeros (open: what the model relies on) and with the best "
        "linear guess from the other encoders in its place (filled: what it needs), with {level} intervals, each for "
        "itself; grey band: the margin of {margin} of the full score. The guess is linear and at the same place, so "
        "what is lost then is an upper bound of what only this encoder tells."
    ),
    "cur_heat": (
        "Conditional Utilization Rate in %. Grey italics: the {level} interval holds 0, or is not known. Overall is "
        "the mean of the categories."
    ),
    "drop_curve": (
        "Overall score of every mask that was run by number of encoders dropped (dots), and the best, mean and worst "
        "of each number. Best and worst are chosen on the documents that they are scored on."
    ),
    "subsets": (
        "Overall score of every mask with {level} intervals, each for itself, above the encoders that it keeps. Blue: "
        "best of its size, chosen on these documents; red: below the floor (all dropped) after Holm's correction."
    ),
    "pareto": (
        "Overall score against cost; named are masks that no other beats in both, chosen on these documents. "
        "Bars: {level} intervals, each for itself."
    ),
    "retrained": (
        "Scores of other models less those of the mask that each is set against, with {level} intervals, each for "
        "itself, paired where both answered the same documents; hollow: the interval holds 0, or is not known."
    ),
    "shares": (
        "Left: points that are lost when an encoder is dropped alone (open), and its Shapley value (filled, with its "
        "{level} interval). Right: pair interactions averaged over contexts, below 0 "
        "substitutes, above 0 complements; italic: none shown after Holm's correction."
    ),
}


def caption(stem: str, subjects: Sequence[Subject]) -> str:
    """A figure's caption in plain text."""
    settings = subjects[0].analysis.settings
    text = _TEXTS[stem].format(level=digits.percent(settings.level), margin=digits.percent(settings.margin))
    if stem == "cur_forest" and any(subject.stand_ins for subject in subjects):
        text += " Upright bars: with linear stand-ins in place of what is dropped, so what is needed."
    if stem in ("drop_curve", "subsets", "pareto", "shares") and any(subject.stand_ins for subject in subjects):
        text += " Under zeros."
    if stem == "need" and any(subject.model.retrained for subject in subjects):
        text += " Diamonds: what models lack that were trained without the encoder."
    if stem == "cur_forest" and any(subject.paper for subject in subjects):
        text += " Open grey diamonds: the paper's numbers, measured in its figure, with their reading error."
    if stem == "drop_curve" and len(subjects) > 1:
        text += " In % of each full model's score, so that models can be compared."
    if stem == "pareto":
        notes = {subject.costs.note for subject in subjects if subject.costs and subject.costs.note}
        text += "".join(f" {note}" for note in sorted(notes))
    return f"{text} {'; '.join(_documents(subject, len(subjects) > 1) for subject in subjects)}.{_sure(stem, settings)}"


def _documents(subject: Subject, named: bool) -> str:
    counts = subject.table.documents
    total = "an unknown number of" if None in counts else f"{sum(filter(None, counts)):,}"
    text = f"{total} documents of {len(counts)} benchmark{'s' * (len(counts) != 1)}"
    return f"{subject.name}: {text}" if named else text[0].upper() + text[1:]


def _sure(stem: str, settings: Settings) -> str:
    if stem == "drop_curve":
        return ""
    return " Intervals are over questions, clustered by image or group; the model and its answers are taken as given."
