"""Which tables are of one model: masked with zeros, and with linear stand-ins in place of what is dropped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from redundancy_eval import compare, model_args
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.grouping import Model
from redundancy_eval.leniency import Leniency
from redundancy_eval.runs import Samples
from redundancy_eval.table import Mask, ScoreTable

ZERO, PREDICTED = "zero", "predicted"
_OF_ABLATION = ("ablation", "calibration", "ablation_seed")


@dataclass(frozen=True)
class Made:
    """A table with the runs that it was made of, and their answers by task and mask."""

    table: ScoreTable
    model: Model
    answers: Mapping[str, Mapping[Mask, Samples]]


def partners(tables: Sequence[ScoreTable]) -> dict[int, int]:
    """For the place of each table under zeros, the place of the same model's with linear stand-ins, where there is one.

    The same are framework, model, checkpoint, site and every other argument that decides an answer.

    Raises:
        SetupError: there are two with linear stand-ins.
    """
    predicted: dict[object, int] = {}
    for place, table in enumerate(tables):
        if table.ablation == PREDICTED and predicted.setdefault(_identity(table), place) != place:
            raise SetupError(f"two sets of runs of {table.checkpoint} with ablation={PREDICTED}: report each alone")
    return {
        place: predicted[key]
        for place, table in enumerate(tables)
        if table.ablation == ZERO and (key := _identity(table)) in predicted
    }


def _identity(table: ScoreTable) -> object:
    deciding = {"site": "encoder", **model_args.deciding(table.arguments)}
    rest = tuple(sorted(each for each in deciding.items() if each[0] not in _OF_ABLATION))
    return table.framework, table.model, table.checkpoint, table.encoders, table.guessed, table.taxonomy.label, rest


def check_full_models(one: Made, other: Made, lenient: Leniency) -> None:
    """Check that the full model, where it was asked for both, was asked in the same way and scores the same.

    The masks of both are set against it, so it must be one.

    Raises:
        DataError: it was asked otherwise, or a document has another score.
    """
    checked = set()
    for (mask, task), first in one.model.run_of.items():
        second = other.model.run_of.get(((), task))
        if mask or second is None or second is first:
            continue
        if (first.path, second.path) not in checked:
            compare.check_runs([first, second], lenient)
            checked.add((first.path, second.path))
        compare.check_settings([first, second], task, lenient)
        logged = [found for made in (one, other) if (found := made.answers.get(task, {}).get(()))]
        if len(logged) == 2:
            compare.check_documents(logged, task, lenient)
        said = _difference(one.table, other.table, task)
        if said:
            raise DataError(
                f"{first.path} and {second.path}: the full model was asked twice, under {ZERO} and {PREDICTED}, and "
                f"{said}: name one of the two runs alone"
            )


def _difference(one: ScoreTable, other: ScoreTable, task: str) -> str:
    """How the full model's two scores on a task's benchmarks differ; empty where they do not."""
    names = [benchmark.name for benchmark in other.benchmarks]
    for place, benchmark in enumerate(one.benchmarks):
        if task not in one.tasks[place].split("+") or benchmark.name not in names:
            continue
        found = [table.samples.get(benchmark.name) for table in (one, other)]
        first, second = (None if s is None else s.scores[0] for s in found)
        if first is not None and second is not None and len(first) == len(second):
            changed = int(np.sum(~np.isclose(first, second, rtol=0, atol=1e-9, equal_nan=True)))
            if changed:
                return f"{changed} of {len(first)} documents of {benchmark.name} have another score"
        points = one.row(())[place], other.row(())[names.index(benchmark.name)]
        if not np.isclose(*points, rtol=0, atol=1e-9, equal_nan=True):
            return f"{benchmark.name} has {points[0]:g} and {points[1]:g} points"
    return ""
