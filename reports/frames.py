"""The tables as data frames: scores under every mask, per benchmark and category, CUR and IG."""

from collections.abc import Sequence

import pandas as pd

from redundancy_eval import masks, metrics
from redundancy_eval.scores import ScoreTable

OVERALL = "Overall"


def model_names(tables: Sequence[ScoreTable]) -> list[str]:
    """How the models are called in print: the last part of the checkpoint, numbered where two would be alike."""
    names: list[str] = []
    for table in tables:
        name = table.checkpoint.rstrip("/").split("/")[-1]
        taken = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({taken + 1})" if taken else name)
    return names


def mask_name(table: ScoreTable, mask: Sequence[str]) -> str:
    """How a mask is called in print."""
    label = masks.label(mask, table.encoders)
    return {"none": "full model", "all": "all dropped"}.get(label, f"without {label}")


def benchmarks(table: ScoreTable) -> pd.DataFrame:
    """Points of every mask on every benchmark."""
    index = pd.Index([mask_name(table, mask) for mask in table.masks], name="mask")
    return pd.DataFrame(table.points, index=index, columns=[b.name for b in table.benchmarks])


def scores(table: ScoreTable) -> pd.DataFrame:
    """Category scores and their plain mean (overall) under every mask, in points."""
    values = table.categories(table.points)
    index = pd.Index([mask_name(table, mask) for mask in table.masks], name="mask")
    frame = pd.DataFrame(values, index=index, columns=list(table.taxonomy.categories))
    frame[OVERALL] = metrics.overall_scores(values)
    return frame


def cur(table: ScoreTable) -> pd.DataFrame:
    """CUR of every encoder in every category, and its mean over the categories (overall); fractions."""
    values = table.cur()
    frame = pd.DataFrame(
        values, index=pd.Index(table.encoders, name="encoder"), columns=list(table.taxonomy.categories)
    )
    frame[OVERALL] = metrics.overall_cur(values)
    return frame


def information_gap(tables: Sequence[ScoreTable]) -> pd.DataFrame:
    """IG of every model in every category, and the range of its overall CURs (overall); fractions."""
    rows = [pd.Series(metrics.information_gap(frame.to_numpy()), index=frame.columns) for frame in map(cur, tables)]
    return pd.DataFrame(rows, index=pd.Index(model_names(tables), name="model"))
