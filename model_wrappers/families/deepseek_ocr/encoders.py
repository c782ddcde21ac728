"""SAM-B with two convolutions and, behind it, CLIP-L without its patch embedding, as DeepSeek-OCR has them.

Computed by transformers' `unlimited_ocr`, whose sizes are the released ones. Tensors are renamed from the original
release, deepencoder.py of the hub repository; transformers' own names are taken as well.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import UnlimitedOcrConfig
from transformers.models.unlimited_ocr.modeling_unlimited_ocr import (
    UnlimitedOcrSamVisionEncoder,
    UnlimitedOcrVisionEncoder,
)

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.families.deepseek_ocr import card

_NECK = {"0": "conv1", "1": "layer_norm1", "2": "conv2", "3": "layer_norm2"}
_CONVOLUTIONS = {"net_2": "proj.conv1", "net_3": "proj.conv2"}
_LETTERS = "qkv"


def configs(config: Mapping[str, Any], attention: str) -> Any:
    """transformers' config of both encoders, of a checkpoint's: `.sam_config` and `.encoder_config` (CLIP).

    The original code has its sizes hard-coded, whatever its config says.

    Args:
        config: of either layout.
        attention: `attn_implementation`; SAM takes `eager` or `sdpa` only, and both get one.

    Raises:
        SetupError: sizes that there are not, or that do not fit each other.
    """
    native = config["model_type"] == card.NATIVE
    made = UnlimitedOcrConfig(
        vision_config=config.get("vision_config") if native else _translated(config)
    ).vision_config
    for part in (made.sam_config, made.encoder_config):
        part._attn_implementation = "eager" if attention == "eager" else "sdpa"
    width, patch = made.sam_config.downsample_channels[1], made.sam_config.patch_size
    if width != made.encoder_config.hidden_size or patch != 16:
        raise SetupError(
            f"SAM must give maps of CLIP's width, {made.encoder_config.hidden_size}, from patches of 16 pixels; "
            f"not of {width} from {patch}"
        )
    return made


def _translated(config: Mapping[str, Any]) -> dict[str, Any]:
    told = config.get("encoder_configs", {})
    if unknown := sorted(set(told) - set(KINDS)):
        raise SetupError(f"encoder_configs names {unknown[0]!r}, which is no encoder of this family")
    for name, own in told.items():
        if unknown := sorted(set(own) - set(KINDS[name].released)):
            raise SetupError(f"encoder_configs[{name!r}] has unknown settings: {', '.join(unknown)}")
    sam, clip = ({**KINDS[name].released, **told.get(name, {})} for name in ("sam", "clip"))
    return {
        "sam_config": {
            "hidden_size": sam["width"],
            "num_hidden_layers": sam["layers"],
            "num_attention_heads": sam["heads"],
            "global_attn_indexes": list(sam["global_attn_indexes"]),
            "output_channels": sam["prompt_embed_dim"],
            "downsample_channels": list(sam["downsample_channels"]),
            "mlp_dim": 4 * sam["width"],
        },
        "encoder_config": {
            "hidden_size": clip["width"],
            "intermediate_size": clip["ffn"],
            "num_hidden_layers": clip["layers"],
            "num_attention_heads": clip["heads"],
        },
    }


class SamEncoder(nn.Module):
    """SAM: pixels -> a map of a sixteenth of the patches, which CLIP takes and the fusion, too."""

    released: dict[str, Any] = dict(
        width=768, layers=12, heads=12, global_attn_indexes=(2, 5, 8, 11), prompt_embed_dim=256,
        downsample_channels=(512, 1024),
    )  # fmt: skip

    def __init__(self, config: Any):
        super().__init__()
        self.model = UnlimitedOcrSamVisionEncoder(config)

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return int(sizes["downsample_channels"][1])

    def rename(self, released: str) -> str:
        """Released name, original or transformers' -> own name."""
        own = re.sub(r"^blocks\.", "layers.", released)
        own = re.sub(r"^(layers\.\d+)\.norm([12])\.", r"\1.layer_norm\2.", own)
        own = own.replace("patch_embed.proj.", "patch_embed.projection.")
        own = re.sub(r"^neck\.([0-3])\.", lambda found: f"neck.{_NECK[found[1]]}.", own)
        for old, new in _CONVOLUTIONS.items():
            own = re.sub(rf"^{old}\.", f"{new}.", own)
        return f"model.{own}"

    def release(self, own: str) -> str:
        """The inverse of `rename`, to the original's name."""
        released = own.removeprefix("model.")
        for old, new in _CONVOLUTIONS.items():
            released = re.sub(rf"^{new}\.", f"{old}.", released)
        numbers = {name: number for number, name in _NECK.items()}
        released = re.sub(r"^neck\.(\w+)\.", lambda found: f"neck.{numbers[found[1]]}.", released)
        released = released.replace("patch_embed.projection.", "patch_embed.proj.")
        released = re.sub(r"^layers\.(\d+)\.layer_norm([12])\.", r"layers.\1.norm\2.", released)
        return re.sub(r"^layers\.", "blocks.", released)

    def restore_buffers(self) -> None:
        """It has none."""

    def forward(self, pixels: Tensor) -> Tensor:
        """(views, 3, side, side), normalised -> (views, channels, tokens of a side, tokens of a side)."""
        found: Tensor = self.model(pixels).last_hidden_state
        return found


class ClipEncoder(nn.Module):
    """CLIP: a map of SAM's as its patches -> their tokens behind all layers, without final norm and class token."""

    released: dict[str, Any] = dict(width=1024, layers=24, heads=16, ffn=4096)
    _UNUSED = ("embeddings.patch_embedding.weight", "embeddings.position_ids")

    def __init__(self, config: Any):
        super().__init__()
        self.model = UnlimitedOcrVisionEncoder(config)

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return int(sizes["width"])

    def rename(self, released: str) -> weights.Target:
        """Released name, original or transformers' -> own name or names; None for what SAM stands in for."""
        if released in self._UNUSED:
            return None
        own = f"model.{re.sub('^transformer.', 'encoder.', released)}"
        if ".qkv_proj." in own:
            return {own.replace(".qkv_", f".{letter}_"): partial(_third, n) for n, letter in enumerate(_LETTERS)}
        return own

    def release(self, own: str) -> str:
        """The inverse of `rename`, to the original's name; q, k and v are one tensor there."""
        released = re.sub(r"^encoder\.", "transformer.", own.removeprefix("model."))
        return re.sub(r"\.[qkv]_proj\.", ".qkv_proj.", released)

    def restore_buffers(self) -> None:
        """The table of position indices."""
        weights.restore_position_ids(self.model.embeddings)

    def forward(self, maps: Tensor) -> Tensor:
        """(views, channels, rows, columns) -> (views, tokens, channels)."""
        found: Tensor = self.model(maps).last_hidden_state[:, 1:]
        return found


def _third(index: int, value: Tensor) -> Tensor:
    return value.chunk(3)[index]


KINDS: Mapping[str, type[ClipEncoder] | type[SamEncoder]] = {"clip": ClipEncoder, "sam": SamEncoder}
