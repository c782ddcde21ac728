"""The report of one or several models as a value, made once and handed to every form that it is written in."""

from collections.abc import Sequence
from dataclasses import dataclass

from redundancy_eval.options import Options
from redundancy_eval.reports import tables as made
from redundancy_eval.reports.tables import Table
from redundancy_eval.table import ScoreTable


@dataclass(frozen=True)
class Model:
    """A model as the report calls it, with its scores."""

    name: str
    table: ScoreTable


@dataclass(frozen=True)
class Report:
    """What is said of some models, and how their runs were read."""

    models: tuple[Model, ...]
    tables: tuple[Table, ...]
    options: Options


def build(scores: Sequence[ScoreTable], options: Options | None = None) -> Report:
    """The report of some models.

    Args:
        scores: of each model.
        options: how the runs were read.
    """
    names = made.model_names(scores)
    models = tuple(Model(name, table) for name, table in zip(names, scores, strict=True))
    return Report(models, tuple(made.report(scores)), options or Options())
