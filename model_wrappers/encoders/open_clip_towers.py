"""SigLIP and ConvNeXt from open_clip's hub repositories, which hold timm models, as Cambrian-1 and MGM use them.

Source: cambrian-mllm/cambrian at 539ffc3, cambrian/model/multimodal_encoder/{siglip,clip_convnext}_encoder.py.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.encoders.hub_towers import Tower
from redundancy_eval.model_wrappers.encoders.pixels import HALF, resize_maps, to_grid, to_tokens
from redundancy_eval.model_wrappers.encoders.timms import timm


class OpenClipTower(Tower):
    """The image side of an open_clip repository that is a timm model (`visual.trunk.*`)."""

    timm_name: str
    unused: re.Pattern[str]
    trunk: nn.Module

    @classmethod
    def sizes(cls, weights: Path) -> dict[str, Any]:
        """{}: open_clip_config.json names the timm model, and that says all; it is only checked here."""
        config = hub.read_config(weights, hub.OPEN_CLIP_CONFIG)
        vision = config.get("model_cfg")
        vision = vision.get("vision_cfg") if isinstance(vision, dict) else None
        name = vision.get("timm_model_name") if isinstance(vision, dict) else None
        if name != cls.timm_name:
            raise SetupError(f"{weights} holds timm model {name!r}; expected {cls.timm_name!r}")
        return {}

    def rename(self, released: str) -> str | None:
        """Released tensor name -> own name; None for the text side and the head."""
        if not released.startswith("visual.") or released.startswith("visual.head."):
            return None
        own = released.removeprefix("visual.trunk.")
        return None if self.unused.match(own) else f"trunk.{own}"

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        return f"visual.{own}"


class SiglipTower(OpenClipTower):
    """SigLIP so400m/14 at 384 px: all tokens after the final norm, with the exact (erf) GELU of timm.

    Args:
        sizes: timm settings other than the released ones.
        grid: side of the output's grid; None for the encoder's own (27).

    Source: siglip_encoder.py. Images are padded with CLIP's colour, although the normalisation is another one
    (base_encoder.py, ProcessorWrapper).
    """

    timm_name = "vit_so400m_patch14_siglip_384"
    unused = re.compile(r"attn_pool\.|head\.|fc_norm\.")
    mean, std = HALF, HALF

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return int(sizes["embed_dim"])

    def __init__(self, sizes: Mapping[str, Any] | None = None, grid: int | None = 24):
        super().__init__()
        self.trunk = timm.create_model(
            self.timm_name, **{"act_layer": "gelu", **(sizes or {}), "global_pool": "", "num_classes": 0}
        )
        self.input_size, self.channels = self.trunk.patch_embed.img_size[0], self.trunk.embed_dim
        self.grid = self.trunk.patch_embed.grid_size[0] if grid is None else grid
        self.tokens = self.grid**2

    def forward(self, pixels: Tensor) -> Tensor:
        """(units, 3, input_size, input_size) -> (units, tokens, embed_dim)."""
        return to_tokens(resize_maps(to_grid(self.trunk.forward_features(pixels)), self.grid))


class ConvNextTower(OpenClipTower):
    """ConvNeXt XXL: the outputs of all four stages, each resized to one grid, concatenated by channel; no norm.

    The original code leaves this encoder in training mode, so its stochastic depth (0.1) drops blocks at random; here
    all blocks run.

    Args:
        sizes: timm settings (`depths`, `dims`, ...) other than the released ones.
        input_size: side of the pixels.
        grid: side of the output's grid.

    Source: clip_convnext_encoder.py:86-87, 132-143.
    """

    timm_name = "convnext_xxlarge"
    unused = re.compile(r"head\.|norm_pre\.")

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, those of all stages, from its sizes."""
        return int(sum(sizes["dims"]))

    def __init__(self, sizes: Mapping[str, Any] | None = None, input_size: int = 1024, grid: int = 96):
        super().__init__()
        self.trunk = timm.create_model(self.timm_name, **{**(sizes or {}), "num_classes": 0})
        self.trunk.head = nn.Identity()
        self.input_size, self.grid, self.tokens = input_size, grid, grid**2
        self.channels = sum(stage["num_chs"] for stage in self.trunk.feature_info)

    def forward(self, pixels: Tensor) -> Tensor:
        """(units, 3, input_size, input_size), CLIP-normalised -> (units, tokens, channels of all stages)."""
        x, maps = self.trunk.stem(pixels), []
        for stage in self.trunk.stages:
            x = stage(x)
            maps.append(resize_maps(x, self.grid))
        return to_tokens(torch.cat(maps, dim=1))


class ConvNextLargeTower(ConvNextTower):
    """ConvNeXt L, as MGM runs it: the same. Source: dvlab-research/MGM at 769820c, openclip_encoder.py:40-83."""

    released: dict[str, Any] = dict(depths=(3, 3, 27, 3), dims=(192, 384, 768, 1536))
    timm_name = "convnext_large"
