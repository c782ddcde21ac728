"""A masked model against another one, such as a model that was trained without the dropped encoders."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from redundancy_eval.errors import SetupError
from redundancy_eval.table import Mask, SampleScores, ScoreTable
from redundancy_eval.uncertainty.changes import changes
from redundancy_eval.uncertainty.results import Score, Settings

_OTHER = "other"


def differences(
    table: ScoreTable, mask: Mask, other: ScoreTable, settings: Settings | None = None
) -> tuple[Score, ...]:
    """The other model's full score less a masked model's, in points, of every category and overall.

    Intervals are paired where both answered the same documents of a benchmark; else both are taken as independent
    where a score is a plain mean over documents, and there is none otherwise. A category, or overall, is compared only
    where both have all the same benchmarks.

    Args:
        table: of the masked model.
        mask: encoders dropped, in any order; () for the full model.
        other: of the other model, of which the full model counts.
        settings: level of the intervals.

    Raises:
        SetupError: the tables have different taxonomies or tasks, or the mask was not run.
    """
    if table.taxonomy.label != other.taxonomy.label:
        raise SetupError(
            f"a reference is scored by the same taxonomy: {other.taxonomy.label} is not {table.taxonomy.label}"
        )
    dropped = tuple(name for name in table.encoders if name in mask)
    if dropped not in table.masks or () not in other.masks:
        raise SetupError(f"{'the reference has no full model' if dropped in table.masks else 'the mask was not run'}")
    row = table.masks.index(dropped)
    both = [b for b in table.benchmarks if b.name in _comparable(table, other)]
    ours, theirs = ([[b.name for b in each.benchmarks].index(b.name) for b in both] for each in (table, other))
    for b, mine, yours in zip(both, ours, theirs, strict=True):
        if table.tasks[mine] != other.tasks[yours]:  # document 7 of another task is another document
            raise SetupError(
                f"the reference's {b.name} is {other.tasks[yours]}, that of the masks {table.tasks[mine]}: "
                "ask both in the same tasks"
            )
    paired = {b.name: _paired(table, other, b.name, row) for b in both}
    pseudo = replace(
        table,
        encoders=(_OTHER,),
        masks=((), (_OTHER,)),
        benchmarks=tuple(both),
        tasks=tuple(table.tasks[i] for i in ours),
        points=np.stack([table.points[row, ours], other.row(())[theirs]]),
        documents=tuple(table.documents[i] for i in ours),
        samples={name: samples for name, samples in paired.items() if samples is not None},
        notes=(),
        guessed=False,
        rerun=None,
    )
    return changes(pseudo, settings)


def _comparable(table: ScoreTable, other: ScoreTable) -> Sequence[str]:
    """Benchmarks of the categories of which both have all the same ones."""
    found: list[str] = []
    for category in table.taxonomy.categories:
        ours, theirs = ({b.name for b in t.benchmarks if b.category == category} for t in (table, other))
        found += sorted(ours) if ours == theirs else []
    return found


def _paired(table: ScoreTable, other: ScoreTable, name: str, row: int) -> SampleScores | None:
    """Scores (2, documents) of the masked model and of the other; None where their documents are not the same."""
    ours, theirs = table.samples.get(name), other.samples.get(name)
    if ours is None or theirs is None or set(ours.documents) != set(theirs.documents):
        return None
    places = {document: i for i, document in enumerate(theirs.documents)}
    order = [places[document] for document in ours.documents]
    if (ours.clusters != theirs.clusters[order]).any() or (ours.strata != theirs.strata[order]).any():
        return None
    scores = np.stack([ours.scores[row], theirs.scores[other.masks.index(())][order]])
    return SampleScores(ours.documents, scores, ours.clusters, ours.strata)
