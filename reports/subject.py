"""One model as figures and page see it: what a report says of it, what its masks change and cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from redundancy_eval.costs_file import Costs
from redundancy_eval.errors import SetupError
from redundancy_eval.reports.looks import Look, looks
from redundancy_eval.reports.model import Model
from redundancy_eval.reports.paper import Comparison
from redundancy_eval.table import Mask, ScoreTable
from redundancy_eval.uncertainty import OVERALL, Analysis, Cell, Floor, Gap, Need, Number, Pair, Score, Share
from redundancy_eval.uncertainty.changes import changes
from redundancy_eval.uncertainty.references import differences

UNKNOWN = Number(math.nan, reason="not run")


@dataclass(frozen=True)
class Reference:
    """Another model as a row without masks; `mask` is the masked subset that it is set against.

    `differences` are its scores less the masked model's (`uncertainty.references`), in categories and overall.
    """

    model: Model
    mask: Mask
    differences: tuple[Score, ...]

    @classmethod
    def of(cls, model: Model, against: Model, kept: Sequence[str] | None = None) -> "Reference":
        """A model beside the mask of another that keeps the same encoders (None: beside the full model).

        Raises:
            SetupError: it cannot be compared: see `uncertainty.references.differences`.
        """
        unknown = [name for name in kept or () if name not in against.table.encoders]
        if unknown:
            raise SetupError(f"{against.name} has no encoder {unknown[0]}; it has {', '.join(against.table.encoders)}")
        mask = tuple(name for name in against.table.encoders if kept is not None and name not in kept)
        return cls(model, mask, differences(against.table, mask, model.table, against.analysis.settings))

    def score(self, place: str) -> Number:
        """Points of the reference in a category or overall."""
        there = place in self.model.places and () in self.model.table.masks
        return self.model.score((), place, "overall" if place == OVERALL else "category") if there else UNKNOWN

    def difference(self, place: str) -> Number:
        """Points of the reference less the masked model's."""
        return next((each.points for each in self.differences if each.place == place), UNKNOWN)


@dataclass(frozen=True)
class Subject:
    """One model's results; `changes` are `uncertainty.changes` of its table.

    `paper` sets the model beside the paper's numbers, `references` beside other models. Masks stand in the order of the
    model's encoders.
    """

    model: Model
    changes: tuple[Score, ...]
    costs: Costs | None = None
    paper: Comparison | None = None
    references: tuple[Reference, ...] = ()

    @classmethod
    def of(cls, model: Model, costs: Costs | None = None) -> "Subject":
        """A report's model, with what its masks change."""
        return cls(model, changes(model.table, model.analysis.settings), costs)

    @property
    def name(self) -> str:
        """How it is called, told from the others."""
        return self.model.name

    @property
    def table(self) -> ScoreTable:
        """Its scores."""
        return self.model.table

    @property
    def analysis(self) -> Analysis:
        """What is said about them."""
        return self.model.analysis

    @cached_property
    def stand_ins(self) -> "Subject | None":
        """The same model with linear stand-ins, where it was run; masks cost what they do under zeros."""
        return None if self.model.stand_ins is None else Subject.of(self.model.stand_ins, self.costs)

    @property
    def encoders(self) -> tuple[str, ...]:
        """In the model's order."""
        return self.table.encoders

    @cached_property
    def looks(self) -> Mapping[str, Look]:
        """How its encoders look; with strangers among several models, `all_looks` tells them apart."""
        return looks(self.encoders)

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Overall, and the categories that have benchmarks."""
        return OVERALL, *(name for name in self.model.measured if name != OVERALL)

    @cached_property
    def main(self) -> str:
        """What is shown first: overall; where that is not known, the only category that has benchmarks."""
        known = any(math.isfinite(self.model.score(mask, OVERALL, "overall").value) for mask in self.table.masks)
        return OVERALL if known or len(self.places) != 2 else self.places[1]

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Encoders by CUR (see `main`; with stand-ins where there are), the largest first; those without one last."""

        def key(name: str) -> float:
            value = (self.needed(name, self.main) or self.cell(name, self.main)).cur.value
            return math.inf if math.isnan(value) else -value

        return tuple(sorted(self.encoders, key=key))

    @cached_property
    def by_score(self) -> tuple[Mask, ...]:
        """Masks by score (see `main`), the best first; those without one last."""

        def key(mask: Mask) -> float:
            value = self.score(mask, self.main).value
            return math.inf if math.isnan(value) else -value

        return tuple(sorted(self.table.masks, key=key))

    @cached_property
    def _changes(self) -> dict[tuple[Mask, str], Number]:
        return {(each.mask, each.place): each.points for each in self.changes}

    def score(self, mask: Mask, place: str) -> Number:
        """Points of a mask in a category or overall."""
        return self._points(mask, place, "overall" if place == OVERALL else "category")

    def on(self, benchmark: str, mask: Mask) -> Number:
        """Points of a mask on a benchmark."""
        return self._points(mask, benchmark, "benchmark")

    def _points(self, mask: Mask, place: str, kind: str) -> Number:
        mask = self.ordered(mask)
        return self.model.score(mask, place, kind) if mask in self.table.masks else UNKNOWN

    def change(self, mask: Mask, place: str) -> Number:
        """Points of a mask less the full model's, in a category or overall."""
        return self._changes.get((tuple(sorted(mask)), place), UNKNOWN)

    def lost(self, encoder: str, place: str) -> Number:
        """Points that are lost when an encoder is dropped."""
        found = self.change((encoder,), place)
        return Number(
            -found.value, -found.high, -found.low, found.se, found.df, found.clusters, found.method, found.reason,
            found.note,
        )  # fmt: skip

    def cell(self, encoder: str, place: str) -> Cell:
        """CUR and verdict of an encoder in a category or overall."""
        return self.model.cell(encoder, place)

    def needed(self, encoder: str, place: str) -> Cell | None:
        """CUR and verdict with linear stand-ins; None where those were not run."""
        return None if self.stand_ins is None else self.stand_ins.cell(encoder, place)

    def need(self, encoder: str, place: str) -> Need | None:
        """What zeros and stand-ins say together; None without stand-ins."""
        return self.model.need(encoder, place)

    def verdict(self, encoder: str, place: str) -> str:
        """What is said of an encoder: by both where there are stand-ins."""
        both = self.need(encoder, place)
        return both.verdict if both else self.cell(encoder, place).verdict

    def gap(self, place: str) -> Gap:
        """IG of a category or overall."""
        return self.model.gap(place)

    def floor(self, place: str) -> Floor | None:
        """What is left when all encoders are dropped; None where that was not run."""
        return self.model.floor(place)

    def shares(self, place: str) -> Mapping[str, Share]:
        """Shapley values by encoder; empty where there are none."""
        return {each.encoder: each for each in self.analysis.shares if each.place == place}

    def pairs(self, place: str) -> tuple[Pair, ...]:
        """How pairs act together."""
        return tuple(each for each in self.analysis.pairs if each.place == place)

    @cached_property
    def below_floor(self) -> frozenset[Mask]:
        """Masks (names in alphabetical order) that score surely below the model without any encoder."""
        floor = self.floor(self.main)
        return frozenset(floor.below if floor else ())

    def ordered(self, mask: Sequence[str]) -> Mask:
        """A mask with its names in the model's order."""
        return self.model.ordered(mask)

    def kept(self, mask: Mask) -> tuple[str, ...]:
        """Encoders that a mask keeps."""
        return tuple(name for name in self.encoders if name not in mask)

    def is_floor(self, mask: Mask) -> bool:
        """Whether a mask drops all that the model has."""
        return not self.table.guessed and len(mask) == len(self.encoders)

    def label(self, mask: Sequence[str]) -> str:
        """A mask in the fewest words: what is kept, or what is not."""
        mask = self.ordered(mask)
        kept = self.kept(mask)
        if not mask:
            return "full model"
        if self.is_floor(mask):
            return "all dropped"
        if self.table.guessed or len(mask) < len(kept):
            return "all" + "".join(f" \N{MINUS SIGN} {self.looks[name].name}" for name in mask)
        return " + ".join(self.looks[name].name for name in kept)


def all_looks(subjects: Sequence[Subject]) -> Mapping[str, Look]:
    """A look for every encoder of models that are shown together."""
    return looks(name for subject in subjects for name in subject.encoders)
