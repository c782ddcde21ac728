"""What stands under a table: what its numbers are, what their intervals, and when not to trust them."""

from collections.abc import Sequence

from redundancy_eval.reports import without_labels
from redundancy_eval.reports.model import Model
from redundancy_eval.statistics.changes import RESAMPLES
from redundancy_eval.uncertainty import Settings
from redundancy_eval.uncertainty.join import UNPAIRED

_SINGLE = (
    "Brackets: {level} % intervals over questions, clustered by image or group, each for itself; the model and its "
    "answers are taken as given."
)
_AT_ONCE = "Brackets: {level} % intervals that hold for all masks of a size at once."
_ABOUT = {
    "need": (
        "Share of the full model's score that is lost when only this encoder is dropped: with zeros in its place, and "
        "with the best linear guess from the other encoders (fitted on images without labels), and the first less the "
        "second. {need}",
        _SINGLE,
    ),
    "need_categories": ("As overall. Undecided: in brackets about how many documents would decide.", _SINGLE),
    "need_subsets": (
        "By the overall score of each size, chosen on the documents that it is scored on.",
        _AT_ONCE,
    ),
    "verdicts": (
        "Tests of CUR, corrected after Holm for all encoders and categories of a model (overall: for its encoders), so "
        "that a word and an interval, which stands for itself, may disagree; margin: {margin} % of the full score. "
        "Redundant: dropped alone, it changes the score by less than that; it may still carry what another encoder "
        "carries too (see pairs). Undecided: in brackets about how many documents would decide, if today's numbers "
        "were the truth.{relied}",
        "",
    ),
    "cur": (
        "Share of the full model's score that is lost when only this encoder is dropped; overall: the mean.",
        _SINGLE,
    ),
    "gaps": (
        "Largest minus smallest CUR. Encoders that are equally useful would show up to the IG in the second column "
        "in {level} % of cases; below it no gap is shown. Largest and smallest: those that cannot be told from them.",
        "Brackets: {level} % intervals over questions, clustered by image or group; the lower end is IG minus what "
        "equally useful encoders would show.",
    ),
    "scores": ("", _SINGLE),
    "benchmarks": ("", _SINGLE),
    "variants": (
        "In brackets the change to the full model. The best is chosen on the documents that it is scored on.",
        "",
    ),
    "selection": (
        "After selection: what is left when the luck of the best is taken off; a set with all masks of the size that "
        "cannot be told from the best holds the truly best in {level} % of cases.",
        _AT_ONCE,
    ),
    "keeps": ("Shown: at {level} %, for all masks at once; claim no other.", ""),
    "floor": (
        "With all encoders dropped the visual tokens are still there: a floor, no model without images. Headroom: full "
        "model minus floor.",
        _SINGLE,
    ),
    "corrected": (
        "The drop relative to the headroom; above 100 % the masked model is below the floor. Given where the headroom "
        "is at least five standard errors.",
        _SINGLE,
    ),
    "shapley": (
        "Mean gain of adding the encoder, over all orders; the values sum to full model minus all dropped. Contexts in "
        "which masked models fall below the floor are in the mean.",
        _SINGLE,
    ),
    "pairs": (
        "What dropping both costs beyond the two single drops: below 0 substitutes, above 0 complements, after Holm "
        "over the pairs. Contexts in which masked models fall below the floor are in the means.",
        _SINGLE,
    ),
    "shared": (
        "Full model minus all dropped, less the single drops. Below 0, single drops cost more than all encoders give: "
        "masked models fall below the floor.",
        _SINGLE,
    ),
    "router": (
        "By task: the best mask of each benchmark, cross-fitted. Any mask right: a question counts if any mask is "
        "right, which no router can attain; independent guessing would give as much as the last column says.",
        "",
    ),
    "without_labels": (without_labels.LIMITS + " {compared}", _SINGLE),
    "without_labels_ranks": (
        "Of the two measures, overall and in every category, with CUR. Over few encoders a single number can be "
        "anything: read the interval.",
        "Brackets: {level} % intervals from {resamples} resamples of the documents, clustered by image or group.",
    ),
    "explain": (
        "Means over documents, of categories and over these; CUR over the same categories. KL, Jensen-Shannon and "
        "-log p are sums along the full model's answer, attention is of the last layer's, all with the encoder dropped "
        "alone but where it is kept alone. None tells an encoder that harms from one that helps (docs/explain.md).",
        "Brackets: {level} % intervals over questions, clustered by image, each for itself.",
    ),
    "explain_agreement": (
        "Rank correlation with CUR, which needs labels; kept alone, the least stands for the greatest CUR. By chance: "
        "the share of orders of the encoders that agree as well. With few encoders an agreement says little about "
        "other models.",
        "Brackets: {level} % intervals from {resamples} resamples of the documents, clustered by image or group; the "
        "encoders are taken as given.",
    ),
    "changed": ("Share of answers whose score is another than the full model's.", _SINGLE),
}  # fmt: skip
_ABOUT["ig"] = ("Largest minus smallest CUR.", _ABOUT["gaps"][1])
_RELIED = (
    " Relied on: what the trained model leans on, where outputs are replaced by {ablation}; whether the encoder is "
    "needed is another question."
)
_NEED = (
    "Needed: it is lost even so. Replaceable: relied on under zeros, redundant with the guess. Redundant: both lose "
    "less than {margin} %. Harmful: the score rises. The guess is linear and made at the same place, so what is lost "
    "then is an upper bound of what only this encoder tells; what sampling its images adds is not in the intervals."
)
_RETRAINED = (
    " Retrained: what a model lacks that was trained without the encoder; its interval is over questions, not over "
    "trainings."
)
_UNPAIRED = (
    " Without samples ({names}): from the number of documents alone, unpaired, and so conservative as a rule (not "
    "where images hold many questions)."
)
_NAMED = {"zero": "zeros", "": "something else", "told": "something else"}


def of(stem: str, models: Sequence[Model], settings: Settings) -> tuple[str, str]:
    """What a table's numbers are, and what their intervals are."""
    ablations = sorted({model.table.ablation for model in models} - {"predicted"})
    replaced = " or ".join(dict.fromkeys(_NAMED.get(name, name) for name in ablations))
    scores = [score for model in models for score in model.analysis.scores if score.kind == "benchmark"]
    unpaired = ", ".join(dict.fromkeys(score.place for score in scores if UNPAIRED in score.points.method))
    about, brackets = _ABOUT[stem]
    given = {
        "level": " or ".join(dict.fromkeys(f"{100 * model.analysis.settings.level:.4g}" for model in models)),
        "margin": f"{100 * settings.margin:g}",
        "need": _NEED.format(margin=f"{100 * settings.margin:g}")
        + _RETRAINED * any(model.retrained for model in models),
        "resamples": f"{RESAMPLES:,}",
        "compared": _compared(models),
        "relied": _RELIED.format(ablation=replaced) if ablations else "",
    }
    more = _UNPAIRED.format(names=unpaired) if unpaired and brackets else ""
    return about.format(**given), brackets.format(**given) + more


def _compared(models: Sequence[Model]) -> str:
    """In what form answers are compared."""
    names = {name for model in models for name in model.analysis.without_labels.as_scored}
    if not names:
        return "Answers are compared as they were given."
    return f"Answers are compared as they were given, but as the scoring read them on {', '.join(sorted(names))}."
