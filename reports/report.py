"""The report of one or several models as a value, made once and handed to every form that it is written in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from redundancy_eval.explain_file import Explained
from redundancy_eval.options import Options
from redundancy_eval.reports import (
    captions,
    headline,
    of_encoders,
    of_measures,
    of_need,
    of_scores,
    remarks,
    without_labels,
)
from redundancy_eval.reports.model import Model, Other, models
from redundancy_eval.reports.tables import Table
from redundancy_eval.table import ScoreTable
from redundancy_eval.uncertainty import Settings

_ALWAYS = ("need", "cur", "gaps", "ig", "scores", "benchmarks")  # even where they hold nothing but n/a


@dataclass(frozen=True)
class Said:
    """What is said of one model besides its tables: sentences, notes, and how to get the numbers again.

    `need` is the sentence on what is needed where there are linear stand-ins beside zeros, else empty.
    """

    model: Model
    need: str
    sentence: str
    notes: tuple[str, ...]
    signature: str


@dataclass(frozen=True)
class Report:
    """What is said of some models, and how their runs were read; tables in the order in which they are read."""

    models: tuple[Said, ...]
    tables: tuple[Table, ...]
    options: Options

    def table(self, stem: str) -> Table:
        """A table by the name of its files, such as `cur`.

        Raises:
            KeyError: the report has no such table.
        """
        found = next((table for table in self.tables if table.stem == stem), None)
        if found is None:
            raise KeyError(stem)
        return found


def build(
    scores: Sequence[ScoreTable],
    options: Options | None = None,
    others: Sequence[Other] = (),
    explained: Sequence[Explained | None] = (),
) -> Report:
    """The report of some models.

    Args:
        scores: of each model.
        options: how the runs were read, and what is said of them.
        others: models without masks; those that were trained without one encoder stand beside what is needed.
        explained: what was measured of each without labels (`api.explained`).

    Raises:
        DataError: a second run of a full model has other documents than the first.
        SetupError: which runs with linear stand-ins are a model's is not clear.
    """
    options = options or Options()
    settings = Settings(options.level, options.margin, options.seed)
    found = models(scores, settings, others, explained)
    said = tuple(
        Said(model, headline.need(model), headline.sentence(model), remarks.notes(model), _signature(model))
        for model in found
    )
    return Report(said, tuple(_tables(found, settings)) if found else (), options)


def _signature(model: Model) -> str:
    return f"{model.table.signature}|{model.analysis.signature}"


def _tables(found: Sequence[Model], settings: Settings) -> list[Table]:
    shapley = of_encoders.shapley(found)
    made = [
        of_need.need(found), of_need.by_category(found), of_need.subsets(found),
        of_encoders.verdicts(found), of_encoders.cur(found), of_encoders.gaps(found),
        of_encoders.information_gap(found), of_scores.scores(found), of_scores.variants(found),
        of_scores.selection(found), of_scores.keeps(found), of_encoders.floor(found), of_encoders.corrected(found),
        shapley, of_encoders.pairs(found), *([of_encoders.shared(found)] if shapley.is_empty else []),
        of_scores.router(found), of_encoders.changed(found), without_labels.without_labels(found),
        without_labels.ranks(found), of_measures.explain(found), of_measures.agreement(found),
        of_scores.benchmarks(found),
    ]  # fmt: skip
    kept = [table for table in made if table.rows and (table.stem in _ALWAYS or not table.is_empty)]
    return [_captioned(table, found, settings) for table in kept]


def _captioned(table: Table, found: Sequence[Model], settings: Settings) -> Table:
    about, brackets = captions.of(table.stem, found, settings)
    return replace(table, caption=about, brackets=brackets)
