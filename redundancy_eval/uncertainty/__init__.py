"""How sure the numbers of a table are: joins `redundancy_eval.statistics` to a ScoreTable, with labels and reasons.

    analysis = analyse(table, Settings(level=0.95, margin=0.02))
    analysis.cell("clip", OVERALL).verdict

Points stay those of the table. A benchmark without samples, or whose samples do not give the table's points, has no
interval, and says why.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from redundancy_eval.statistics import verdicts
from redundancy_eval.table import SampleScores, ScoreTable
from redundancy_eval.uncertainty import encoders, noise, subsets, together, without_labels
from redundancy_eval.uncertainty.join import Joined, join
from redundancy_eval.uncertainty.results import (
    OVERALL,
    Analysis,
    Best,
    Cell,
    Changed,
    Everywhere,
    Floor,
    Gap,
    Itself,
    Keeps,
    Moebius,
    Need,
    Number,
    Pair,
    Ranks,
    Rerun,
    Router,
    Score,
    Settings,
    Share,
    Shared,
    Unlabelled,
    WithoutLabels,
    plain,
)

__all__ = [
    "OVERALL", "Analysis", "Best", "Cell", "Changed", "Everywhere", "Floor", "Gap", "Itself", "Keeps", "Moebius",
    "Need", "Number", "Pair", "Ranks", "Rerun", "Router", "Score", "Settings", "Share", "Shared", "Unlabelled",
    "WithoutLabels", "analyse", "plain",
]  # fmt: skip


def analyse(
    table: ScoreTable,
    settings: Settings | None = None,
    rerun: Mapping[str, SampleScores] | None = None,
    predicted: bool = False,
) -> Analysis:
    """Everything that is said about the numbers of a table.

    Args:
        table: of one model.
        settings: level, margin and seed. Of a table whose documents were asked in rounds, the level is of all looks
            together, and the analysis's own the nominal one of the look.
        rerun: a second run of the full model, by benchmark: scores (1, documents) of the same documents.
        predicted: whether dropped outputs were predicted from the other encoders (ablation `predicted`). Only then is
            an encoder "needed"; under other ablations it is "relied on".

    Raises:
        DataError: the second run has other documents than the table.
    """
    asked = settings or Settings()
    settings = asked if table.until is None else replace(asked, level=table.until.level(asked.level))
    joined = join(table)
    positive = verdicts.NEEDED if predicted else verdicts.RELIED_ON
    cells, everywhere = encoders.cells(joined, settings, positive)
    shares, pairs, shared = together.analyse(joined, settings)
    changed, reruns = noise.analyse(joined, settings, rerun)
    return Analysis(
        settings=settings,
        encoders=joined.encoders,
        masks=tuple(mask for mask, there in zip(joined.masks, joined.in_table, strict=True) if there),
        scores=tuple(encoders.scores(joined, settings)),
        cells=tuple(cells),
        everywhere=tuple(everywhere),
        gaps=tuple(encoders.gaps(joined, settings)),
        floors=tuple(encoders.floors(joined, settings)),
        shares=tuple(shares),
        pairs=tuple(pairs),
        shared=tuple(shared),
        moebius=tuple(together.moebius(joined, settings)),
        best=tuple(subsets.best(joined, settings)),
        keeps=tuple(subsets.keeps(joined, settings)),
        routers=tuple(subsets.routers(joined, settings)),
        changed=tuple(changed),
        reruns=tuple(reruns),
        without_labels=without_labels.analyse(joined, settings),
        notes=tuple(_notes(joined, rerun is not None, asked.level)),
        signature=_signature(joined, asked),
    )


def _notes(joined: Joined, measured: bool, level: float) -> list[str]:
    """What to mind, and why whole parts are empty."""
    notes = list(joined.notes)
    if joined.table.until:
        notes.append(joined.table.until.note(level))
    if joined.table.guessed:
        notes.append(f"{encoders.GUESSED}: no IG, floor, Shapley values or best masks")
    elif not joined.in_table[joined.none]:
        notes.append("all encoders dropped was not run, so there is no floor")
    if np.isnan(joined.overall.scores.values[0]) and not joined.table.guessed:
        notes.append(f"best masks are not compared with the full model: {joined.overall.reason([0])}")
    return notes if measured else [*notes, noise.NOT_MEASURED]


def _signature(joined: Joined, settings: Settings) -> str:
    """What belongs into the table's signature besides."""
    parts = {
        "level": f"{100 * settings.level:g}",
        "margin": f"{100 * settings.margin:g}",
        "family": f"{len(joined.encoders)}x{len(joined.categories)}",
        "seed": str(settings.seed or ""),
        "until": str(joined.table.until or ""),
    }
    return "|".join(f"{key}:{value}" for key, value in parts.items() if value)
