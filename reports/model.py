"""One model as a report sees it: its scores, what is said about them, and how masks are called."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from redundancy_eval import masks, metrics, shown
from redundancy_eval.explain_file import Explained
from redundancy_eval.table import Mask, ScoreTable
from redundancy_eval.uncertainty import OVERALL, Analysis, Cell, Floor, Gap, Number, Settings, Share, analyse, measures
from redundancy_eval.uncertainty.measures import Beside

FULL = "full model"


@dataclass(frozen=True)
class Model:
    """A model's table and its analysis, under a name that tells it from the report's others.

    Numbers are those of the table, intervals those of the analysis. Encoders and masks are in the table's order.
    `beside` is what was measured without labels, where it was.
    """

    name: str
    table: ScoreTable
    analysis: Analysis
    beside: Beside | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """The categories, and overall."""
        return *self.table.taxonomy.categories, OVERALL

    @property
    def measured(self) -> tuple[str, ...]:
        """Of these, the ones that have a benchmark."""
        there = {benchmark.category for benchmark in self.table.benchmarks}
        return *(name for name in self.table.taxonomy.categories if name in there), OVERALL

    def mask_name(self, mask: Sequence[str]) -> str:
        """How a mask is called in print."""
        label = masks.label(self.ordered(mask), self.table.encoders, whole=not self.table.guessed)
        return {"none": FULL, "all": "all dropped"}.get(label, f"without {label}")

    def ordered(self, mask: Sequence[str]) -> Mask:
        """A mask's encoders in the model's order."""
        return tuple(name for name in self.table.encoders if name in mask)

    def score(self, mask: Mask, place: str, kind: str) -> Number:
        """Points of a mask on a benchmark, in a category or overall (`kind`)."""
        return replace(self._scores[tuple(sorted(mask)), kind, place], value=self._points[mask, kind, place])

    def cell(self, encoder: str, place: str) -> Cell:
        """CUR and verdict of an encoder."""
        found = self._cells[encoder, place]
        return replace(found, cur=replace(found.cur, value=self._curs[encoder, place]))

    def gap(self, place: str) -> Gap:
        """IG in a category or overall."""
        found = self._gaps[place]
        curs = np.array([self._curs[name, place] for name in self.table.encoders])
        value = math.nan if self.table.guessed else float(metrics.information_gap(curs))
        return replace(found, ig=replace(found.ig, value=value))

    def floor(self, place: str) -> Floor | None:
        """What is left with all encoders dropped, where that was run."""
        return next((each for each in self.analysis.floors if each.place == place), None)

    def share(self, encoder: str, place: str) -> Share | None:
        """Shapley value of an encoder, where a model has several."""
        return next((s for s in self.analysis.shares if (s.encoder, s.place) == (encoder, place)), None)

    @cached_property
    def _scores(self) -> Mapping[tuple[Mask, str, str], Number]:
        return {(each.mask, each.kind, each.place): each.points for each in self.analysis.scores}

    @cached_property
    def _points(self) -> Mapping[tuple[Mask, str, str], float]:
        table = self.table
        categories = table.categories(table.points)
        overall = metrics.overall_scores(categories)
        found = {}
        for row, mask in enumerate(table.masks):
            for column, benchmark in enumerate(table.benchmarks):
                found[mask, "benchmark", benchmark.name] = float(table.points[row, column])
            for column, name in enumerate(table.taxonomy.categories):
                found[mask, "category", name] = float(categories[row, column])
            found[mask, "overall", OVERALL] = float(overall[row])
        return found

    @cached_property
    def _curs(self) -> Mapping[tuple[str, str], float]:
        values = self.table.cur()
        every = np.hstack([values, metrics.overall_cur(values)[:, None]])
        return {
            (encoder, place): float(every[row, column])
            for row, encoder in enumerate(self.table.encoders)
            for column, place in enumerate(self.places)
        }

    @cached_property
    def _cells(self) -> Mapping[tuple[str, str], Cell]:
        return {(each.encoder, each.place): each for each in self.analysis.cells}

    @cached_property
    def _gaps(self) -> Mapping[str, Gap]:
        return {each.place: each for each in self.analysis.gaps}


def models(
    tables: Sequence[ScoreTable], settings: Settings, explained: Sequence[Explained | None] = ()
) -> tuple[Model, ...]:
    """The models of a report, analysed; `explained` is what was measured of each without labels."""
    made = []
    for name, table, own in zip(names(tables), tables, explained or [None] * len(tables), strict=True):
        analysis = analyse(table, settings, table.rerun, predicted=table.ablation == "predicted")
        made.append(Model(name, table, analysis, None if own is None else measures.beside(own, table, settings)))
    return tuple(made)


def names(tables: Sequence[ScoreTable]) -> list[str]:
    """How the models are called in print: the last part of the checkpoint, told apart where two would be alike."""
    found: dict[str, None] = {}  # in order
    copies: Counter[str] = Counter()
    several = len({table.framework for table in tables}) > 1
    for table in tables:
        # Redacted as a whole: what would be left of user:password@host/name is not seen to be one.
        name = shown.text(table.checkpoint).rstrip("/").split("/")[-1] or shown.text(table.model)
        name += f" [{table.framework}]" if several else ""
        apart = name
        while apart in found:
            copies[name] += 1
            apart = f"{name} ({copies[name] + 1})"
        found[apart] = None
    return list(found)
