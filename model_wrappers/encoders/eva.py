"""EVA-02 as a detector's backbone (ViTDet), as Eagle X and MoVA (inside Co-DETR) use it: timm's blocks.

Source: NVlabs/EAGLE at fef95f1, eagle/model/multimodal_encoder/vision_models/eva_vit.py.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redundancy_eval.model_wrappers.encoders.pixels import to_grid
from redundancy_eval.model_wrappers.encoders.timms import EvaBlock


class EvaEncoder(nn.Module):
    """EVA-02 of the ViTDet kind: windowed and global blocks with two rotary tables, no final norm.

    Source: vision_models/eva_vit.py (Block 750-856, EVAViT 858-1030, rotary tables 360-398).
    The rotary tables are tensors of the checkpoint, because released files hold them rounded to its dtype; they are
    computed where a checkpoint may lack them (FamilyModel.optional) and does.
    """

    released: dict[str, Any] = dict(
        input_size=1024, patch_size=16, window_size=16, embed_dim=1024, depth=24, num_heads=16, mlp_ratio=4 * 2 / 3,
        window_block_indexes=(0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 18, 19, 21, 22), pretrain_img_size=224,
        pt_hw_seq_len=16,
    )  # fmt: skip
    _UNUSED = re.compile(r"blocks\.\d+\.attn\.rope\.freqs_(cos|sin)")  # aliases of the two tables
    _MLP = (("w1", "fc1_g"), ("w2", "fc1_x"), ("w3", "fc2"), ("ffn_ln", "norm"))  # upstream's and timm's names

    def __init__(self, config: dict[str, Any], attention: str):
        super().__init__()
        dim, heads = config["embed_dim"], config["num_heads"]
        self.window_size, self.window_blocks = config["window_size"], set(config["window_block_indexes"])
        self.patch_embed = nn.Conv2d(3, dim, config["patch_size"], stride=config["patch_size"])
        pretrain_side = config["pretrain_img_size"] // config["patch_size"]
        self.pos_embed = nn.Parameter(torch.zeros(1, pretrain_side**2 + 1, dim))
        self.blocks = nn.ModuleList(
            EvaBlock(
                dim, heads, qkv_fused=False, mlp_ratio=config["mlp_ratio"], swiglu_mlp=True, scale_mlp=True,
                num_prefix_tokens=0, norm_layer=lambda n, **kw: nn.LayerNorm(n, eps=1e-6, **kw),
            )
            for _ in range(config["depth"])
        )  # fmt: skip
        self.rope_shape = (dim // heads, config["pt_hw_seq_len"])
        self.rope_sides = {"rope_win": self.window_size, "rope_glb": config["input_size"] // config["patch_size"]}
        for name, side in self.rope_sides.items():
            cos, sin = self.rotary_table(*self.rope_shape, side)
            self.register_buffer(f"{name}_cos", cos)
            self.register_buffer(f"{name}_sin", sin)

    @staticmethod
    def rotary_table(head_dim: int, pretrain_side: int, side: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (side*side, head_dim): half the channels turn with the row, half with the column."""
        frequencies = 10000.0 ** -(torch.arange(0, head_dim // 2, 2).float() / (head_dim // 2))
        angles = torch.outer(torch.arange(side) / side * pretrain_side, frequencies).repeat_interleave(2, dim=-1)
        rows, columns = angles[:, None].expand(-1, side, -1), angles[None].expand(side, -1, -1)
        table = torch.cat([rows, columns], dim=-1).reshape(side * side, head_dim)
        return table.cos(), table.sin()

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return sizes["embed_dim"]

    def rename(self, released: str) -> str | None:
        """Released name -> own name (timm's of the same tensors); None for one that nothing computes with."""
        if self._UNUSED.fullmatch(released):
            return None
        released = released.replace("patch_embed.proj.", "patch_embed.")
        released = re.sub(r"(rope_win|rope_glb)\.freqs_(cos|sin)", r"\1_\2", released)
        released = re.sub(r"attn\.([qv])_bias$", r"attn.\1_proj.bias", released)
        for theirs, ours in self._MLP:
            released = released.replace(f".mlp.{theirs}.", f".mlp.{ours}.")
        return released

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        own = own.replace("patch_embed.", "patch_embed.proj.")
        own = re.sub(r"(rope_win|rope_glb)_(cos|sin)", r"\1.freqs_\2", own)
        own = re.sub(r"attn\.([qv])_proj\.bias$", r"attn.\1_bias", own)
        for theirs, ours in self._MLP:
            own = own.replace(f".mlp.{ours}.", f".mlp.{theirs}.")
        return own

    def restore_buffers(self) -> None:
        """The rotary tables, where the checkpoint had none."""
        if not self.rope_win_cos.is_meta:
            return
        for name, side in self.rope_sides.items():
            for kind, table in zip(("cos", "sin"), self.rotary_table(*self.rope_shape, side), strict=True):
                setattr(self, f"{name}_{kind}", table.to(self.pos_embed))

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (batch, 3, S, S), CLIP-normalised -> (batch, embed_dim, S/patch, S/patch)."""
        x = self.patch_embed(pixels)
        batch, dim, rows, columns = x.shape
        positions = to_grid(self.pos_embed[:, 1:].float())
        if positions.shape[-2:] != (rows, columns):
            positions = F.interpolate(positions, size=(rows, columns), mode="bicubic", align_corners=False)
        x = (x + positions.to(x.dtype)).permute(0, 2, 3, 1)
        window = self.window_size
        padding = (0, 0, 0, -columns % window, 0, -rows % window)
        for index, block in enumerate(self.blocks):
            if index not in self.window_blocks:
                rope = torch.cat([self.rope_glb_sin, self.rope_glb_cos], dim=-1)
                x = block(x.reshape(batch, rows * columns, dim), rope=rope).reshape(batch, rows, columns, dim)
                continue
            # Only the attention sees windows; padding goes in after norm1, so the block is spelt out.
            rope = torch.cat([self.rope_win_sin, self.rope_win_cos], dim=-1)
            padded = F.pad(block.norm1(x), padding)
            high, wide = padded.shape[1] // window, padded.shape[2] // window
            windows = padded.reshape(batch, high, window, wide, window, dim).transpose(2, 3)
            attended = block.attn(windows.reshape(-1, window * window, dim), rope=rope)
            attended = attended.reshape(batch, high, wide, window, window, dim).transpose(2, 3)
            x = x + attended.reshape(batch, high * window, wide * window, dim)[:, :rows, :columns]
            x = x + block.mlp(block.norm2(x))
        return x.permute(0, 3, 1, 2)
