"""Rows of several tables as the masks of one, so that they can be compared by document."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from redundancy_eval.errors import SetupError
from redundancy_eval.table import Mask, SampleScores, ScoreTable

Row = tuple[ScoreTable, Mask]


def beside(table: ScoreTable, mask: Mask, others: Mapping[str, Row]) -> ScoreTable:
    """A table in which rows of several tables stand as masks of one: what `uncertainty` needs to compare them.

    Of benchmarks of the categories in which all have the same ones. Answers are paired where they are of the same
    documents; else scores stand without samples.

    Args:
        table: whose row is the full model's.
        mask: which row.
        others: name -> table and mask; NaN where that was not run.

    Raises:
        SetupError: the tables have different taxonomies or tasks.
    """
    every = [table, *(other for other, _ in others.values())]
    for other in every[1:]:
        if table.taxonomy.label != other.taxonomy.label:
            raise SetupError(
                f"a reference is scored by the same taxonomy: {other.taxonomy.label} is not {table.taxonomy.label}"
            )
    names = _comparable(table, every)
    both = tuple(b for b in table.benchmarks if b.name in names)
    places = [[[b.name for b in each.benchmarks].index(b.name) for b in both] for each in every]
    for other, theirs in zip(every, places, strict=True):
        for b, mine, yours in zip(both, places[0], theirs, strict=True):
            if table.tasks[mine] != other.tasks[yours]:  # document 7 of another task is another document
                raise SetupError(
                    f"the reference's {b.name} is {other.tasks[yours]}, that of the masks {table.tasks[mine]}: "
                    "ask both in the same tasks"
                )
    rows = [(table, mask), *others.values()]
    paired = {b.name: _paired(rows, b.name) for b in both}
    return replace(
        table,
        encoders=tuple(others),
        masks=((), *((name,) for name in others)),
        benchmarks=both,
        tasks=tuple(table.tasks[i] for i in places[0]),
        points=np.stack([each.row(of)[at] for (each, of), at in zip(rows, places, strict=True)]),
        documents=tuple(table.documents[i] for i in places[0]),
        samples={name: samples for name, samples in paired.items() if samples is not None},
        notes=(),
        guessed=False,
        rerun=None,
    )


def _comparable(table: ScoreTable, every: Sequence[ScoreTable]) -> set[str]:
    """Benchmarks of the categories of which all have the same ones."""
    found: set[str] = set()
    for category in table.taxonomy.categories:
        sets = [{b.name for b in each.benchmarks if b.category == category} for each in every]
        found |= sets[0] if all(each == sets[0] for each in sets) else set()
    return found


def _paired(rows: Sequence[Row], name: str) -> SampleScores | None:
    """Scores (rows, documents), NaN where a mask was not run; None where documents are not the same."""
    first = rows[0][0].samples.get(name)
    if first is None:
        return None
    scores = []
    for table, mask in rows:
        mine = table.samples.get(name)
        if mine is None or set(mine.documents) != set(first.documents):
            return None
        order = np.arange(len(first.documents))
        if not np.array_equal(mine.documents, first.documents):
            places = {document: i for i, document in enumerate(mine.documents)}
            order = np.array([places[document] for document in first.documents])
        if (mine.clusters[order] != first.clusters).any() or (mine.strata[order] != first.strata).any():
            return None
        wanted = tuple(name for name in table.encoders if name in mask)
        ran = wanted in table.masks
        scores.append(mine.scores[table.masks.index(wanted)][order] if ran else np.full(len(order), np.nan))
    return SampleScores(first.documents, np.stack(scores), first.clusters, first.strata)
