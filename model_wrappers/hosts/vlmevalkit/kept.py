"""`masked` while a sweep runs: the base model is loaded once, and its answers are in the store as they are given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.vlmevalkit.hooked import HookedVlm
from redundancy_eval.model_wrappers.hosts.vlmevalkit.model import Message, fatal_errors, pictures
from redundancy_eval.model_wrappers.masking import ablations
from redundancy_eval.model_wrappers.masking.dice import Dice
from redundancy_eval.model_wrappers.sweeps.wrapped import DRAWN, Answers
from redundancy_eval.store import Key, Stored, canonical, prompt_hash


class KeptVlm(HookedVlm):
    """A wrapped model of VLMEvalKit under one of a sweep's masks.

    Args:
        arguments: see HookedVlm.
        bases: base models that were made already.
        answers: where its answers are kept.
    """

    def __init__(self, arguments: Mapping[str, str], bases: dict[str, Any], answers: Answers):
        super().__init__(arguments, bases)
        self.answers = answers

    def generate_inner(self, message: Any, dataset: str | None = None) -> str:
        """The stored answer, or the base's, which is stored."""
        with fatal_errors(f"drop={self.mask_label} on {dataset}"):
            known = self._known(message, str(dataset))
            if known is None:
                return super().generate_inner(message, dataset)
            key, images = known
            self.answers.ask([key])
            stored = self.answers.store.get(key)
            if stored is not None:
                run_record.tell_feeds(stored.notes)
                return stored.text
            dice = Dice()
            told = super().generate_inner(message, dataset)
            if dice.rolled():
                self.answers.say(DRAWN)
            else:
                self.answers.keep(key, Stored(told, None, None, False, images, tuple(self._fed())))
            return told

    def _known(self, message: Message, dataset: str) -> tuple[Key, tuple[str, ...]] | None:
        """A message's key in the store, and hashes of its pictures; None where its answer is not kept.

        A document goes by its pictures' file names, which VLMEvalKit mostly makes of its index, and their content.
        """
        pictured = {"text", "image"}.issuperset(part["type"] for part in message)
        if self.answers.reason or not pictured:
            self.answers.say(self.answers.reason or f"{dataset} shows something else than pictures")
            return None
        paths = [str(part["value"]) for part in message if part["type"] == "image"]
        for path in paths:
            if path not in self.answers.looked:
                self.answers.looked[path] = ablations.image_hash(pictures([path])[0])
        told = [
            [part["type"], Path(part["value"]).name if part["type"] == "image" else part["value"]] for part in message
        ]
        images = tuple(self.answers.looked[path] for path in paths)
        document = " ".join(f"{Path(path).name}:{image[:8]}" for path, image in zip(paths, images, strict=True))
        return Key(dataset, "", document, prompt_hash(canonical(told)), "", self.mask_label), images
