"""MoVA's eight vision encoders: transformers and timm modules, loaded by renaming keys.

Each is an Encoder (families/base.py) that gives tokens of its own grid, `forward(pixels) -> (batch, tokens, channels)`;
`released` are the sizes that the original code, or the public model that it starts from, has. CLIP and DINOv2 are
those of encoders/hub_towers.py.

Source: TempleX98/MoVA at 52f83e5, mova/model/multimodal_encoder/mova_encoder.py and mova/model/vision_experts/.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Pix2StructVisionConfig, Pix2StructVisionModel, SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from redundancy_eval.model_wrappers.encoders.eva import EvaEncoder
from redundancy_eval.model_wrappers.encoders.pixels import resize_maps, to_tokens
from redundancy_eval.model_wrappers.encoders.timms import VisionTransformer

# Upstream's names in SAM -> transformers' of the same tensors.
_SAM = (
    ("patch_embed.proj.", "patch_embed.projection."),
    ("blocks.", "layers."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    ("neck.0.", "neck.conv1."),
    ("neck.1.", "neck.layer_norm1."),
    ("neck.2.", "neck.conv2."),
    ("neck.3.", "neck.layer_norm2."),
)


class SamEncoder(nn.Module):
    """SAM's image encoder; with `vary_channels` Vary's, whose output a last convolution halves in both directions.

    Source: vision_experts/vary/sam.py. Both get CLIP-normalised pixels.
    """

    released: dict[str, Any] = dict(
        input_size=1024, patch_size=16, hidden_size=1280, output_channels=256, num_hidden_layers=32,
        num_attention_heads=16, window_size=14, global_attn_indexes=(7, 15, 23, 31), vary_channels=0,
    )  # fmt: skip

    def __init__(self, config: Mapping[str, Any], attention: str):
        super().__init__()
        own = {key: value for key, value in config.items() if key not in ("input_size", "vary_channels")}
        own["global_attn_indexes"] = list(own["global_attn_indexes"])
        vision = SamVisionConfig(
            **own, image_size=config["input_size"], mlp_dim=4 * config["hidden_size"], layer_norm_eps=1e-6,
            hidden_act="gelu", qkv_bias=True, use_abs_pos=True, use_rel_pos=True,
        )  # fmt: skip
        self.model = SamVisionEncoder(vision)
        last = config["vary_channels"]
        self.net_2 = nn.Conv2d(config["output_channels"], last, 3, stride=2, padding=1, bias=False) if last else None

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return sizes["vary_channels"] or sizes["output_channels"]

    def rename(self, released: str) -> str:
        """Released name -> own name (transformers' of the same tensors)."""
        if released.startswith("net_2."):
            return released
        for theirs, ours in _SAM:
            released = released.replace(theirs, ours, 1)
        return f"model.{released}"

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        own = own.removeprefix("model.")
        for theirs, ours in _SAM[::-1]:
            own = own.replace(ours, theirs, 1)
        return own

    def restore_buffers(self) -> None:
        """All are in the checkpoint."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (batch, 3, S, S), CLIP-normalised -> (batch, tokens, channels)."""
        maps = self.model(pixels).last_hidden_state
        return to_tokens(maps if self.net_2 is None else self.net_2(maps))


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of maps (batch, channels, rows, columns)."""

    def forward(self, maps: Tensor) -> Tensor:
        """The maps, normalised."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class CodetrEncoder(nn.Module):
    """Co-DETR's backbone: an EVA-02 with a norm and a neck of two convolutions; no deformable attention is left of it.

    The pixels are enlarged to `input_size` by taking the nearest, the maps shrunk to `output_grid`.

    Source: vision_experts/codetr/vit.py:444-735.
    """

    released: dict[str, Any] = dict(
        input_size=1280, patch_size=16, window_size=16, embed_dim=1024, depth=24, num_heads=16, mlp_ratio=4 * 2 / 3,
        window_block_indexes=(*range(5), *range(6, 11), *range(12, 17), *range(18, 23)), pretrain_img_size=1280,
        pt_hw_seq_len=16, output_channels=256, output_grid=37,
    )  # fmt: skip
    _OWN = re.compile(r"(out_norm|neck)\.")

    def __init__(self, config: Mapping[str, Any], attention: str):
        super().__init__()
        own = {key: value for key, value in config.items() if key not in ("output_channels", "output_grid")}
        self.input_size, self.output_grid = config["input_size"], config["output_grid"]
        width, channels = config["embed_dim"], config["output_channels"]
        self.vit = EvaEncoder(own, attention)
        self.out_norm = ChannelNorm(width)
        self.neck = nn.Sequential(
            nn.Conv2d(width, channels, 1, bias=False),
            ChannelNorm(channels, eps=1e-6),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            ChannelNorm(channels, eps=1e-6),
        )

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return sizes["output_channels"]

    def rename(self, released: str) -> str | None:
        """Released name -> own name; None for aliases of the rotary tables."""
        if self._OWN.match(released):
            return released
        own = self.vit.rename(released)
        return None if own is None else f"vit.{own}"

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        return self.vit.release(own.removeprefix("vit.")) if own.startswith("vit.") else own

    def restore_buffers(self) -> None:
        """The rotary tables, where the checkpoint has none."""
        self.vit.restore_buffers()

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (batch, 3, S, S), CLIP-normalised -> (batch, output_grid**2, channels)."""
        side = (self.input_size, self.input_size)
        large = F.interpolate(pixels.float(), size=side, mode="nearest").to(pixels.dtype)
        return to_tokens(resize_maps(self.neck(self.out_norm(self.vit(large))), self.output_grid))


class Pix2StructEncoder(nn.Module):
    """Pix2Struct's image encoder (Deplot's has other sizes), after its final norm, on patches that pixels.py cuts.

    Zero patches, which fill up, are not attended to; their tokens are given like all others.

    Source: mova_encoder.py:318-353.
    """

    released: dict[str, Any] = dict(
        max_patches=45**2, hidden_size=1536, d_ff=3968, d_kv=64, num_hidden_layers=18, num_attention_heads=24,
        seq_len=4096,
    )  # fmt: skip

    def __init__(self, config: Mapping[str, Any], attention: str):
        super().__init__()
        own = {key: value for key, value in config.items() if key != "max_patches"}
        vision = Pix2StructVisionConfig(
            **own, patch_embed_hidden_size=768, dense_act_fn="gelu_new", layer_norm_eps=1e-6
        )
        self.model = Pix2StructVisionModel(vision)

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return sizes["hidden_size"]

    def rename(self, released: str) -> str:
        """Released name -> own name."""
        return f"model.{released}"

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        return own.removeprefix("model.")

    def restore_buffers(self) -> None:
        """All are in the checkpoint."""

    def forward(self, patches: Tensor) -> Tensor:
        """Patches (batch, count, 2 + 3*patch**2) -> (batch, count, hidden_size)."""
        return self.model(flattened_patches=patches).last_hidden_state


class BiomedClipEncoder(nn.Module):
    """BiomedCLIP's ViT-B/16: the patch tokens after the final norm.

    Source: open_clip of the repository, which skips the head, and its timm, which returns all tokens
    (timm/models/vision_transformer.py:693); mova_encoder.py:371-375 drops the class token.
    """

    released: dict[str, Any] = dict(input_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12)

    def __init__(self, config: Mapping[str, Any], attention: str):
        super().__init__()
        self.input_size = config["input_size"]
        own = {key: value for key, value in config.items() if key != "input_size"}
        self.trunk = VisionTransformer(
            **own, img_size=self.input_size, num_classes=0, global_pool="", weight_init="skip",
            norm_layer=lambda size, **kind: nn.LayerNorm(size, eps=1e-6, **kind),
        )  # fmt: skip

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return sizes["embed_dim"]

    def rename(self, released: str) -> str | None:
        """Released name -> own name; None for the head that compares pictures with texts."""
        return None if released == "head.proj.weight" else released

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        return own

    def restore_buffers(self) -> None:
        """All are in the checkpoint."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (batch, 3, input_size, input_size), CLIP-normalised -> (batch, tokens, embed_dim)."""
        tokens: Tensor = self.trunk.forward_features(pixels)
        return tokens[:, 1:]
