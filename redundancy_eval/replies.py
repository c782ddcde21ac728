"""What the replies themselves give away: masks that answered alike, a model that fell silent.

`Replies` are hashes of replies (documents,), 0 where no reply is known.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import masks
from redundancy_eval.grouping import Model
from redundancy_eval.leniency import Leniency
from redundancy_eval.runs import Samples
from redundancy_eval.table import Mask

Name = TypeVar("Name")
Replies = NDArray[np.uint64]

FEW = 50  # documents: with fewer, a mask that was applied may change no answer
_UNIFORM = 10  # replies that must be one and the same before that is said


def alike(replies: Mapping[Name, Replies]) -> list[list[Name]]:
    """The groups of two or more whose replies to the same documents are all the same; unknown ones are like nothing."""
    groups: dict[bytes, list[Name]] = {}
    for name, mine in replies.items():
        if len(mine) and mine.all():
            groups.setdefault(mine.tobytes(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def changed(full: Replies, masked: Replies) -> tuple[int, int]:
    """How many of the replies that are known on both sides differ, and how many those are."""
    if full.shape != masked.shape:
        return 0, 0
    known = (full != 0) & (masked != 0)
    return int((full[known] != masked[known]).sum()), int(known.sum())


def uniform(replies: Replies) -> bool:
    """Whether many documents got one and the same reply."""
    return len(replies) >= _UNIFORM and bool(replies[0]) and bool((replies == replies[0]).all())


def check(
    model: Model, answers: Mapping[str, Mapping[Mask, Samples]], points: NDArray[np.float64], lenient: Leniency
) -> list[str]:
    """Name masks that may not have been applied, and models that fell silent.

    Args:
        model: its masks.
        answers: samples of each task by mask.
        points: (masks, benchmarks).
        lenient: which kinds of bad data are warnings.

    Raises:
        DataError: under a mask, not one of many answers is another than the full model's; with linear stand-ins, which
            may be as good as what they stand for, that is a note.
    """
    notes = []
    predicted = any(run.arguments.get("ablation") == "predicted" for run in model.runs if not run.is_full)
    for task, of_mask in answers.items():
        for group in alike({mask: samples.replies for mask, samples in of_mask.items()}):
            said = ", ".join(f"drop={masks.label(mask, model.encoders)}" for mask in group)
            notes.append(f"{task}: the same {len(of_mask[group[0]].replies)} replies under {said}")
    for row, mask in enumerate(model.masks):
        label = masks.label(mask, model.encoders)
        mine = {task: of_mask[mask] for task, of_mask in answers.items() if mask in of_mask}
        if mask and () in model.masks:
            pairs = [(answers[task][()], samples) for task, samples in mine.items() if () in answers[task]]
            same = np.array_equal(points[row], full := points[model.masks.index(())], equal_nan=True)
            alike_points = bool(same and np.isfinite(full).any())
            notes += _check_applied(label, pairs, alike_points, predicted, lenient)
        empty = {task: s for task, s in mine.items() if len(s.empty) and s.empty.mean() >= 0.5}
        if empty:
            counts = sum(int(s.empty.sum()) for s in empty.values()), sum(len(s.empty) for s in empty.values())
            where = f" on {', '.join(empty)}" if len(mine) == 1 or len(empty) < len(mine) else ""
            notes.append(f"drop={label}: {counts[0]} of {counts[1]} replies{where} are empty")
        for task, s in mine.items():
            if task not in empty and uniform(s.replies) and len(mask) < len(model.encoders):
                notes.append(f"drop={label}: all {len(s.replies)} replies on {task} are the same text")
    return notes


def _check_applied(
    label: str, pairs: Sequence[tuple[Samples, Samples]], same_points: bool, predicted: bool, lenient: Leniency
) -> list[str]:
    """Whether a mask was applied, by the full model's samples and its own of each task."""
    compared = [changed(full.replies, masked.replies) for full, masked in pairs]
    other, known = (sum(counts) for counts in zip(*compared, strict=True)) if compared else (0, 0)
    if known >= FEW and not other and predicted:
        return [f"drop={label} with its linear stand-in changed none of {known} answers of the full model"]
    if known >= FEW and not other:
        lenient.refuse(
            "same-answers",
            f"dropping {label} changed none of {known} answers of the full model, so the mask was hardly applied: "
            f"{pairs[0][1].path}",
        )
    if not known and same_points:
        return [f"drop={label} has the full model's scores on all benchmarks; no samples tell whether it was applied"]
    return []
