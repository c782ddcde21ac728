"""OpenVLA's answers: tokens that stand for bins of an action, and the values of these.

Source: openvla/openvla at c8f03f4, prismatic/extern/hf/modeling_prismatic.py:493-536.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from redundancy_eval.errors import SetupError


def bins(ids: Sequence[int], vocabulary: int, edges: int = 256) -> list[int]:
    """The bin of each token: the last of the vocabulary is bin 0; what lies outside goes to the nearest bin.

    Args:
        ids: of tokens.
        vocabulary: how many tokens there are, without the rows that pad the embeddings.
        edges: of the bins, one more than these.
    """
    return [min(max(vocabulary - token - 1, 0), edges - 2) for token in ids]


def values(of: Sequence[int], stats: Mapping[str, Any], edges: int = 256) -> list[float]:
    """The values of an action's bins, in the units of a data set.

    Args:
        of: bins.
        stats: `q01` and `q99` of each value, and `mask`: where it is false, a value stays in -1..1.
        edges: of the bins, evenly over -1..1.
    """
    line = np.linspace(-1, 1, edges)
    centres = ((line[:-1] + line[1:]) / 2)[np.asarray(of, dtype=int)]
    low, high = (np.asarray(stats[key], dtype=float)[: len(of)] for key in ("q01", "q99"))
    scaled = 0.5 * (centres + 1) * (high - low) + low
    mask = np.asarray(stats.get("mask", [True] * len(of)), dtype=bool)[: len(of)]
    return [float(value) for value in np.where(mask, scaled, centres)]


def chosen(statistics: Mapping[str, Any], key: str | None) -> Mapping[str, Any] | None:
    """The statistics of a data set: that which is asked for, or the only one; None where neither says which.

    Raises:
        SetupError: there is none of that name, or its numbers are none.
    """
    if key is not None and key not in statistics:
        raise SetupError(f"actions must be one of {', '.join(statistics) or 'none, as there are no norm_stats'}")
    if key is None and len(statistics) != 1:
        return None
    name = next(iter(statistics)) if key is None else key
    stats = statistics[name].get("action")
    rows = [stats.get(part) if isinstance(stats, Mapping) else None for part in ("q01", "q99")]
    rows += [stats["mask"]] if isinstance(stats, Mapping) and stats.get("mask") is not None else []
    if not all(isinstance(row, list) and row and len(row) == len(rows[0] or ()) for row in rows):
        raise SetupError(f"norm_stats of {name!r}: q01, q99 and mask must be lists of one length")
    return {key: value for key, value in stats.items() if value is not None}


def text(ids: Sequence[int], vocabulary: int, stats: Mapping[str, Any] | None, edges: int = 256) -> str | None:
    """An action as it is shown: its values, or `<bin 17>`, ... where their units are not known; None for no action.

    Args:
        ids: of an answer's tokens.
        vocabulary: see `bins`.
        stats: of the data set whose units are wanted, see `values`.
        edges: of the bins.
    """
    length = len(ids) if stats is None else len(stats["q01"])
    action = ids[:length]
    if not action or len(action) < length or not all(vocabulary - edges <= token < vocabulary for token in action):
        return None
    found = bins(action, vocabulary, edges)
    if stats is None:
        return " ".join(f"<bin {number}>" for number in found)
    return " ".join(f"{value:.9g}" for value in values(found, stats, edges))
