"""Eagle X: several encoders, their maps resized to one grid and concatenated by channel, an MLP, a Llama.

Loads the released checkpoints (Eagle-X4-8B-Plus, Eagle-X4-13B-Plus, Eagle-X5-7B, Eagle-X5-13B(-Chat)) and any other
list of towers in `mm_vision_tower`. The order of the encoders is the checkpoint's; it differs between releases.

Sizes that the original code hard-codes are defaults here. A checkpoint of another size says so in its config.json:

    "image_size": 96,             side of the one image that feeds all encoders (released: 1024)
    "grid_size": 6,               side of the grid of visual tokens (released: 32)
    "encoder_configs": {"clip-448": {"input_size": 48, "hidden_size": 64, ...}, ...}

Source: NVlabs/EAGLE at fef95f1; eagle/model/eagle_arch.py and
eagle/model/multimodal_encoder/multi_backbone_channel_concatenation_encoder.py.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.encoders.convnext import ConvNextEncoder
from redundancy_eval.model_wrappers.encoders.eva import EvaEncoder
from redundancy_eval.model_wrappers.encoders.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    colour,
    normalise,
    pad_to_square,
    resize,
    resize_aligned,
)  # fmt: skip
from redundancy_eval.model_wrappers.families import language_models
from redundancy_eval.model_wrappers.families.base import Encoder, FamilyModel, Visual
from redundancy_eval.model_wrappers.families.eagle import card, encoders


class EagleEncoder(Encoder, Protocol):
    """How Eagle's encoders are made: of their sizes, `input_size` among them, and `attn_implementation`."""

    def __init__(self, config: dict[str, Any], attention: str): ...


# Kind of tower in `mm_vision_tower` -> its module; card.TOWERS has the names.
MODULES: dict[str, type[EagleEncoder]] = {
    "clip": encoders.ClipEncoder,
    "convnext": ConvNextEncoder,
    "sam": encoders.SamEncoder,
    "det": EvaEncoder,
    "pix2struct": encoders.Pix2StructEncoder,
}
# Towers that the original code knows, with the sizes that it hard-codes.
RELEASED = ("clip-448", "convnext-1024", "sam-1024", "det-1024", "pix2struct-1024")
PREFIX = "model.vision_tower.vision_towers."
_LLAMA_ROTARY = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")


@dataclass(frozen=True)
class Tower:
    """One entry of `mm_vision_tower`: its position in the checkpoint, our name for it, its module and sizes."""

    index: int
    released: str
    name: str
    module: type[EagleEncoder]
    config: dict[str, Any]
    channels: int


def towers(config: Mapping[str, Any]) -> tuple[Tower, ...]:
    """Read the encoders, in the checkpoint's order, from its config.

    Raises:
        SetupError: no Eagle checkpoint, an unknown tower, or a size the encoder does not have.
    """
    names, overrides = card.encoders(config), config.get("encoder_configs", {})
    listed = card.towers(config)
    found = []
    for index, (name, released) in enumerate(zip(names, listed, strict=True)):
        if released not in RELEASED and "input_size" not in overrides.get(released, {}):
            raise SetupError(
                f"mm_vision_tower names {released!r}, whose sizes are not known: {', '.join(RELEASED)} are"
            )
        module = MODULES[released.partition("-")[0]]
        sizes = {**module.released, **overrides.get(released, {})}
        strange = sorted(set(sizes) - set(module.released))
        if strange:
            raise SetupError(f"encoder_configs[{released!r}] has unknown settings: {', '.join(strange)}")
        found.append(
            Tower(
                index=index, released=released, name=name, module=module, config=sizes,
                channels=module.output_channels(sizes),
            )
        )  # fmt: skip
    total, declared = sum(tower.channels for tower in found), config.get("mm_hidden_size")
    if declared is not None and declared != total:
        raise SetupError(
            f"mm_hidden_size is {declared}, but the encoders of {config['mm_vision_tower']} have {total} channels"
        )
    return tuple(found)


class Eagle(FamilyModel):
    """An Eagle X model: encode -> (ablate) -> concatenate by channel -> MLP -> language model.

    Args:
        config: the checkpoint's config.json.
        keep: names of the encoders to build; the others can't be run, only replaced. None builds all.
        attention: `attn_implementation` of the language model and of CLIP.
    """

    family = card.FAMILY
    slow_release = (4, 44)
    first_layer = "mm_projector.0"

    def __init__(self, config: Mapping[str, Any], keep: Collection[str] | None = None, attention: str = "sdpa"):
        super().__init__(config)
        self.towers = towers(config)
        self.image_size: int = config.get("image_size", 1024)
        self.grid_size: int = config.get("grid_size", 32)
        self.max_length = config.get("tokenizer_model_max_length")
        self.released_names = {tower.released: tower.name for tower in self.towers}
        self.encoders = nn.ModuleDict(
            {t.name: t.module(t.config, attention) for t in self.towers if keep is None or t.name in keep}
        )
        hidden = config["hidden_size"]
        self.mm_projector = nn.Sequential(
            nn.Linear(sum(t.channels for t in self.towers), hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.language_model = LlamaForCausalLM(language_models.llama(config, attention))

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of each encoder's output as it enters the fusion."""
        return {tower.name: (self.grid_size**2, tower.channels) for tower in self.towers}

    def rename(self, released: str) -> weights.Target:
        """Released tensor name -> own name, or names; None for tensors that are not needed."""
        if released.startswith(PREFIX):
            index, _, rest = released.removeprefix(PREFIX).partition(".")
            tower = self.towers[int(index)] if index.isdigit() and int(index) < len(self.towers) else None
            rest = rest.removeprefix("vision_tower.")
            if tower is None:
                return released
            if tower.name not in self.encoders:
                return None
            return weights.inside(f"encoders.{tower.name}.", self.encoders[tower.name].rename(rest))
        if released.startswith("model.mm_projector."):
            return released.removeprefix("model.")
        if _LLAMA_ROTARY.fullmatch(released):
            return None
        return f"language_model.{released}"

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that a released checkpoint gives to one of our tensors."""
        if own.startswith("encoders."):
            _, name, rest = own.split(".", 2)
            tower = next(tower for tower in self.towers if tower.name == name)
            return f"{PREFIX}{tower.index}.vision_tower.{self.encoders[name].release(rest)}"
        if own.startswith("mm_projector."):
            return f"model.{own}"
        return own.removeprefix("language_model.")

    def preprocess_uint8(self, image: Image.Image) -> np.ndarray:
        """Pad to a square with CLIP's mean colour, resize bicubically: (size, size, 3) uint8. mm_utils.py:154-190."""
        square = pad_to_square(image, colour(CLIP_MEAN))
        return resize(square, self.image_size)

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str] = ()) -> dict[str, Tensor]:
        """Images -> the one normalised tensor that all encoders see, {"shared": (images, 3, size, size)} float32."""
        uint8 = np.stack([self.preprocess_uint8(image) for image in images])
        return {"shared": normalise(uint8, CLIP_MEAN, CLIP_STD)}

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders: {name: (images, tokens, channels)}, ready for the fusion."""
        features = {}
        for tower in self.towers:
            if tower.name not in names:
                continue
            x, size = pixels["shared"], tower.config["input_size"]
            if size != self.image_size:
                x = resize_aligned(x, size)
            maps = self.encoders[tower.name](x)
            if maps.shape[-1] != self.grid_size:
                maps = resize_aligned(maps, self.grid_size)
            features[tower.name] = maps.flatten(2).transpose(1, 2)
        return features

    def concatenate(self, features: Mapping[str, Tensor]) -> Tensor:
        """Features of all encoders -> (images, tokens, all channels), in the checkpoint's order."""
        return torch.cat([features[name] for name in self.encoder_names], dim=-1)

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Any]) -> list[Visual]:
        """Features of all encoders -> (tokens, hidden) for each image."""
        return [Visual(rows) for rows in self.mm_projector(self.concatenate(projected))]
