"""A model beside the paper's numbers for the same checkpoint, with what is known to differ.

The paper is arXiv 2507.03262. Its full text could not be read: a number is quoted from a source that prints it,
digitised from a published figure with its reading error, or computed from such numbers, and says so.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.reports.model import Model
from redundancy_eval.uncertainty import OVERALL, Number

TAXONOMY = "paper"  # the paper's four categories


@dataclass(frozen=True)
class Published:
    """A number of the paper: scores in points, CUR and IG in %.

    `dropped` counts encoders dropped (scores alone), `of` says which mask of that size: best, mean, worst, or the only
    one (""). `error` is how exactly it could be read (NaN: as printed).
    """

    quantity: str
    encoder: str
    place: str
    dropped: int
    of: str
    value: float
    error: float
    kind: str
    source: str


@dataclass(frozen=True)
class Beside:
    """One of our numbers beside the paper's; `difference` is ours less theirs, `apart` None where that is not known.

    They are told apart where our interval and the paper's value with its reading error do not meet; the paper's own
    sampling error is not known. That they are not told apart does not say that they agree.
    """

    published: Published
    ours: Number
    difference: float
    apart: bool | None


@dataclass(frozen=True)
class Comparison:
    """All of a model's numbers that the paper has too, and why they may differ."""

    model: str
    rows: tuple[Beside, ...]
    differs: tuple[str, ...]


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    text = resources.files("redundancy_eval.reports.data").joinpath("paper_numbers.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def published(checkpoint: str) -> tuple[str, tuple[Published, ...], tuple[str, ...]]:
    """What the paper has on a checkpoint (hub id, or a folder called like it): its name there, numbers, differences.

    Raises:
        SetupError: nothing.
    """
    last = checkpoint.rstrip("/").rpartition("/")[2].lower()
    known = {name.rpartition("/")[2].lower(): model for model in _content()["models"] for name in model["checkpoints"]}
    if last not in known:
        names = ", ".join(name for model in _content()["models"] for name in model["checkpoints"])
        raise SetupError(f"the paper has no numbers on {checkpoint}; it has on {names}")
    model = known[last]
    numbers = tuple(
        Published(
            quantity, encoder or "", place, dropped or 0, of or "", value, math.nan if error is None else error, kind,
            _content()["sources"][source],
        )
        for quantity, encoder, place, dropped, of, value, error, kind, source in model["numbers"]
    )  # fmt: skip
    return model["name"], numbers, (*_content()["differs"], *model["differs"])


def compare(model: Model) -> Comparison:
    """A model beside the paper's row.

    Raises:
        SetupError: the paper has no numbers on it, or its benchmarks stand in other categories.
    """
    name, numbers, differs = published(model.table.checkpoint)
    if model.table.taxonomy.label != TAXONOMY:
        raise SetupError(
            f"the paper's four categories are those of --taxonomy {TAXONOMY}; this table has "
            f"{model.table.taxonomy.label}"
        )
    rows = []
    for each in numbers:
        ours = _ours(model, each)
        rows.append(Beside(each, ours, ours.value - each.value, _apart(ours, each)))
    return Comparison(name, tuple(rows), (*differs, *_of_ours(model)))


def _of_ours(model: Model) -> Sequence[str]:
    """What differs that the table itself tells: framework, and benchmarks that were not run."""
    table = model.table
    found = [] if table.framework == "VLMEvalKit" else [f"These numbers come from {table.framework}"]
    run = {benchmark.name for benchmark in table.benchmarks}
    lacking = [benchmark.name for benchmark in table.taxonomy.benchmarks if benchmark.name not in run]
    if lacking:
        found.append(f"Means here are without {', '.join(lacking)}")
    return found


def _ours(model: Model, each: Published) -> Number:
    if each.place not in model.measured:
        return Number(math.nan, reason=f"no benchmark of {each.place} was run")
    if each.quantity == "CUR":
        if each.encoder not in model.table.encoders:
            return Number(math.nan, reason=f"the model has no encoder {each.encoder}")
        return _percent(model.cell(each.encoder, each.place).cur)
    if each.quantity == "IG":
        return _percent(model.gap(each.place).ig)
    return _score(model, each)


def _score(model: Model, each: Published) -> Number:
    kind = "overall" if each.place == OVERALL else "category"
    found = [model.score(mask, each.place, kind) for mask in model.table.masks if len(mask) == each.dropped]
    if len(found) < math.comb(len(model.table.encoders), each.dropped) or any(math.isnan(n.value) for n in found):
        reason = next((number.reason for number in found if number.reason), "")
        return Number(math.nan, reason=reason or f"not all masks that drop {each.dropped} were run")
    if each.of == "mean":
        return Number(sum(number.value for number in found) / len(found), reason="a mean over masks has no interval")
    chosen = min(found, key=_value) if each.of == "worst" else max(found, key=_value)
    # An end of several masks is chosen on the documents that it is scored on: its own interval is not that of the end.
    return chosen if len(found) == 1 else Number(chosen.value, reason="chosen among masks of its size")


def _value(number: Number) -> float:
    return number.value


def _percent(number: Number) -> Number:
    return Number(
        100 * number.value, 100 * number.low, 100 * number.high, 100 * number.se, number.df, number.clusters,
        number.method, number.reason, number.note,
    )  # fmt: skip


def _apart(ours: Number, each: Published) -> bool | None:
    if math.isnan(ours.low) or math.isnan(ours.high):
        return None
    error = 0.0 if math.isnan(each.error) else each.error
    return each.value + error < ours.low or ours.high < each.value - error


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """A comparison as rows for CSV and tables."""
    return [
        {
            "quantity": row.published.quantity, "encoder": row.published.encoder, "place": row.published.place,
            "dropped": row.published.dropped if row.published.quantity == "score" else math.nan,
            "of its size": row.published.of, "paper": row.published.value, "reading error": row.published.error,
            "kind": row.published.kind, "source": row.published.source, "ours": row.ours.value, "low": row.ours.low,
            "high": row.ours.high, "difference": row.difference,
            "told apart": "" if row.apart is None else "yes" if row.apart else "no", "reason": row.ours.reason,
        }
        for row in comparison.rows
    ]  # fmt: skip


def curs(comparison: Comparison) -> dict[tuple[str, str], Published]:
    """The paper's CURs by encoder and place."""
    found = (row.published for row in comparison.rows)
    return {(each.encoder, each.place): each for each in found if each.quantity == "CUR"}
