"""One model as a report sees it: its scores, what is said about them, and how masks are called."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from redundancy_eval import masks, metrics, shown, stand_ins
from redundancy_eval.explain_file import Explained
from redundancy_eval.table import Mask, ScoreTable
from redundancy_eval.uncertainty import (
    OVERALL,
    Analysis,
    Cell,
    Floor,
    Gap,
    Need,
    Number,
    Settings,
    Share,
    analyse,
    measures,
    references,
)
from redundancy_eval.uncertainty.measures import Beside
from redundancy_eval.uncertainty.need import needs

FULL = "full model"


@dataclass(frozen=True)
class Other:
    """Another model without masks; `kept` are the encoders of the mask beside it (None: the full model)."""

    name: str
    kept: tuple[str, ...] | None
    table: ScoreTable


@dataclass(frozen=True)
class Model:
    """A model's table and its analysis, under a name that tells it from the report's others.

    Numbers are those of the table, intervals those of the analysis. Encoders and masks are in the table's order.
    `stand_ins` is the same model with linear stand-ins in place of dropped outputs (ablation `predicted`), which alone
    says what is needed, and `needs` what both say together. `retrained` is what models that were trained without one
    encoder lack of the full score: (encoder, place) -> fraction.
    `beside` is what was measured without labels, where it was.
    """

    name: str
    table: ScoreTable
    analysis: Analysis
    stand_ins: "Model | None" = None
    needs: tuple[Need, ...] = ()
    retrained: Mapping[tuple[str, str], Number] = field(default_factory=dict)
    beside: Beside | None = None

    def __post_init__(self) -> None:
        if self.stand_ins is not None and self.stand_ins.table.ablation != stand_ins.PREDICTED:
            raise ValueError(f"stand-ins are runs with ablation={stand_ins.PREDICTED}")

    def with_stand_ins(self, other: "Model") -> "Model":
        """The model with the one with linear stand-ins beside it.

        Raises:
            SetupError: they were not asked in the same tasks.
        """
        found = needs(self.table, other.table, self.analysis, other.analysis)
        return replace(self, stand_ins=other, needs=found)

    def with_retrained(self, others: Sequence[Other]) -> "Model":
        """The model with those beside it that were trained without one of its encoders; of several, with none.

        Raises:
            SetupError: they were not asked in the same tasks.
        """
        found: dict[tuple[str, str], Number] = {}
        for name in self.table.encoders:
            rest = {*self.table.encoders} - {name}
            mine = [each for each in others if each.kept is not None and {*each.kept} == rest]
            if len(mine) == 1:
                of = references.lost(self.table, mine[0].table, self.analysis.settings)
                found |= {(name, place): number for place, number in of.items()}
        return replace(self, retrained=found)

    def need(self, encoder: str, place: str) -> Need | None:
        """What zeros and stand-ins say together of an encoder; None without stand-ins."""
        return next((each for each in self.needs if (each.encoder, each.place) == (encoder, place)), None)

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
    tables: Sequence[ScoreTable],
    settings: Settings,
    others: Sequence[Other] = (),
    explained: Sequence[Explained | None] = (),
) -> tuple[Model, ...]:
    """The models of a report, analysed; those under zeros with their stand-ins, which are models of their own too.

    Args:
        tables: of each model.
        settings: of the analysis.
        others: models of which some may have been trained without an encoder.
        explained: what was measured of each without labels.

    Raises:
        SetupError: which stand-ins are a model's is not clear, or a model was asked in other tasks.
    """
    made = []
    for name, table, own in zip(names(tables), tables, explained or [None] * len(tables), strict=True):
        analysis = analyse(table, settings, table.rerun, predicted=table.ablation == stand_ins.PREDICTED)
        beside = None if own is None else measures.beside(own, table, analysis.settings)
        made.append(Model(name, table, analysis, beside=beside))
    for zeros, predicted in stand_ins.partners(tables).items():
        made[zeros] = made[zeros].with_stand_ins(made[predicted]).with_retrained(others)
    return tuple(made)


def names(tables: Sequence[ScoreTable]) -> list[str]:
    """How the models are called in print: the last part of the checkpoint, told apart where two would be alike."""
    several = len({table.framework for table in tables}) > 1
    plain = []
    for table in tables:
        # Redacted as a whole: what would be left of user:password@host/name is not seen to be one.
        name = shown.text(table.checkpoint).rstrip("/").split("/")[-1] or shown.text(table.model)
        plain.append(name + (f" [{table.framework}]" if several else ""))
    alike = Counter(plain)
    found: dict[str, None] = {}  # in order
    copies: Counter[str] = Counter()
    for name, table in zip(plain, tables, strict=True):
        if alike[name] > 1 and table.ablation not in ("", "told", stand_ins.ZERO):
            name = f"{name}, {shown.text(table.ablation)}"
        apart = name
        while apart in found:
            copies[name] += 1
            apart = f"{name} ({copies[name] + 1})"
        found[apart] = None
    return list(found)
