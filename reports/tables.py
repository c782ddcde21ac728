"""The tables as data frames: scores under every mask, best variants, CUR and IG, for one or several models."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from redundancy_eval import masks, metrics, shown
from redundancy_eval.table import ScoreTable

OVERALL = "Overall"
FULL = "full model"
HOLE = "–"  # a score that was not measured
UNDEFINED = "n/a"  # a CUR or IG that does not exist
DIGITS = 2


@dataclass(frozen=True)
class Table:
    """One table of the report.

    `frame` has the index (model, row) and holds numbers as they are; `change` (same shape) what is shown in brackets.
    `spans` names the category above each column. Shown are `scale` times the numbers; `ranked` tables mark the largest
    and the second largest of each column and model, and `better` says that larger is better.
    """

    stem: str
    title: str
    frame: pd.DataFrame
    spans: tuple[str, ...]
    scale: float = 1.0
    undefined: bool = False
    ranked: bool = True
    better: bool = True
    change: pd.DataFrame | None = None


def number(value: Any, table: Table) -> str:
    """A number of a table as it is printed."""
    if pd.isna(value):
        return UNDEFINED if table.undefined else HOLE
    # Adding 0 after rounding turns -0.00 into 0.00.
    return f"{round(float(value) * table.scale, DIGITS) + 0.0:.{DIGITS}f}"


def change(table: Table, row: int, column: int) -> str:
    """The change that stands behind a number, with its sign; "" where there is none."""
    value: Any = np.nan if table.change is None else table.change.iat[row, column]
    return "" if pd.isna(value) else f"{round(float(value) * table.scale, DIGITS) + 0.0:+.{DIGITS}f}"


def model_names(tables: Sequence[ScoreTable]) -> list[str]:
    """How the models are called in print: the last part of the checkpoint, told apart where two would be alike."""
    names: dict[str, None] = {}  # in order
    copies: Counter[str] = Counter()
    several = len({table.framework for table in tables}) > 1
    for table in tables:
        # Redacted as a whole: what would be left of user:password@host/name is not seen to be one.
        name = shown.text(table.checkpoint).rstrip("/").split("/")[-1] or shown.text(table.model)
        name += f" [{table.framework}]" if several else ""
        apart = name
        while apart in names:
            copies[name] += 1
            apart = f"{name} ({copies[name] + 1})"
        names[apart] = None
    return list(names)


def mask_name(table: ScoreTable, mask: Sequence[str]) -> str:
    """How a mask is called in print."""
    label = masks.label(mask, table.encoders, whole=not table.guessed)
    return {"none": FULL, "all": "all dropped"}.get(label, f"without {label}")


def benchmarks(table: ScoreTable) -> pd.DataFrame:
    """Points of every mask on every benchmark."""
    return _frame(table.points, "mask", _mask_names(table), [b.name for b in table.benchmarks])


def scores(table: ScoreTable) -> pd.DataFrame:
    """Category scores and their plain mean (overall) under every mask, in points."""
    values = table.categories(table.points)
    overall = metrics.overall_scores(values)[:, None]
    return _frame(np.hstack([values, overall]), "mask", _mask_names(table), [*table.taxonomy.categories, OVERALL])


def variants(table: ScoreTable) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The full model and, for each number of encoders kept, its best variant by overall score; and the changes.

    Returns:
        scores in points, and their difference to the full model.
    """
    every = scores(table).to_numpy()
    rows, names = [], []
    n = len(table.encoders)
    for dropped in range(n + table.guessed):
        places = [i for i, mask in enumerate(table.masks) if len(mask) == dropped and not np.isnan(every[i, -1])]
        if not places:
            continue
        best = max(places, key=lambda i: every[i, -1])
        of = "?" if table.guessed else math.comb(n, dropped)
        chosen = "" if len(places) == of else f" (best of {len(places)}/{of})"
        size = f"{dropped} dropped" if table.guessed else f"{n - dropped} encoder{'s' * (n - dropped != 1)}"
        rows.append(every[best])
        names.append(f"{size}: {mask_name(table, table.masks[best])}{chosen}" if dropped else FULL)
    columns = [*table.taxonomy.categories, OVERALL]
    values = np.array(rows).reshape(len(rows), len(columns))
    full = values[0] if names[:1] == [FULL] else np.full(len(columns), np.nan)
    changes = values - full
    changes[:1] = np.nan if names[:1] == [FULL] else changes[:1]
    return _frame(values, "variant", names, columns), _frame(changes, "variant", names, columns)


def cur(table: ScoreTable) -> pd.DataFrame:
    """CUR of every encoder in every category, and its mean over the categories (overall); fractions."""
    values = table.cur()
    overall = metrics.overall_cur(values)[:, None]
    return _frame(np.hstack([values, overall]), "encoder", table.encoders, [*table.taxonomy.categories, OVERALL])


def information_gap(tables: Sequence[ScoreTable]) -> pd.DataFrame:
    """IG of every model in every category, and the range of its overall CURs (overall); fractions.

    Undefined where a model may have encoders that no mask names: the largest or smallest CUR may be theirs.
    """
    curs = list(map(cur, tables))
    gaps = [metrics.information_gap(np.where(t.guessed, np.nan, c)) for t, c in zip(tables, curs, strict=True)]
    rows = [pd.Series(gap, index=frame.columns) for gap, frame in zip(gaps, curs, strict=True)]
    return pd.DataFrame(rows, index=pd.Index(model_names(tables), name="model"))


def report(tables: Sequence[ScoreTable]) -> list[Table]:
    """Every table of the report; several models stand one below the other."""
    taxonomy = tables[0].taxonomy
    category = {b.name: b.category for table in tables for b in table.benchmarks}
    by_benchmark = _stack(tables, benchmarks)
    by_benchmark = by_benchmark[[b.name for b in taxonomy.benchmarks if b.name in by_benchmark.columns]]
    spans = tuple(category[name] for name in by_benchmark.columns)
    plain = ("",) * (len(taxonomy.categories) + 1)
    gap = information_gap(tables)
    gap.index = pd.MultiIndex.from_tuples([("", name) for name in gap.index], names=["", "model"])
    best, change = _stack(tables, lambda t: variants(t)[0]), _stack(tables, lambda t: variants(t)[1])
    return [
        Table("benchmarks", "Score on each benchmark (points)", by_benchmark, spans),
        Table("scores", "Score in each category (points)", _stack(tables, scores), plain),
        Table("variants", "Best variant of each size (points; change)", best, plain, ranked=False, change=change),
        Table("cur", "Conditional Utilization Rate (%)", _stack(tables, cur), plain, 100.0, True, better=False),
        Table("ig", "Information Gap (%)", gap, plain, 100.0, True, ranked=False, better=False),
    ]


def _mask_names(table: ScoreTable) -> list[str]:
    return [mask_name(table, mask) for mask in table.masks]


def _frame(values: NDArray[np.float64], axis: str, rows: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(values, index=pd.Index(rows, name=axis), columns=list(columns))


def _stack(tables: Sequence[ScoreTable], make: Callable[[ScoreTable], pd.DataFrame]) -> pd.DataFrame:
    frames = [make(table) for table in tables]
    return pd.concat(frames, keys=model_names(tables), names=["model"])
