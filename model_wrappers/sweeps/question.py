"""What a framework asks, as a sweep takes it."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from PIL import Image

from redundancy_eval import store
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from redundancy_eval.store import Key


@dataclass(frozen=True)
class Question:
    """A document's question, as a framework puts it; its images are decoded when they are asked for.

    `limit` is the most new tokens, `settings` are transformers' generation settings; `reworded` tells that image
    tags in its text were made words.
    """

    task: str
    split: str
    document: str
    text: str
    limit: int
    settings: Mapping[str, Any]
    images: Callable[[], Sequence[Image.Image]]
    reworded: bool = False

    @cached_property
    def generation(self) -> str:
        """How it is answered."""
        return store.canonical({"max_new_tokens": self.limit, **self.settings})

    @cached_property
    def wording(self) -> str:
        """Hash of its text."""
        return store.prompt_hash(self.text)

    def key(self, mask: str) -> Key:
        """Its key in the store, under a mask."""
        return Key(self.task, self.split, self.document, self.wording, self.generation, mask)

    def prompt(self) -> Prompt:
        """What is put to the model."""
        return Prompt(self.text, tuple(self.images()), f"{self.task} document {self.document}", self.reworded)


@dataclass(frozen=True)
class Heard:
    """A question that was listened to; `pictures` stand for its images.

    Equal ones stand for the same image; None where the data set does not tell.
    """

    question: Question
    pictures: tuple[Hashable, ...] | None
