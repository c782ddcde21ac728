"""What the replies themselves give away: masks that answered alike, a model that fell silent.

All arrays are hashes of replies (documents,), 0 where no reply is known.
"""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

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
