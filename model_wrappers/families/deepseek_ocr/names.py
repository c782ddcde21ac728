"""Names of DeepSeek-OCR's tensors: in the original release, in transformers' conversion of it, and here."""

import re
from functools import partial

from torch import Tensor

from redundancy_eval.model_wrappers.checkpoints import weights

TOWERS = {"clip": "vision_model", "sam": "sam_model"}
# Beginning of a released name, original or transformers' -> the part it belongs to, and its beginning there.
_PARTS = {
    "model.sam_model.": "sam:",
    "model.vision_model.": "clip:",
    "model.vision_tower.sam_encoder.": "sam:",
    "model.vision_tower.vision_encoder.": "clip:",
    "model.projector.layers.": ":projector.",
    "model.multi_modal_projector.": ":projector.",
    "model.image_newline": ":image_newline",
    "model.view_seperator": ":view_seperator",
    "model.view_separator": ":view_seperator",
    "model.language_model.": "language:model.",
    "lm_head.": "language:lm_head.",
}
_ROTARY = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
_JOINED = re.compile(r"(model\.layers\.\d+\.mlp\.experts)\.(gate_up_proj|down_proj)")


def placed(released: str) -> str:
    """`PART:NAME` of a released tensor: part `clip`, `sam`, `language` or none, and its name there."""
    start = next((start for start in _PARTS if released.startswith(start)), "")
    return _PARTS[start] + released.removeprefix(start) if start else f"language:{released}"


def language_name(name: str, experts: int) -> weights.Target:
    """Own name, or names, of a tensor of the language model; None for one that is made anew.

    Args:
        name: released.
        experts: how many a layer has, which transformers joins in one tensor.
    """
    if _ROTARY.fullmatch(name):
        return None
    if not (found := _JOINED.fullmatch(name)):
        return f"language_model.{name}"
    parts = ("gate_proj", "up_proj") if found[2] == "gate_up_proj" else ("down_proj",)
    return {
        f"language_model.{found[1]}.{number}.{part}.weight": partial(_piece, number, place, len(parts))
        for number in range(experts)
        for place, part in enumerate(parts)
    }


def _piece(number: int, place: int, parts: int, value: Tensor) -> Tensor:
    return value[number].chunk(parts)[place]


def release(own: str) -> str:
    """The original's name of one of our tensors, but for those of encoders."""
    if own.startswith("language_model."):
        return own.removeprefix("language_model.")
    return "model." + own.replace("projector.", "projector.layers.", 1)
