"""What stands in for dropped encoders where it is guessed from the others' outputs (ablation=predicted)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.errors import SetupError

if TYPE_CHECKING:
    from redundancy_eval.model_wrappers.masking.native import MaskedModel


def of(subject: "MaskedModel", images: Sequence[Image.Image], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Linear guesses of the dropped encoders' outputs from those of the others."""
    if not subject.mask:
        return {}
    assert subject.ablation.predictor is not None
    more = [n for n in subject.model.replaced(subject.mask, "encoder", **subject.settings) if n not in subject.mask]
    if more:
        raise SetupError(f"ablation=predicted guesses dropped encoders alone; here {', '.join(more)} is replaced too")
    shapes, sides = subject.model.shapes("encoder"), subject.model.place_sides()
    places = shapes[subject.mask[0]][0] // sides[subject.mask[0]] ** 2
    like = torch.empty(0, dtype=subject.dtype, device=subject.device)
    return subject.ablation.predictor.stand_ins(outputs, subject.mask, len(subject.units(images)), places, like)
