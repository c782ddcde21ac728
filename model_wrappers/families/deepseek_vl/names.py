"""Names of DeepSeek-VL-7B's tensors: in the original release, in transformers' conversion of it, and here.

Sources: deepseek-ai/DeepSeek-VL at 681bffb, deepseek_vl/models/sam.py and siglip_vit.py; transformers'
deepseek_vl_hybrid.
"""

import re
from functools import partial

from torch import Tensor

from redundancy_eval.model_wrappers.checkpoints import weights

# Tensors that a checkpoint may hold and nothing computes with: two layer norms, SigLIP's pooling head, rotary tables.
UNUSED = re.compile(
    r"vision_model\.(high|low)_layer_norm\..*"
    r"|vision_model\.vision_tower_low\.vision_tower\.attn_pool\..*"
    r"|model\.vision_model\.(vision_model\.)?head\..*"
    r"|.*\.rotary_emb\.inv_freq"
    r"|.*\.embeddings\.position_ids"
)
_SAM = "vision.high_res_vision_model.vision_encoder."
_SIGLIP = "vision.vision_model."
_NECK = {"0": "conv1", "1": "layer_norm1", "2": "conv2", "3": "layer_norm2"}
OF_ENCODER = {
    "sam": ("high_res_vision_model", "high_res_vision_neck", "high_res_vision_proj", "high_res_vision_alpha"),
    "siglip": ("vision_model",),
}
# Original beginning of a name -> own beginning; the first that fits.
_HIGH, _LOW = "vision_model.vision_tower_high.vision_tower.", "vision_model.vision_tower_low.vision_tower."
_ORIGINAL = {
    _HIGH + "hd_alpha_downsamples": "vision.high_res_vision_alpha",
    _HIGH + "downsamples.0.": "vision.high_res_vision_proj.conv1.",
    _HIGH + "downsamples.1.": "vision.high_res_vision_proj.conv2.",
    _HIGH + "neck_hd.": "vision.high_res_vision_neck.",
    _HIGH + "blocks.": _SAM + "layers.",
    _HIGH + "patch_embed.proj.": _SAM + "patch_embed.projection.",
    _HIGH: _SAM,
    _LOW + "blocks.": _SIGLIP + "encoder.layers.",
    _LOW + "norm.": _SIGLIP + "post_layernorm.",
    _LOW + "patch_embed.proj.": _SIGLIP + "embeddings.patch_embedding.",
    "aligner.high_up_proj.": "vision.aligner.high_res_vision_proj.",
    "aligner.low_up_proj.": "vision.aligner.vision_proj.",
    "aligner.layers.1.": "vision.aligner.proj.",
}


def _third(index: int, value: Tensor) -> Tensor:
    return value.chunk(3)[index]


def _without_first_axis(value: Tensor) -> Tensor:
    return value.flatten(0, 1)


def original_name(released: str) -> weights.Target:
    """Own name, or names, of a tensor of the original release."""
    if released == _LOW + "pos_embed":
        return {_SIGLIP + "embeddings.position_embedding.weight": _without_first_axis}
    start = next((start for start in _ORIGINAL if released.startswith(start)), "")
    own = _ORIGINAL.get(start, "") + released.removeprefix(start)
    own = re.sub(r"(layers\.\d+)\.norm([12])\.", r"\1.layer_norm\2.", own)
    if own.startswith(_SIGLIP):
        own = own.replace(".attn.proj.", ".self_attn.out_proj.")
        if ".attn.qkv." in own:
            names = (own.replace(".attn.qkv.", f".self_attn.{letter}_proj.") for letter in "qkv")
            return {name: partial(_third, index) for index, name in enumerate(names)}
    elif own.startswith("vision.high_res_vision_"):
        own = re.sub(r"neck\.([0-3])\.", lambda found: f"neck.{_NECK[found[1]]}.", own)
    return own


def native_name(released: str) -> str:
    """Own name of a tensor of the conversion; transformers 4 kept SigLIP one level deeper than transformers 5."""
    if released.startswith("lm_head."):
        return f"language_model.{released}"
    if released.startswith("model.language_model."):
        return released.replace("model.language_model.", "language_model.model.", 1)
    released = released.replace("model.vision_model.vision_model.", "model.vision_model.", 1)
    return re.sub(r"^model\.", "vision.", released)


def original_release(own: str) -> str:
    """The inverse of `original_name`; q, k and v are one tensor in the release."""
    if own.startswith(_SIGLIP):
        own = re.sub(r"\.self_attn\.[qkv]_proj\.", ".attn.qkv.", own).replace(".self_attn.out_proj.", ".attn.proj.")
        own = own.replace("embeddings.position_embedding.weight", "pos_embed")
    elif own.startswith("vision.high_res_vision_"):
        numbers = {name: number for number, name in _NECK.items()}
        own = re.sub(r"neck\.(\w+)\.", lambda found: f"neck.{numbers.get(found[1], found[1])}.", own)
    own = re.sub(r"(layers\.\d+)\.layer_norm([12])\.", r"\1.norm\2.", own)
    starts = [(new, old) for old, new in _ORIGINAL.items() if own.startswith(new)]
    if starts:
        new, old = max(starts, key=lambda pair: len(pair[0]))
        return old + own.removeprefix(new)
    return _LOW + own.removeprefix(_SIGLIP) if own.startswith(_SIGLIP) else own


def native_release(own: str) -> str:
    """The inverse of `native_name`."""
    own = re.sub(r"^language_model\.lm_head\.", "lm_head.", own)
    own = re.sub(r"^language_model\.model\.", "model.language_model.", own)
    return re.sub(r"^vision\.", "model.", own)
