"""Answers of a model that another wrapper asks (`masked`), in the response store as they are given.

Of such a model nothing is known but what goes in and what comes out. So an answer is kept only where it stands for
itself: the weights are known, the request was put alone and showed pictures or nothing, no random number was drawn, and
the answer is not empty, as wrappers give an empty text where they failed. All else is asked as in a separate run, and
kept by whole masks.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from redundancy_eval.model_wrappers.sweeps import base_model
from redundancy_eval.model_wrappers.sweeps.masks import FULL
from redundancy_eval.model_wrappers.sweeps.sweep import Sweep
from redundancy_eval.store import Key, Store, Stored

UNKNOWN_WEIGHTS = "what weights the base model reads is not known: name them, pretrained=FOLDER or a hub id"
DRAWN = "the base model draws random numbers as it answers"


class Answers:
    """The store, as a wrapped model's answers go into it.

    Args:
        store: the sweep's.
        asked: gets the questions that it is to hold, see `Sweep.asked`.
        reason: why nothing may be kept, or "".
    """

    def __init__(self, store: Store, asked: set[Key], reason: str = ""):
        self.store, self.asked, self.reason = store, asked, reason
        self.looked: dict[Any, Any] = {}  # what is known of a document, whatever the mask
        self.checked: set[Any] = set()  # documents whose pictures can be read
        self._said: set[str] = set()

    def ask(self, keys: Iterable[Key]) -> None:
        """Take down what is asked."""
        self.asked.update(replace(key, mask=FULL) for key in keys)

    def keep(self, key: Key, stored: Stored) -> None:
        """Put an answer on disk, unless it is empty."""
        if stored.text.strip():
            self.store.add(key, stored)
            self.store.flush()

    def say(self, reason: str) -> None:
        """Tell once why answers are not kept one by one."""
        if reason not in self._said:
            self._said.add(reason)
            print(f"kept by whole masks, not answer by answer: {reason}", file=sys.stderr, flush=True)


def answers(sweep: Sweep, given: Mapping[str, str]) -> Answers:
    """Those of a sweep, of the model that the arguments of `masked` name."""
    return Answers(sweep.store, sweep.asked, "" if base_model.checkpoint(given) else UNKNOWN_WEIGHTS)
