"""I-MoF: LLaVA-1.5 whose image tokens are CLIP's and DINOv2's in turn, each after a projector of its own.

Loads the released checkpoint (MMVP/MoF_Models). It holds the language model and the two projectors; the encoders come
from repositories of their own, as in the original code, and copies of them in the checkpoint are not read:

    clip    the config's `mm_vision_tower`, openai/clip-vit-large-patch14-336
    dinov2  facebook/dinov2-large, or in a folder `encoder_weights` also the original release's file,
            facebookresearch/dinov2/dinov2_vitl14_pretrain.pth or .safetensors

Both encoders see the same pixels, normalised for CLIP. Sizes that the original code hard-codes are defaults here. A
checkpoint of another size says so in its config.json:

    "image_size": 56,             side of the image (released: 336)
    "grid_size": 4,               side of each encoder's grid of tokens (released: 24)
    "encoder_configs": {"dinov2": {"hidden_size": 48, ...}}    sizes that an encoder's own config does not say

Source: tsb0601/MMVP at 7635005; LLaVA/llava/model/llava_arch.py, multimodal_encoder/{clip,dino}_encoder.py,
llava/mm_utils.py and scripts/evaluate_mllm.py.
"""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.encoders import hub_towers
from redundancy_eval.model_wrappers.encoders.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    colour,
    crop,
    normalise,
    pad_to_square,
    resize,
)  # fmt: skip
from redundancy_eval.model_wrappers.families import language_models
from redundancy_eval.model_wrappers.families.base import FamilyModel, Visual
from redundancy_eval.model_wrappers.families.imof import card

log = logging.getLogger(__name__)

IMAGE_MODES = ("pad", "crop")
_PROJECTORS = {"clip": "model.mm_projector.", "dinov2": "model.dino_mm_projector."}
_UNREAD = re.compile(r"model\.(vision_tower|dino_tower)\..*|model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
_COPIES = {"clip": "model.vision_tower.vision_tower.", "dinov2": "model.dino_tower.vision_tower."}


class IMof(FamilyModel):
    """An I-MoF model: encode -> (ablate) -> a projector each -> (ablate) -> interleave -> language model.

    Args:
        config: the checkpoint's config.json.
        keep: not looked at, as no encoder is built here: `load` adds those that are needed.
        attention: `attn_implementation` of the language model.
        image_mode: how an image is made square: `pad` or `crop`.
    """

    family = card.FAMILY
    template = "vicuna_v1"  # the one it was trained with; the authors' script asks with llava_v1
    slow_release = (4, 31)
    max_images = 1  # the original code fails on several (llava_arch.py:168-178)

    def __init__(
        self,
        config: Mapping[str, Any],
        keep: Collection[str] | None = None,
        attention: str = "sdpa",
        image_mode: str = "pad",
    ):
        super().__init__(config)
        if image_mode not in IMAGE_MODES:
            raise SetupError(f"image_mode must be one of {', '.join(IMAGE_MODES)}; not {image_mode!r}")
        self.image_mode = image_mode
        self.image_size: int = config.get("image_size", 336)
        self.grid_size: int = config.get("grid_size", 24)
        self.channels, self.hidden = config.get("mm_hidden_size", 1024), config["hidden_size"]
        self.own_sizes: Mapping[str, Mapping[str, Any]] = config.get("encoder_configs", {})
        self.select_layer: int = config.get("mm_vision_select_layer", -2)
        self.projectors = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(self.channels, self.hidden), nn.GELU(), nn.Linear(self.hidden, self.hidden)
                )
                for name in self.encoder_names
            }
        )
        self.language_model = LlamaForCausalLM(language_models.llama(config, attention))

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of each encoder's output as it enters its projector, or after it."""
        channels = self.hidden if site == "projected" else self.channels
        return {name: (self.grid_size**2, channels) for name in self.encoder_names}

    def rename(self, released: str) -> str | None:
        """Released tensor name -> own name; None for tensors that are not needed."""
        for name, prefix in _PROJECTORS.items():
            if released.startswith(prefix):
                return f"projectors.{name}.{released.removeprefix(prefix)}"
        return None if _UNREAD.fullmatch(released) else f"language_model.{released}"

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that a released checkpoint gives to one of our tensors."""
        for name, prefix in _PROJECTORS.items():
            if own.startswith(f"projectors.{name}."):
                return prefix + own.removeprefix(f"projectors.{name}.")
        return own.removeprefix("language_model.")

    def add_encoder(self, name: str, place: Path, attention: str = "sdpa") -> None:
        """Build an encoder on the meta device, in the sizes that its repository's own config says.

        Raises:
            SetupError: the repository is of another encoder or another size.
        """
        own = self.own_sizes.get(name, {})
        tower: hub_towers.Tower
        with weights.building(place):
            if name == "clip":
                sizes = {**hub_towers.ClipTower.sizes(place), **own}
                tower = hub_towers.ClipTower(sizes, select_layer=self.select_layer, attention=attention)
            else:
                sizes = {**hub_towers.DinoTower.sizes(place), **own}
                tower = hub_towers.DinoTower(sizes, self.image_size, before_norm=True, attention=attention)
        has = (tower.input_size, tower.tokens, tower.channels)
        if has != (self.image_size, self.grid_size**2, self.channels):
            raise SetupError(
                f"{name} gives {has[1]} tokens of {has[2]} channels at {has[0]} px; the checkpoint expects "
                f"{self.grid_size**2} of {self.channels} at {self.image_size} px"
            )
        self.encoders[name] = tower

    def check_weights(self, folder: Path, places: Mapping[str, Path]) -> None:
        """Name copies of the encoders in the checkpoint that differ from those that run."""
        for name, place in places.items():
            other = weights.differing(folder, _COPIES[name], place, self.encoders[name].rename)
            if other:
                log.warning("%s: %s differs from %s, which is what runs", folder, other, place)

    def preprocess_uint8(self, image: Image.Image) -> np.ndarray:
        """Make an image square, resize it bicubically: (size, size, 3) uint8.

        `pad`: with CLIP's mean colour (mm_utils.py, process_images); `crop`: the centre, after the resize of the
        shortest side (scripts/evaluate_mllm.py).
        """
        if self.image_mode == "crop":
            return crop(image, self.image_size)
        return resize(pad_to_square(image, colour(CLIP_MEAN)), self.image_size)

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str] = ()) -> dict[str, Tensor]:
        """Images -> the one normalised tensor that both encoders see, {"shared": (images, 3, size, size)} float32."""
        pixels = np.stack([self.preprocess_uint8(image) for image in images])
        return {"shared": normalise(pixels, CLIP_MEAN, CLIP_STD)}

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders: {name: (images, tokens, channels)}, ready for their projectors."""
        return {name: tower(pixels["shared"]) for name, tower in self.encoders.items() if name in names}

    def project(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The projectors of the encoders that are given: {name: (images, tokens, hidden)}. llava_arch.py:143-152."""
        return {name: self.projectors[name](value) for name, value in features.items()}

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Any]) -> list[Visual]:
        """Projected tokens of both encoders in turn -> (2 * tokens, hidden) for each image. llava_arch.py:232-235."""
        both = torch.stack([projected[name] for name in self.encoder_names], dim=2)
        return [Visual(rows) for rows in both.flatten(1, 2)]
