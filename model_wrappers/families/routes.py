"""Families whose language model chooses encoders for each question, before it answers (MoVA)."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

FREE, FIXED = KINDS = ("free", "fixed")  # whose choice counts under a mask: the masked model's, or the full model's


class Router(Protocol):
    """What masking calls of such a family's model.

    Attributes:
        pool: encoders that are chosen from; the others run for every question.
        answer_tokens: most tokens of the answer that chooses.
    """

    pool: tuple[str, ...]
    answer_tokens: int

    def routing_text(self, question: str) -> str:
        """The user's turn that asks for encoders, with the image's placeholder."""

    def first_look(self, features: Mapping[str, Tensor]) -> list[Any]:
        """What stands for each image (a Visual) when encoders are chosen, of the outputs of those not in the pool."""

    def chosen(self, answer: str) -> tuple[str, ...]:
        """The encoders that the answer names, in order."""

    def layout(self, question: str, chosen: Sequence[str]) -> Any:
        """What the fusion must know of an image, the question that is asked about it and the encoders chosen."""
