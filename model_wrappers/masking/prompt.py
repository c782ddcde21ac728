"""What is put to a model under a mask and what comes back, whatever the model; and what is asked of all of them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from transformers import LogitsProcessor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.masking import ablations


@dataclass(frozen=True)
class Prompt:
    """What is put to a model: the user's text (with or without image placeholders) and its images.

    `name` is task and document, for messages; `reworded` tells that tags in the text were made words.
    """

    text: str
    images: tuple[Image.Image, ...] = ()
    name: str = ""
    reworded: bool = False


@dataclass(frozen=True)
class Prefix:
    """The first `length` tokens of a sequence, computed once for all sequences of a batch that have an equal `key`.

    `images` tells whether all of the sequence's images lie in it, or none does.
    """

    key: Hashable
    length: int
    images: bool


@dataclass(frozen=True)
class Answer:
    """A generated answer: its text, token counts, and whether it was stopped by the token limit.

    `ids` are its `new_tokens` token ids, with the one that ended it. `log_probability` is the natural logarithm of the
    model's own probability of exactly these (its raw logits, softmax in float32); None where the answer was drawn or
    found by beams. It is left out of comparisons, because the same answer in another batch differs in the last digits.
    """

    text: str
    prompt_tokens: int
    new_tokens: int
    capped: bool
    ids: tuple[int, ...] = ()
    log_probability: float | None = field(default=None, compare=False)


class Masked(Protocol):
    """A loaded model under a mask, as frameworks, sweeps and calibrations use it: MaskedModel or HfMaskedModel.

    Attributes:
        mask: names of the dropped encoders.
        site: where a dropped encoder's output is replaced.
        ablation: what stands in for it.
        cut, moved, first, known: names of the prompts that were cut; whose placeholders did not fit their images; that
            lost all but their first images; that show images of the calibration.
    """

    mask: tuple[str, ...]
    site: str
    ablation: ablations.Ablation
    cut: list[str]
    moved: list[str]
    first: list[str]
    known: list[str]

    @property
    def encoder_names(self) -> tuple[str, ...]:
        """Names of all encoders, in the model's order."""

    @property
    def mask_label(self) -> str:
        """Canonical text of the mask."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the model's numbers."""

    def generate(self, batch: Sequence[Prompt], max_new_tokens: int, **settings: Any) -> list[Answer]:
        """Answer prompts; greedy unless `settings` (transformers' generation settings) say otherwise."""

    def loglikelihood(self, batch: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[float, bool]]:
        """For each prompt: natural log-probability of its continuation as the answer, and whether greedy says it."""

    def outputs(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Outputs of every encoder at the model's site, for a calibration."""

    def feeds(self) -> list[str]:
        """Dropped encoders that kept ones see through, `sam feeds clip`, as far as is known."""


class Numbers(LogitsProcessor):
    """Stops at the first step whose logits are not numbers: such an answer would be empty, and count as wrong.

    Args:
        names: what each sequence is, for the message.
        dtype: of the model.
        eos: what ends an answer; what the model makes of one after its end decides nothing.
        start: how many of the ids are the prompt's.
    """

    def __init__(self, names: Sequence[str], dtype: torch.dtype, eos: Sequence[int] = (), start: int = 0):
        self.names, self.dtype, self.eos, self.start = names, dtype, tuple(eos), start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The logits (sequences, vocabulary), as they are.

        Raises:
            SetupError: with the first sequence whose logits are not numbers.
        """
        bad = ~(scores.amax(-1) < float("inf"))  # the greatest of a row with NaN is NaN
        if bad.any() and self.eos:
            bad &= ~torch.isin(input_ids[:, self.start :], input_ids.new_tensor(self.eos)).any(-1)
        if bad.any():
            row = int(bad.nonzero()[0])
            raise not_numbers(self.names[row * len(self.names) // len(scores)] if self.names else "", self.dtype)
        return scores


def not_numbers(name: str, dtype: torch.dtype) -> SetupError:
    """What to say of logits that are not numbers."""
    kind = str(dtype).removeprefix("torch.")
    if dtype == torch.float32:
        advice = "the weights, in float32, may be damaged"
    elif dtype == torch.float16:
        advice = "float16 overflows (try dtype=bfloat16 or float32)"
    else:
        advice = f"in {kind} (try dtype=float32)"
    return SetupError(f"{name or 'prompt'}: the logits are not numbers; {advice}")
