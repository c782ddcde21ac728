"""How probable the full model held the answers that it gave, from the response store beside a sweep's results."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import records, store
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.runs import Samples, reply_digest

FULL = "none"
NO_STORE = "no sweep's response store lies beside the full model's results"
_Answers = dict[tuple[str, str], list[tuple[int, float]]]  # task, document -> hash of a text, its log-probability


@dataclass(frozen=True)
class Known:
    """Of the full model's answers (documents,), see `table.Said`; `reason` where log-probabilities are missing."""

    log_probability: NDArray[np.float64]
    alone: NDArray[np.float64]
    reason: str = ""


def of(task: str, samples: Samples) -> Known:
    """What the store beside the full model's samples tells of their answers.

    A log-probability belongs to the very text that was scored: one that was cut, or changed in a spreadsheet, has none.

    Args:
        task: the framework's.
        samples: of the full model.
    """
    count = len(samples.documents)
    log_probability, alone = np.full(count, np.nan), np.full(count, np.nan)
    folder = _beside(samples.path)
    if folder is None:
        return Known(log_probability, alone, NO_STORE)
    try:
        kept, again = _read(folder, store.stamp(folder))
    except (DataError, SetupError) as error:
        return Known(log_probability, alone, str(error))
    for place, (document, reply) in enumerate(zip(samples.documents, samples.replies.tolist(), strict=True)):
        key = task, str(document)
        log_probability[place] = next((value for text, value in kept.get(key, ()) if text == reply), np.nan)
        if reply and key in again:
            alone[place] = all(text != reply for text, _ in again[key])
    missing = int(np.isnan(log_probability).sum())
    reason = f"the response store has no log-probability of {missing} of {count} answers of the full model to {task}"
    return Known(log_probability, alone, reason if missing else "")


def _beside(path: Path) -> Path | None:
    """The store of the sweep that wrote a file; None where no sweep did, or its store is gone."""
    folder = records.find(list(path.parents)[:2])
    if folder is None or not records.read([folder]).get("sweep"):
        return None
    found = folder.parent / "store"
    return found if (found / store.HEADER).is_file() else None


@lru_cache(maxsize=4)
def _read(folder: Path, stamp: str) -> tuple[_Answers, _Answers]:
    """The full model's answers, among the masks and alone."""
    found: tuple[_Answers, _Answers] = {}, {}
    for key, stored in store.under(folder, (FULL, store.ALONE)):
        value = np.nan if stored.log_probability is None else stored.log_probability
        of_mask = found[key.mask == store.ALONE]
        of_mask.setdefault((key.task, key.document), []).append((reply_digest(stored.text), value))
    return found
