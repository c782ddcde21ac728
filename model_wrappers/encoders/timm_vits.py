"""Vision transformers as timm has them, of which the last block but one gives the patch tokens, before any final norm.

A file may have timm's names, open_clip's of a timm model (`visual.trunk.*`), or open_clip's of OpenAI's CLIP
(`visual.*`); tables of positions are resampled to the grid as timm does it when it reads a file.

Sources: TRI-ML/prismatic-vlms at 874c5bb, prismatic/models/backbones/vision/{dinosiglip,dinoclip}_vit.py; timm 0.9.10,
timm/models/vision_transformer.py (`get_intermediate_layers`, `checkpoint_filter_fn`, `_convert_openai_clip`).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.encoders.hub_towers import Tower
from redundancy_eval.model_wrappers.encoders.timms import resample_abs_pos_embed, timm

_TEXT = re.compile(
    r"text\..*|transformer\..*|token_embedding\..*|positional_embedding|ln_final\..*|text_projection.*|attn_mask"
    r"|logit_(scale|bias)"
)  # of open_clip's files: the side that reads texts, and what compares the two
_BEHIND = re.compile(r"(norm|fc_norm|head|attn_pool)\..*|proj")  # what comes after the blocks
_CLIP = (  # OpenAI's CLIP -> timm
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^conv1\.", "patch_embed.proj."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


class TimmVit(Tower):
    """A timm ViT without its last block and all that follows.

    Args:
        name: timm's, e.g. `vit_so400m_patch14_siglip_384`.
        input_size: side of the pixels.
        sizes: `depth` of the whole encoder, and timm's settings other than the released ones.

    Source: dinosiglip_vit.py:64-67 (block `depth - 2`, class and register tokens cut off, no norm).
    """

    def __init__(self, name: str, input_size: int, sizes: Mapping[str, Any]):
        super().__init__()
        self.depth = sizes["depth"] - 1
        if self.depth < 1:
            raise SetupError(f"{name} of {sizes['depth']} block has none before its last one")
        self.name = name
        self.trunk = timm.create_model(
            name, img_size=input_size, num_classes=0, global_pool="", **{**sizes, "depth": self.depth}
        )
        self.trunk.norm = nn.Identity()
        self.input_size, self.channels = input_size, self.trunk.embed_dim
        self.grid: tuple[int, int] = self.trunk.patch_embed.grid_size
        self.tokens = self.grid[0] * self.grid[1]

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return int(sizes["embed_dim"])

    def check(self, place: Path) -> None:
        """Refuse a repository that says it is of another encoder.

        Raises:
            SetupError: which it is of.
        """
        if not (place / "config.json").is_file():
            return
        told = hub.read_config(place).get("architecture")
        # OpenAI's CLIP has two entries in timm, of one file and two activations; which runs is the family's to say.
        if told is not None and str(told).replace("_quickgelu_", "_") != self.name:
            raise SetupError(f"{place} holds timm model {told!r}; expected {self.name!r}")

    def rename(self, released: str) -> weights.Target:
        """Released tensor name -> own name; None for texts, for the last block and for what follows it."""
        if not released.startswith("visual.") and _TEXT.fullmatch(released):
            return None
        own = released.removeprefix("visual.")
        if own == released or own.startswith("trunk."):
            own = own.removeprefix("trunk.")
        else:
            for pattern, new in _CLIP:
                own = re.sub(pattern, new, own)
        block = re.match(r"blocks\.(\d+)\.", own)
        if _BEHIND.fullmatch(own) or (block and int(block[1]) >= self.depth):
            return None
        if own == "cls_token":
            return {"trunk.cls_token": _as_table}
        return {"trunk.pos_embed": self.positions} if own == "pos_embed" else f"trunk.{own}"

    def release(self, own: str) -> str:
        """The inverse of `rename`, to timm's names."""
        return own.removeprefix("trunk.")

    def positions(self, table: Tensor) -> Tensor:
        """A table of positions for another grid, or of OpenAI's form, -> (1, tokens, channels) for this one."""
        prefix = 0 if self.trunk.no_embed_class else self.trunk.num_prefix_tokens
        return resample_abs_pos_embed(_as_table(table), list(self.grid), num_prefix_tokens=prefix)

    def forward(self, pixels: Tensor) -> Tensor:
        """(units, 3, input_size, input_size), normalised -> (units, tokens, embed_dim)."""
        return self.trunk.forward_features(pixels)[:, self.trunk.num_prefix_tokens :]


def _as_table(value: Tensor) -> Tensor:
    """(channels), (rows, channels) or (1, rows, channels) -> (1, rows, channels)."""
    return value.reshape(1, -1, value.shape[-1])
