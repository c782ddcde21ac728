"""I-MoF: LLaVA-1.5 whose image tokens are CLIP's and DINOv2's in turn, each behind a projector of its own.

Loads the released checkpoint (MMVP/MoF_Models). It holds the language model and the two projectors; the encoders come
from repositories of their own, as in the original code, and copies of them in the checkpoint are not read:

    clip    the config's `mm_vision_tower`, openai/clip-vit-large-patch14-336
    dinov2  facebook/dinov2-large, or in a folder `encoder_weights` also the original release's file,
            facebookresearch/dinov2/dinov2_vitl14_pretrain.pth or .safetensors

Both encoders see the same pixels, normalised for CLIP. Sizes that the original code hard-codes are defaults here. A
checkpoint of another size says so in its config.json:

    "image_size": 56,             side of the image (released: 336)
    "grid_size": 4,               side of each encoder's grid of tokens (released: 24)

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
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.encoders import hub_towers
from redundancy_eval.model_wrappers.families import language_models, registry, slow_tokens
from redundancy_eval.model_wrappers.families.base import FamilyModel, Visual
from redundancy_eval.model_wrappers.families.eagle import encoders

log = logging.getLogger(__name__)

IMAGE_MODES = ("pad", "crop")
_PROJECTORS = {"clip": "model.mm_projector.", "dinov2": "model.dino_mm_projector."}
_UNREAD = re.compile(r"model\.(vision_tower|dino_tower)\..*|model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
_COPIES = {"clip": "model.vision_tower.vision_tower.", "dinov2": "model.dino_tower.vision_tower."}


class IMof(FamilyModel):
    """An I-MoF model: encode -> (ablate) -> a projector each -> (ablate) -> interleave -> language model.

    Args:
        config: the checkpoint's config.json.
        keep: names of the encoders to build; the others can't be run, only replaced. None builds all.
        attention: `attn_implementation` of the language model and of the encoders.
        sizes: of each encoder, where they differ from the released ones.
        image_mode: how an image is made square: `pad` or `crop`.
    """

    template = "vicuna_v1"  # the one it was trained with; the authors' script asks with llava_v1
    slow_release = (4, 31)
    max_images = 1  # the original code fails on several (llava_arch.py:168-178)

    def __init__(
        self,
        config: Mapping[str, Any],
        keep: Collection[str] | None = None,
        attention: str = "sdpa",
        sizes: Mapping[str, Mapping[str, Any]] | None = None,
        image_mode: str = "pad",
    ):
        super().__init__()
        if image_mode not in IMAGE_MODES:
            raise SetupError(f"image_mode must be one of {', '.join(IMAGE_MODES)}; not {image_mode!r}")
        self.image_mode = image_mode
        self.image_size: int = config.get("image_size", 336)
        self.grid_size: int = config.get("grid_size", 24)
        self.encoder_names = registry.imof_encoders(config)
        self.released_names = {name: name for name in self.encoder_names}
        self.channels, self.hidden = config.get("mm_hidden_size", 1024), config["hidden_size"]
        own = {name: (sizes or {}).get(name) for name in self.encoder_names}
        self.encoders = nn.ModuleDict()
        if keep is None or "clip" in keep:
            select_layer = config.get("mm_vision_select_layer", -2)
            self.encoders["clip"] = hub_towers.ClipTower(own["clip"], select_layer=select_layer, attention=attention)
        if keep is None or "dinov2" in keep:
            self.encoders["dinov2"] = hub_towers.DinoTower(
                own["dinov2"], input_size=self.image_size, before_norm=True, attention=attention
            )
        for name, tower in self.encoders.items():
            has = (tower.input_size, tower.tokens, tower.channels)
            if has != (self.image_size, self.grid_size**2, self.channels):
                raise SetupError(
                    f"{name} gives {has[1]} tokens of {has[2]} channels at {has[0]} px; the checkpoint expects "
                    f"{self.grid_size**2} of {self.channels} at {self.image_size} px"
                )
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
        """(tokens, channels) of each encoder's output as it enters its projector, or behind it."""
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

    def restore_buffers(self) -> None:
        """Make the buffers that no checkpoint holds (after building on the meta device)."""
        self.language_model.model.rotary_emb = LlamaRotaryEmbedding(self.language_model.config)

    def preprocess_uint8(self, image: Image.Image) -> np.ndarray:
        """Make an image square, resize it bicubically: (size, size, 3) uint8.

        `pad`: with CLIP's mean colour (mm_utils.py, process_images); `crop`: the centre, behind the resize of the
        shortest side (scripts/evaluate_mllm.py).
        """
        if self.image_mode == "crop":
            return hub_towers.crop(image, self.image_size)
        return hub_towers.resize(
            hub_towers.pad_to_square(image, hub_towers.colour(encoders.CLIP_MEAN)), self.image_size
        )

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str] = ()) -> dict[str, Tensor]:
        """Images -> the one normalised tensor that both encoders see, {"shared": (images, 3, size, size)} float32."""
        pixels = np.stack([self.preprocess_uint8(image) for image in images])
        return {"shared": hub_towers.normalise(pixels, encoders.CLIP_MEAN, encoders.CLIP_STD)}

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


def load(
    folder: Path,
    keep: Collection[str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: weights.Device = "cpu",
    attention: str = "sdpa",
    *,
    encoder_weights: str | Path | None = None,
    image_mode: str = "pad",
    sizes: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[IMof, Any, weights.LoadReport]:
    """Load a released checkpoint and its encoders: the model, its tokenizer, and what loading the former found.

    Args:
        folder: local checkpoint folder.
        keep: encoders whose weights to load; None for all.
        dtype: of all floating tensors.
        device: of the model; `auto` spreads it over what there is.
        attention: `attn_implementation`.
        encoder_weights: folder that holds the encoders' repositories as ORG/NAME; the hub when None.
        image_mode: `pad` or `crop`.
        sizes: of each encoder, where they stand in no config of its own.

    Raises:
        SetupError: not an I-MoF checkpoint, or an encoder or tensors are missing.
    """
    config = hub.read_config(folder)
    registry.check("imof_masked", config, str(folder / "config.json"))
    kinds: dict[str, type[hub_towers.Tower]] = {"clip": hub_towers.ClipTower, "dinov2": hub_towers.DinoTower}
    places = {
        name: hub.locate_encoder(repository, encoder_weights)
        for name, repository in registry.imof_repositories(config).items()
        if keep is None or name in keep
    }
    own = {name: {**kinds[name].sizes(path), **(sizes or {}).get(name, {})} for name, path in places.items()}
    with weights.building(folder):
        model = IMof(config, keep, attention, own, image_mode)
    device = weights.spread(model, device, dtype, model.whole())
    report = weights.load(
        model, folder, model.rename, dtype, device, expected=lambda name: not name.startswith("encoders."),
        release=model.release, tied=language_models.tied(config),
    )  # fmt: skip
    for name, tower in model.encoders.items():
        hub_towers.load(tower, places[name], dtype, weights.device_of(device, f"encoders.{name}"))
        other = weights.differing(folder, _COPIES[name], places[name], tower.rename)
        if other:
            log.warning("%s: %s differs from %s, which is what runs", folder, other, places[name])
    model.restore_buffers()
    weights.settle(model, device)
    # With the config at hand AutoTokenizer does not take the model type `llava` for transformers' own.
    tokenizer = slow_tokens.read(folder, model.language_model.config, model.slow_release)
    return model, tokenizer, report


MODEL = IMof
