"""Eagle X's own vision encoders: transformers and timm modules, loaded by renaming keys.

Each is an Encoder (families/base.py) that gives maps, `forward(pixels) -> (batch, channels, rows, columns)`; `released`
are the sizes that the original code hard-codes. Keys are those of the release without the tower's prefix.

Sources: NVlabs/EAGLE at fef95f1, eagle/model/multimodal_encoder/.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Pix2StructVisionConfig,
    Pix2StructVisionModel,
    SamVisionConfig,
)
from transformers.models.sam.modeling_sam import SamVisionEncoder

from redundancy_eval.model_wrappers.checkpoints.weights import restore_position_ids
from redundancy_eval.model_wrappers.encoders.pixels import CLIP_MEAN, CLIP_STD, resize_aligned, to_grid


class ClipEncoder(nn.Module):
    """CLIP ViT as Eagle runs it: class token dropped before the first layer, last layer, no final norm.

    Source: hr_clip_encoder.py:127-141 (`mm_vision_select_layer` has no effect there).
    """

    released: dict[str, Any] = dict(
        input_size=336, patch_size=14, hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
        num_attention_heads=16, hidden_act="quick_gelu", layer_norm_eps=1e-5,
    )  # fmt: skip
    _UNUSED = re.compile(r"vision_model\.post_layernorm\.(weight|bias)|vision_model\.embeddings\.position_ids")

    def __init__(self, config: dict[str, Any], attention: str):
        super().__init__()
        settings = {k: v for k, v in config.items() if k != "input_size"}
        vision = CLIPVisionConfig(**settings, image_size=config["input_size"], attn_implementation=attention)
        model = CLIPVisionModel(vision)
        self.embeddings, self.pre_layrnorm, self.layers = model.embeddings, model.pre_layrnorm, model.encoder.layers

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return sizes["hidden_size"]

    def rename(self, released: str) -> str | None:
        """Released name -> own name; None for one that nothing computes with."""
        own = released.removeprefix("vision_model.").removeprefix("encoder.")
        return None if self._UNUSED.fullmatch(released) else own

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        return "vision_model." + re.sub(r"^layers\.", "encoder.layers.", own)

    def restore_buffers(self) -> None:
        """Make the buffers that no checkpoint holds (after building on the meta device)."""
        restore_position_ids(self.embeddings)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (batch, 3, S, S), CLIP-normalised -> (batch, hidden_size, S/patch, S/patch)."""
        x = self.pre_layrnorm(self.embeddings(pixels)[:, 1:])
        for layer in self.layers:
            x = layer(x, attention_mask=None)
        return to_grid(x)


class ShortSamNeck(nn.Module):
    """Eagle's replacement of SAM's neck: 1x1 convolution and a channel-first layer norm (sam_encoder.py:61-73)."""

    def __init__(self, hidden_size: int, output_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(hidden_size, output_channels, kernel_size=1, bias=False)
        self.layer_norm1 = nn.LayerNorm(output_channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, rows, columns, hidden_size) -> (batch, output_channels, rows, columns)."""
        x = self.conv1(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        # Normalised in float32, scaled in the model's dtype, as upstream does in half precision.
        normalised = F.layer_norm(x.float(), x.shape[-1:], eps=self.layer_norm1.eps).to(x.dtype)
        return (normalised * self.layer_norm1.weight + self.layer_norm1.bias).permute(0, 3, 1, 2)


class SamEncoder(nn.Module):
    """SAM's image encoder with Eagle's short neck, then pixel_unshuffle(2). Source: sam_encoder.py.

    It gets CLIP-normalised pixels, not SAM-normalised ones.
    """

    released: dict[str, Any] = dict(
        input_size=1024, patch_size=16, hidden_size=1024, output_channels=256, num_hidden_layers=24,
        num_attention_heads=16, mlp_dim=4096, window_size=14, global_attn_indexes=(5, 11, 17, 23), hidden_act="gelu",
        layer_norm_eps=1e-6, qkv_bias=True, use_abs_pos=True, use_rel_pos=True,
    )  # fmt: skip

    def __init__(self, config: dict[str, Any], attention: str):
        super().__init__()
        settings = {k: v for k, v in config.items() if k != "input_size"}
        settings["global_attn_indexes"] = list(settings["global_attn_indexes"])
        self.model = SamVisionEncoder(SamVisionConfig(**settings, image_size=config["input_size"]))
        self.model.neck = ShortSamNeck(config["hidden_size"], config["output_channels"])

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return 4 * sizes["output_channels"]

    def rename(self, released: str) -> str | None:
        """Released name -> own name."""
        return f"model.{released}"

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        return own.removeprefix("model.")

    def restore_buffers(self) -> None:
        """All are in the checkpoint."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (batch, 3, S, S) -> (batch, 4 * output_channels, S/patch/2, S/patch/2)."""
        return F.pixel_unshuffle(self.model(pixels).last_hidden_state, 2)


class Pix2StructEncoder(nn.Module):
    """Pix2Struct's image encoder, fed with de-normalised pixels that are standardised per image.

    Source: pix2struct_encoder.py:97-121 and the Pix2Struct image processor of transformers.
    """

    released: dict[str, Any] = dict(
        input_size=1024, patch_size=16, max_patches=2048, output_grid=32, hidden_size=1536, d_ff=3968, d_kv=64,
        num_hidden_layers=18, num_attention_heads=24, patch_embed_hidden_size=768, dense_act_fn="gelu_new",
        layer_norm_eps=1e-6, seq_len=4096,
    )  # fmt: skip

    def __init__(self, config: dict[str, Any], attention: str):
        super().__init__()
        own = ("input_size", "patch_size", "max_patches", "output_grid")
        self.patch_size, self.max_patches = config["patch_size"], config["max_patches"]
        self.output_grid = config["output_grid"]
        self.model = Pix2StructVisionModel(Pix2StructVisionConfig(**{k: v for k, v in config.items() if k not in own}))

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return sizes["hidden_size"]

    def rename(self, released: str) -> str | None:
        """Released name -> own name."""
        return f"model.{released}"

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        return own.removeprefix("model.")

    def patches(self, pixels: Tensor) -> tuple[Tensor, int]:
        """CLIP-normalised pixels (batch, 3, S, S) -> patches (batch, max_patches, 2 + 3*patch**2), grid side.

        Each image is standardised by its own mean and deviation, resized so that a square grid of patches fits
        into `max_patches`, and cut; every patch starts with its row and column, counted from 1; zeros fill up.
        """
        mean, std = (pixels.new_tensor(v).view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
        image = ((pixels * std + mean) * 255.0).float()
        deviation = image.std(dim=(1, 2, 3), keepdim=True, correction=0).clamp_min(image[0].numel() ** -0.5)
        image = (image - image.mean(dim=(1, 2, 3), keepdim=True)) / deviation
        side = math.isqrt(self.max_patches)
        size = (side * self.patch_size, side * self.patch_size)
        image = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
        # unfold orders a patch as (channel, row, column); Pix2Struct wants (row, column, channel)
        cut = F.unfold(image, self.patch_size, stride=self.patch_size).transpose(1, 2)
        cut = cut.reshape(len(cut), side * side, 3, -1).transpose(2, 3).flatten(2)
        index = torch.arange(1, side + 1, device=pixels.device, dtype=cut.dtype)
        where = torch.stack([index.repeat_interleave(side), index.repeat(side)], dim=-1).expand(len(cut), -1, -1)
        return F.pad(torch.cat([where, cut], dim=-1), (0, 0, 0, self.max_patches - side * side)), side

    def restore_buffers(self) -> None:
        """All are in the checkpoint."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (batch, 3, S, S), CLIP-normalised -> (batch, hidden_size, output_grid, output_grid)."""
        patches, side = self.patches(pixels)
        mask = torch.zeros(patches.shape[:2], device=patches.device)
        mask[:, : side * side] = 1
        out = self.model(flattened_patches=patches.to(pixels.dtype), attention_mask=mask).last_hidden_state
        return resize_aligned(to_grid(out[:, : side * side]), self.output_grid)
