"""Vision encoders whose weights are in hub repositories of their own, as I-MoF and Cambrian-1 use them.

Those of open_clip's repositories stand in open_clip_towers.py.

Their checkpoints hold the language model and the connector only (or copies of the encoders that the original code does
not read). Each encoder here is built from the sizes in its repository's own config and gives tokens:

    folder = hub.locate_encoder("facebook/dinov2-giant", encoder_weights)
    tower = DinoTower(DinoTower.sizes(folder), input_size=378, grid=24)
    tokens = tower(tower.preprocess(images))                    # (images, tower.tokens, tower.channels)

A family's `add_encoder` builds one, and its `load` fills it (families/base.py).

Sources: tsb0601/MMVP at 7635005, LLaVA/llava/model/multimodal_encoder/{clip,dino}_encoder.py; cambrian-mllm/cambrian at
539ffc3, cambrian/model/multimodal_encoder/{siglip,clip,dino,clip_convnext}_encoder.py and cambrian/mm_utils.py.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import config_keys, hub, weights
from redundancy_eval.model_wrappers.encoders import vision_keys
from redundancy_eval.model_wrappers.encoders.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    colour,
    normalise,
    pad_to_square,
    resize,
    resize_maps,
    to_grid,
    to_tokens,
)

POSITIONS = ("offset", "size")
# The side of CLIP that reads texts, and what compares the two.
_CLIP_TEXT = re.compile(r"text_model\..*|(text|visual)_projection\..*|logit_scale")


class Tower(nn.Module):
    """An Encoder (families/base.py) with weights of its own: pixels in, tokens out.

    Attributes:
        released: sizes of the released encoder, for those that its config does not say.
        mean, std: its normalisation.
        pad_mean: the colour (0 to 1) with which images are padded to a square.
        input_size: side of the pixels.
        tokens, channels: of its output.
    """

    released: dict[str, Any] = {}
    mean, std, pad_mean = CLIP_MEAN, CLIP_STD, CLIP_MEAN
    input_size: int
    tokens: int
    channels: int

    @property
    def pad_colour(self) -> tuple[int, int, int]:
        """`pad_mean` as uint8, truncated."""
        return colour(self.pad_mean)

    @classmethod
    def sizes(cls, weights: Path) -> dict[str, Any]:
        """Sizes of the encoder in a folder that `locate` found, from its config.

        Raises:
            SetupError: the config is missing or is of another encoder.
        """
        raise NotImplementedError

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return int(sizes["hidden_size"])

    def rename(self, released: str) -> weights.Target:
        """Released tensor name -> own name, or several (see weights.load); None for one that is not needed."""
        raise NotImplementedError

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that the repository gives to one of our tensors."""
        raise NotImplementedError

    def restore_buffers(self) -> None:
        """Make the buffers that no checkpoint holds (after building on the meta device)."""

    def preprocess_uint8(self, image: Image.Image) -> np.ndarray:
        """Pad to a square, resize: (input_size, input_size, 3) uint8."""
        return resize(pad_to_square(image, self.pad_colour), self.input_size)

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """Images -> (images, 3, input_size, input_size) float32."""
        return normalise(np.stack([self.preprocess_uint8(image) for image in images]), self.mean, self.std)

    def forward(self, pixels: Tensor) -> Tensor:
        """(units, 3, input_size, input_size) -> (units, tokens, channels)."""
        raise NotImplementedError


def _config_sizes(config: Any, keys: Sequence[str]) -> dict[str, Any]:
    return {key: getattr(config, key) for key in keys}


def _part(index: int, parts: int, value: Tensor) -> Tensor:
    return value.chunk(parts)[index]


def _grid(input_size: int, patch_size: int, grid: int | None) -> int:
    return input_size // patch_size if grid is None else grid


class ClipTower(Tower):
    """CLIP ViT: hidden state of a layer (the releases: the last but one) without the class token, no final norm.

    Args:
        sizes: of `sizes`, or some of them; the rest are those of ViT-L/14 at 336 px.
        grid: side of the output's grid; None for the encoder's own.
        select_layer: index into the hidden states, the embeddings being 0; negative from the end.
        attention: `attn_implementation`.

    Source: clip_encoder.py of both projects (`mm_vision_select_feature` is `patch`).
    """

    released: dict[str, Any] = dict(
        image_size=336, patch_size=14, hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
        num_attention_heads=16, hidden_act="quick_gelu", layer_norm_eps=1e-5,
    )  # fmt: skip

    def __init__(
        self,
        sizes: Mapping[str, Any] | None = None,
        grid: int | None = None,
        select_layer: int = -2,
        attention: str = "sdpa",
    ):
        super().__init__()
        settings = {**self.released, **(sizes or {})}
        layers = settings["num_hidden_layers"]
        if not -layers - 1 <= select_layer <= layers:
            raise SetupError(f"CLIP has {layers} layers; there is no hidden state {select_layer}")
        self.depth = select_layer % (layers + 1)
        model = CLIPVisionModel(
            CLIPVisionConfig(**{**settings, "num_hidden_layers": self.depth}, attn_implementation=attention)
        )
        self.embeddings, self.pre_layrnorm, self.layers = model.embeddings, model.pre_layrnorm, model.encoder.layers
        self.input_size, self.channels = settings["image_size"], settings["hidden_size"]
        self.grid = _grid(self.input_size, settings["patch_size"], grid)
        self.tokens = self.grid**2

    @classmethod
    def sizes(cls, weights: Path) -> dict[str, Any]:
        """From the config.json of a CLIPModel or CLIPVisionModel."""
        config = hub.read_config(weights)
        kind = config.get("model_type")
        if kind not in ("clip", "clip_vision_model"):
            raise SetupError(f"{weights} holds no CLIP: model_type is {kind!r}")
        config_keys.check(
            config, vision_keys.CLIP if kind == "clip" else vision_keys.VISION, f"{weights / 'config.json'}"
        )
        vision = config.get("vision_config") or {} if kind == "clip" else config
        vision = {**vision, **(config.get("vision_config_dict") or {})}  # which goes before, in old configs
        own = {key: vision[key] for key in cls.released if key in vision}
        return _config_sizes(CLIPVisionConfig(**own), list(cls.released))

    def rename(self, released: str) -> str | None:
        """Released tensor name -> own name; None for the text side and for layers after the selected one."""
        if not released.startswith("vision_model."):
            return None if _CLIP_TEXT.fullmatch(released) else released
        own = released.removeprefix("vision_model.").removeprefix("encoder.")
        layer = re.match(r"layers\.(\d+)\.", own)
        behind = layer is not None and int(layer[1]) >= self.depth
        return None if behind or own.startswith("post_layernorm.") or own == "embeddings.position_ids" else own

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        return f"vision_model.{'encoder.' if own.startswith('layers.') else ''}{own}"

    def restore_buffers(self) -> None:
        """The table of position indices."""
        weights.restore_position_ids(self.embeddings)

    def forward(self, pixels: Tensor) -> Tensor:
        """(units, 3, input_size, input_size), CLIP-normalised -> (units, tokens, hidden_size)."""
        x = self.pre_layrnorm(self.embeddings(pixels))
        for layer in self.layers:
            x = layer(x, attention_mask=None)
        return to_tokens(resize_maps(to_grid(x[:, 1:]), self.grid))


class DinoTower(Tower):
    """DINOv2: the patch tokens of the last layer, after the final norm or before it.

    Args:
        sizes: of `sizes`, or some of them; the rest are those of ViT-L/14.
        input_size: side of the pixels, other than the one the position table was made for.
        grid: side of the output's grid; None for the encoder's own.
        before_norm: give the tokens before the final norm (I-MoF, MoVA); else after it (Cambrian-1).
        depth: how many of the layers run (MoVA: all but the last); None for all.
        positions: how the position table is resized (bicubic): `offset`, by the factor (n + 0.1) / its side, as the
            original code and transformers up to 4.4x do, or `size`, to n, as newer transformers do.
        attention: `attn_implementation`.

    Source: dino_encoder.py of both projects; facebookresearch/dinov2, dinov2/models/vision_transformer.py:179-209.
    """

    released: dict[str, Any] = dict(
        image_size=518, patch_size=14, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, mlp_ratio=4,
        use_swiglu_ffn=False, qkv_bias=True, hidden_act="gelu", layer_norm_eps=1e-6,
    )  # fmt: skip
    mean, std, pad_mean = IMAGENET_MEAN, IMAGENET_STD, IMAGENET_MEAN
    _PLAIN = (  # the original release -> transformers' hub repositories
        (r"^(cls_token|mask_token)$", r"embeddings.\1"),
        (r"^pos_embed$", "embeddings.position_embeddings"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^norm\.", "layernorm."),
        (r"^blocks\.", "encoder.layer."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
        (r"\.mlp\.w12\.", ".mlp.weights_in."),
        (r"\.mlp\.w3\.", ".mlp.weights_out."),
    )
    _OWN = (  # transformers' hub repositories -> transformers' modules
        (r"\.attention\.attention\.(q|k|v)(?:uery|ey|alue)\.", r".attention.\1_proj."),
        (r"\.attention\.output\.dense\.", ".attention.o_proj."),
        (r"\.mlp\.weights_out\.", ".mlp.down_proj."),
        (r"^encoder\.layer\.", "layers."),
        (r"^layernorm\.", "norm."),
    )
    _PARTS = {  # fused linears -> the parts that transformers' modules have, along the outputs
        ".attn.qkv.": (".attention.q_proj.", ".attention.k_proj.", ".attention.v_proj."),
        ".mlp.weights_in.": (".mlp.gate_proj.", ".mlp.up_proj."),
    }

    def __init__(
        self,
        sizes: Mapping[str, Any] | None = None,
        input_size: int = 336,
        grid: int | None = None,
        before_norm: bool = False,
        depth: int | None = None,
        positions: str = "offset",
        attention: str = "sdpa",
    ):
        super().__init__()
        if positions not in POSITIONS:
            raise SetupError(f"positions of DINOv2 must be one of {', '.join(POSITIONS)}; not {positions!r}")
        settings = {**self.released, **(sizes or {})}
        self.depth = settings["num_hidden_layers"] if depth is None else depth
        settings["num_hidden_layers"] = self.depth
        model = Dinov2Model(Dinov2Config(**settings, use_mask_token=False, attn_implementation=attention))
        self.embeddings, self.layers = model.embeddings, model.encoder.layer
        self.norm = nn.Identity() if before_norm else model.layernorm
        self.input_size, self.positions, self.channels = input_size, positions, settings["hidden_size"]
        self.grid = _grid(input_size, settings["patch_size"], grid)
        self.tokens = self.grid**2

    @classmethod
    def sizes(cls, weights: Path) -> dict[str, Any]:
        """From the config.json of a Dinov2Model; {} for a file of the original release, which says nothing."""
        if weights.is_file():
            return {}
        config = hub.read_config(weights)
        if config.get("model_type") != "dinov2":
            raise SetupError(f"{weights} holds no DINOv2: model_type is {config.get('model_type')!r}")
        config_keys.check(config, vision_keys.DINOV2, str(weights / "config.json"))
        own = {key: config[key] for key in cls.released if key in config}
        return _config_sizes(Dinov2Config(**own), list(cls.released))

    def rename(self, released: str) -> weights.Target:
        """Released tensor name, of transformers or of the original release -> own name or names."""
        name = released
        for pattern, new in self._PLAIN + self._OWN:
            name = re.sub(pattern, new, name)
        if name == "embeddings.mask_token" or (name.startswith("norm.") and isinstance(self.norm, nn.Identity)):
            return None
        layer = re.match(r"layers\.(\d+)\.", name)
        if layer is not None and int(layer[1]) >= self.depth:
            return None
        for fused, parts in self._PARTS.items():
            if fused in name:
                return {name.replace(fused, part): partial(_part, i, len(parts)) for i, part in enumerate(parts)}
        return name

    def release(self, own: str) -> str:
        """The inverse of `rename`, to the names of transformers' hub repositories."""
        for pattern, new in (
            (r"^layers\.", "encoder.layer."),
            (r"^norm\.", "layernorm."),
            (r"\.attention\.q_proj\.", ".attention.attention.query."),
            (r"\.attention\.k_proj\.", ".attention.attention.key."),
            (r"\.attention\.v_proj\.", ".attention.attention.value."),
            (r"\.attention\.o_proj\.", ".attention.output.dense."),
            (r"\.mlp\.(gate|up)_proj\.", ".mlp.weights_in."),
            (r"\.mlp\.down_proj\.", ".mlp.weights_out."),
        ):
            own = re.sub(pattern, new, own)
        return own

    def position_table(self, side: int) -> Tensor:
        """The position table for side x side patches, class token first: (1, 1 + side**2, channels)."""
        table = self.embeddings.position_embeddings
        maps = to_grid(table[:, 1:].float())
        own = maps.shape[-1]
        if side == own:
            return table
        scale = {"scale_factor": (side + 0.1) / own} if self.positions == "offset" else {"size": (side, side)}
        maps = F.interpolate(maps, mode="bicubic", align_corners=False, **scale)
        return torch.cat([table[:, :1], to_tokens(maps).to(table.dtype)], dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(units, 3, input_size, input_size), normalised -> (units, tokens, hidden_size)."""
        patches = self.embeddings.patch_embeddings(pixels)
        x = torch.cat([self.embeddings.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        x = x + self.position_table(math.isqrt(patches.shape[1]))
        for layer in self.layers:
            x = layer(x)
        return to_tokens(resize_maps(to_grid(self.norm(x)[:, 1:]), self.grid))
