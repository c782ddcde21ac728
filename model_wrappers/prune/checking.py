"""Whether a pruned checkpoint answers as the mask of its source does: embeddings and greedy answers side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.model_wrappers import process
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.masking.prompt import Prompt

QUESTION, NEW_TOKENS = "Describe the image.", 16
_ROUNDING, _HALF = 1e-4, 2**-6  # of a sum in another order, relative, in float32 and in half precision
_SIZES = ((320, 240), (240, 320), (256, 256))


@dataclass(frozen=True)
class Check:
    """How two models differ over `images` images.

    `equal_embeddings` counts images whose embeddings are equal to the bit, `largest` is the largest difference between
    embeddings relative to their largest value, `equal_answers` counts equal greedy answers. `precise` tells float32
    from half precision.
    """

    images: int
    equal_embeddings: int
    largest: float
    equal_answers: int
    precise: bool

    def passed(self, exact: bool) -> bool:
        """Whether all answers are equal, and embeddings to the bit (`exact`) or within rounding.

        A sliced or refitted checkpoint adds up in another order.
        """
        close = (
            self.equal_embeddings == self.images if exact else self.largest <= (_ROUNDING if self.precise else _HALF)
        )
        return close and self.equal_answers == self.images

    def described(self) -> str:
        """A line."""
        return (
            f"of {self.images} images, embeddings of {self.equal_embeddings} are equal to the bit (largest relative "
            f"difference {self.largest:.2g}), greedy answers of {self.equal_answers}"
        )


def pictures(count: int) -> list[Image.Image]:
    """Random pictures, the same each time, of several shapes."""
    shapes = [_SIZES[number % len(_SIZES)] for number in range(count)]
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in shapes]


def compare(model_id: str, given: Mapping[str, str], out: Path, images: Sequence[Image.Image]) -> Check:
    """Compare the mask of the source with the pruned checkpoint; one of them is in memory at a time.

    Args:
        model_id: of the family.
        given: the model arguments that the checkpoint was pruned with.
        out: the pruned checkpoint.
        images: to look at.
    """
    gone = ("drop", "keep", "ablation", "calibration", "revision")
    whole = _look(model_id, given, images)
    small = _look(model_id, {**{k: v for k, v in given.items() if k not in gone}, "pretrained": str(out)}, images)
    pairs = list(zip(whole.embeddings, small.embeddings, strict=True))
    differences = torch.stack([(a - b).abs().max() / a.abs().max().clamp_min(1e-30) for a, b in pairs])
    answers = sum(a == b for a, b in zip(whole.answers, small.answers, strict=True))
    equal = sum(torch.equal(a, b) for a, b in pairs)
    return Check(len(images), equal, float(differences.max()), answers, whole.precise)


@dataclass(frozen=True)
class _Seen:
    """Of each image, a model's embeddings and greedy answer (text, tokens)."""

    embeddings: Sequence[Tensor]
    answers: Sequence[tuple[str, int]]
    precise: bool


def _look(model_id: str, given: Mapping[str, str], images: Sequence[Image.Image]) -> _Seen:
    with process.silence():
        model = loading.load(model_id, **given)
    assert isinstance(model, MaskedModel)
    embeddings, answers = [], []
    for image in images:
        embeddings.append(model.visuals([image])[0].embeddings.float().cpu())
        answer = model.generate([Prompt(QUESTION, (image,))], NEW_TOKENS)[0]
        answers.append((answer.text, answer.new_tokens))
    return _Seen(embeddings, answers, model.dtype == torch.float32)
