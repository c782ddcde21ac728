"""Scores of one model under its masks: data only, what statistics and reports look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import metrics
from redundancy_eval.taxonomy import Benchmark, Taxonomy
from redundancy_eval.until import Until

Mask = tuple[str, ...]


@dataclass(frozen=True)
class Said:
    """What was answered to the documents of one benchmark, paired across masks.

    `answers` are hashes (masks, documents), 0 where an answer is not known; `as_scored` tells that they are of what
    the framework's scoring read from the replies, else of the replies. Of the full model's answers (documents,):
    `log_probability` is the model's own, natural, NaN where it is not known, and `alone` 1 where the same model gave
    another answer in a batch of its own, 0 where it gave the same, NaN where it was not asked twice. `reason` says why
    log-probabilities are missing.
    """

    answers: NDArray[np.uint64]
    as_scored: bool
    log_probability: NDArray[np.float64]
    alone: NDArray[np.float64]
    reason: str = ""

    def take(self, order: NDArray[np.intp]) -> "Said":
        """Its documents in another order."""
        return replace(
            self, answers=self.answers[:, order], log_probability=self.log_probability[order], alone=self.alone[order]
        )


@dataclass(frozen=True)
class SampleScores:
    """Paired per-document scores (0..1) of one benchmark.

    `scores` is (masks, documents) with NaN where a mask was not run or an answer is missing; `clusters` and `strata`
    are (documents,). `said` is what was answered, where that is known.
    """

    documents: NDArray[np.str_]
    scores: NDArray[np.float64]
    clusters: NDArray[np.str_]
    strata: NDArray[np.str_]
    said: Said | None = None


@dataclass(frozen=True)
class ScoreTable:
    """Scores of one model in points (0..100).

    `points` is (masks, benchmarks) with NaN where there is no score; `documents` counts the benchmarks' documents
    (None: not known), `tasks` names the framework's tasks behind each benchmark. `samples` holds paired per-document
    scores of the benchmarks that were logged, `rerun` those of a second run of the full model, scores (1, documents);
    None where there is none. `ablation` is what stands in for dropped outputs ("" where that is not known). Where
    `encoders` are those that masks name (`guessed`), the model may have more: then IG is not known, nor whether a mask
    drops all. `arguments` are the masked model's, as
    far as known. `files` names, for each benchmark, its tasks with the file of samples under each mask. `until` is the
    look that it is of, where documents were asked in rounds.
    """

    model: str
    checkpoint: str
    framework: str
    encoders: tuple[str, ...]
    masks: tuple[Mask, ...]
    taxonomy: Taxonomy
    benchmarks: tuple[Benchmark, ...]
    tasks: tuple[str, ...]
    points: NDArray[np.float64]
    documents: tuple[int | None, ...]
    samples: Mapping[str, SampleScores]
    notes: tuple[str, ...]
    signature: str
    guessed: bool = False
    ablation: str = ""
    rerun: Mapping[str, SampleScores] | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Sequence[tuple[str, Mapping[Mask, Path]]]] = field(default_factory=dict)
    routed: Mapping[str, int] = field(default_factory=dict)
    until: Until | None = None

    def row(self, mask: Sequence[str]) -> NDArray[np.float64]:
        """Points of one mask, NaN where it was not run."""
        wanted = tuple(name for name in self.encoders if name in mask)
        if wanted in self.masks:
            return self.points[self.masks.index(wanted)]
        return np.full(len(self.benchmarks), np.nan)

    def categories(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Category scores (..., categories) of points (..., benchmarks)."""
        return metrics.category_scores(points, self.taxonomy.groups(self.benchmarks))

    def cur(self) -> NDArray[np.float64]:
        """CUR (encoders, categories), fractions: the relative drop of each category's mean."""
        full = self.categories(self.row(()))
        return np.stack([metrics.cur(full, self.categories(self.row((name,)))) for name in self.encoders])
