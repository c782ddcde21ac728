"""Eagle2-9B: tiles of an image through SigLIP and ConvNeXt, concatenated by channel, LayerNorm and MLP, a Qwen2.

An image is cut into tiles of one size, and where there is more than one, a thumbnail of the whole image follows. Each
tile gives the same number of tokens, and the tokens of all tiles stand for the image.

What the config leaves out has the released size here. A checkpoint of another size says so in its config.json:

    "force_image_size": 56,                   side of a tile (released: 448)
    "vision_config": {
        "convnext_img_size": 64,              side of a tile as ConvNeXt sees it (released: 512)
        "siglip_vision_config": {"hidden_size": 16, ...},
        "convnext_config": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 24]}
    }

Source: the model's release as far as it is public: NVlabs/Eagle at 783f656, Eagle2_5/eaglevl/ (towers, tiles, prompt),
and huggingface/transformers at 981d34c, models/eagle2/ (fusion).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer, SiglipVisionConfig, SiglipVisionModel

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.encoders.convnext import ConvNextEncoder
from redundancy_eval.model_wrappers.encoders.pixels import CLIP_MEAN, CLIP_STD, resize_aligned, to_grid
from redundancy_eval.model_wrappers.families import language_models
from redundancy_eval.model_wrappers.families.base import FamilyModel, Visual
from redundancy_eval.model_wrappers.families.eagle2 import card

SIGLIP: dict[str, Any] = dict(
    hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, num_channels=3,
    patch_size=14, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6,
)  # fmt: skip
_TOWER = re.compile(r"vision_model\.vision_model\.vision_towers\.\d+\.vision_tower\.(.+)")
_ROTARY = re.compile(r"language_model\.model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
_END = "<|im_end|>"
_MARKS = ("<img>", "<IMG_CONTEXT>", "</img>", _END)


@dataclass(frozen=True)
class Tiling:
    """How an image is cut: columns and rows of tiles, and whether a thumbnail of the whole image follows."""

    columns: int
    rows: int
    thumbnail: bool

    @property
    def tiles(self) -> int:
        """All tiles, with the thumbnail."""
        return self.columns * self.rows + self.thumbnail


def tile_grid(width: int, height: int, most: int, side: int) -> tuple[int, int]:
    """(columns, rows) of the tiles of an image: near its shape, and with 60 % of its area if tiles allow.

    A grid is worth its share of the image's area, at most 0.6, times how well the two shapes agree. The first of the
    best wins, small grids first; among grids of equal count the order is that of a Python set, as in the original.
    """
    grids = [(columns, rows) for columns in range(1, most + 1) for rows in range(1, most // columns + 1)]
    by_count = sorted(set(sorted(grids, key=lambda grid: (max(grid), grid))), key=lambda grid: grid[0] * grid[1])

    def worth(grid: tuple[int, int]) -> float:
        shape, own = grid[0] / grid[1], width / height
        return min(grid[0] * grid[1] * side * side / (width * height), 0.6) * min(shape / own, own / shape)

    return max(by_count, key=worth)


def siglip_config(config: Mapping[str, Any], side: int, attention: str | None = None) -> SiglipVisionConfig:
    """SigLIP's part of an Eagle2 config; released sizes where it is silent.

    Raises:
        SetupError: its image size is not that of the tiles.
    """
    told = config["vision_config"].get("siglip_vision_config") or {}
    if told.get("image_size", side) != side:
        raise SetupError(f"siglip_vision_config.image_size is {told['image_size']}, but force_image_size is {side}")
    sizes = {**SIGLIP, **{key: told[key] for key in SIGLIP if key in told}}
    return SiglipVisionConfig(**sizes, image_size=side, vision_use_head=False, attn_implementation=attention)


def convnext_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """ConvNeXt's part of an Eagle2 config; released sizes where it is silent.

    Raises:
        SetupError: a size that the encoder does not have.
    """
    vision = config["vision_config"]
    told = vision.get("convnext_config") or {}
    unknown = set(told) - {"depths", "dims"}
    if unknown:
        raise SetupError(f"convnext_config has unknown settings: {', '.join(sorted(unknown))}")
    return {**ConvNextEncoder.released, **told, "input_size": vision.get("convnext_img_size", 512)}


def pixel_shuffle(tokens: Tensor) -> Tensor:
    """(units, tokens, channels) of a square grid -> a quarter of the tokens, each the channels of a square of four."""
    grid = to_grid(tokens)
    units, channels, rows, columns = grid.shape
    squares = grid.reshape(units, channels, rows // 2, 2, columns // 2, 2)
    return squares.permute(0, 2, 4, 3, 5, 1).reshape(units, rows * columns // 4, 4 * channels)


class SiglipEncoder(nn.Module):
    """SigLIP of transformers: all tokens after the final norm, without the pooling head."""

    released = SIGLIP
    _UNUSED = re.compile(r"vision_model\.head\..*|vision_model\.embeddings\.position_ids")

    def __init__(self, config: SiglipVisionConfig):
        super().__init__()
        self.model = SiglipVisionModel(config)

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return int(sizes["hidden_size"])

    def rename(self, released: str) -> str | None:
        """Released name -> own name; None for one that nothing computes with."""
        return None if self._UNUSED.fullmatch(released) else released.replace("vision_model.", "model.", 1)

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        return own.replace("model.", "vision_model.", 1)

    def restore_buffers(self) -> None:
        """The table of position indices."""
        weights.restore_position_ids(self.model.embeddings)

    def forward(self, pixels: Tensor) -> Tensor:
        """(tiles, 3, side, side), normalised -> (tiles, patches, hidden_size)."""
        return self.model(pixels).last_hidden_state


class Eagle2(FamilyModel):
    """Eagle2-9B: tiles -> encode -> (ablate) -> concatenate by channel -> LayerNorm, MLP -> language model.

    A dropped encoder's zeros enter the LayerNorm: they change the scale of the other encoder's half, and do not stay
    zero themselves.

    Checked with the original code on small random weights. These points of the release could not be read and are
    assumed: SigLIP's sizes (those of PaliGemma, if the config is silent) and GELU by tanh; at most 12 tiles, if the
    config is silent; that the output layer is not tied to the embeddings. The order of the two towers in the file was
    not known either and does not matter: a tensor's name tells its tower.

    Args:
        config: the checkpoint's config.json.
        keep: names of the encoders to build; the others can't be run, only replaced. None builds all.
        attention: `attn_implementation` of the language model and of SigLIP.
        max_tiles: most tiles of an image, the thumbnail not counted; None for the checkpoint's.
    """

    family = card.FAMILY
    template = "qwen2-chat"

    def __init__(
        self,
        config: Mapping[str, Any],
        keep: Collection[str] | None = None,
        attention: str = "sdpa",
        max_tiles: int | str | None = None,
    ):
        super().__init__(config)
        vision = config["vision_config"]
        self.tile_size: int = config.get("force_image_size") or 448
        self.thumbnail: bool = config.get("use_thumbnail", True)
        self.max_tiles = _count(config.get("max_dynamic_patch", 12) if max_tiles is None else max_tiles)
        path = str(vision.get("vision_path", ""))
        self.file_order = tuple(sorted(self.encoder_names, key=path.find))  # for `release` only
        siglip, convnext = siglip_config(config, self.tile_size, attention), convnext_config(config)
        self.convnext_size: int = convnext["input_size"]
        sides = siglip.image_size // siglip.patch_size // 2, self.convnext_size // (8 * convnext["patch_size"])
        if sides[0] != sides[1]:
            raise SetupError(f"the encoders' maps do not fit: siglip has {sides[0]} tokens a side, convnext {sides[1]}")
        tokens = sides[0] ** 2
        channels = {"siglip": 4 * siglip.hidden_size, "convnext": ConvNextEncoder.output_channels(convnext)}
        self._shapes = {name: (tokens, channels[name]) for name in self.encoder_names}
        if keep is None or "siglip" in keep:
            self.encoders["siglip"] = SiglipEncoder(siglip)
        if keep is None or "convnext" in keep:
            self.encoders["convnext"] = ConvNextEncoder(convnext, attention)
        llm = language_models.qwen2(config["llm_config"], attention)
        total, hidden = sum(channels.values()), llm.hidden_size
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(total), nn.Linear(total, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )  # fmt: skip
        self.language_model = Qwen2ForCausalLM(llm)

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of a tile of each encoder, as they enter the concatenation."""
        return dict(self._shapes)

    def layouts(self, images: Sequence[Image.Image]) -> list[Tiling]:
        """How each image is cut into tiles."""
        grids = [tile_grid(*image.size, self.max_tiles, self.tile_size) for image in images]
        return [Tiling(*grid, thumbnail=self.thumbnail and grid != (1, 1)) for grid in grids]

    def units(self, layout: Tiling) -> int:
        """How many tiles an image of this layout has."""
        return layout.tiles

    def rename(self, released: str) -> weights.Target:
        """Released tensor name -> own name, or names; None for tensors that are not needed.

        The index of a tower says nothing; what follows it does: only SigLIP's names begin with `vision_model.`.
        """
        found = _TOWER.fullmatch(released)
        if not found:
            return None if _ROTARY.fullmatch(released) else released
        rest = found[1]
        name = "siglip" if rest.startswith("vision_model.") else "convnext"
        if name not in self.encoders:
            return None
        return weights.inside(f"encoders.{name}.", self.encoders[name].rename(rest))

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that a released checkpoint gives to one of our tensors."""
        if not own.startswith("encoders."):
            return own
        _, name, rest = own.split(".", 2)
        place = f"vision_model.vision_model.vision_towers.{self.file_order.index(name)}.vision_tower"
        return f"{place}.{self.encoders[name].release(rest)}"

    def tied(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        """By the whole config, or by the language model's part."""
        return language_models.tied(config, config["llm_config"])

    def read_tokenizer(self, folder: Path) -> Any:
        """The tokenizer, by its class: through `auto_map` in config.json transformers would ask for remote code.

        Raises:
            SetupError: it cannot be read, or lacks the tokens around images.
        """
        try:
            tokenizer = Qwen2Tokenizer.from_pretrained(folder)
        except Exception as error:
            # Missing and damaged files raise many kinds; the user needs one line of any.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise SetupError(f"cannot read the tokenizer in {folder}: {reason}") from error
        hub.check_tokenizer(tokenizer, folder)
        absent = [mark for mark in _MARKS if mark not in tokenizer.get_vocab()]
        if absent:
            raise SetupError(f"the tokenizer in {folder} has no token {' or '.join(absent)}")
        return tokenizer

    def ends(self, tokenizer: Any) -> tuple[int, ...]:
        """The end of a turn."""
        return (tokenizer.convert_tokens_to_ids(_END),)

    def preprocess_uint8(self, image: Image.Image) -> np.ndarray:
        """Resize to the grid of tiles, whatever the shape, and cut: (tiles, side, side, 3) uint8, thumbnail last."""
        image, side, (layout,) = image.convert("RGB"), self.tile_size, self.layouts([image])
        columns, rows = layout.columns, layout.rows
        whole = np.asarray(image.resize((columns * side, rows * side), Image.Resampling.BICUBIC))
        tiles = whole.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
        if layout.thumbnail:
            small = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
            tiles = np.concatenate([tiles, small[None]])
        return tiles

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str] = ()) -> dict[str, Tensor]:
        """Images -> the tiles of all images, normalised as SigLIP's: {"tiles": (tiles, 3, side, side)} float32."""
        pixels = np.concatenate([self.preprocess_uint8(image) for image in images]).astype(np.float32)
        pixels = (pixels / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
        return {"tiles": torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()}

    def convnext_pixels(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """SigLIP's tiles -> ConvNeXt's, resized, and renormalised after that; both computed in float32."""
        resized = resize_aligned(tiles.float(), self.convnext_size)
        mean, std = torch.tensor([CLIP_MEAN, CLIP_STD], device=tiles.device)[:, :, None, None]
        return resized, resized * (0.5 / std) + (0.5 - mean) / std

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders: {name: (tiles, tokens, channels)}, ready for the fusion."""
        tiles, features = pixels["tiles"], {}
        if "siglip" in names:
            features["siglip"] = pixel_shuffle(self.encoders["siglip"](tiles))
        if "convnext" in names:
            normalised = self.convnext_pixels(tiles)[1].to(tiles.dtype)
            features["convnext"] = self.encoders["convnext"](normalised).flatten(2).transpose(1, 2)
        return features

    def concatenate(self, features: Mapping[str, Tensor]) -> Tensor:
        """Features of both encoders -> (tiles, tokens, all channels); SigLIP first, whatever the file's order."""
        return torch.cat([features[name] for name in self.encoder_names], dim=-1)

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Tiling]) -> list[Visual]:
        """Features of both encoders -> for each image the tokens of its tiles, one tile after the other."""
        parts = self.mlp1(self.concatenate(projected)).split([layout.tiles for layout in layouts])
        return [Visual(part.flatten(0, 1)) for part in parts]


def _count(max_tiles: int | str) -> int:
    try:
        count = int(max_tiles)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise SetupError(f"max_tiles must be a whole number from 1; not {max_tiles!r}")
    return count
