"""MGM (Mini-Gemini): CLIP's tokens of an image mine the map of a ConvNeXt, an MLP, a Llama.

Loads the released checkpoints MGM-7B, MGM-8B and MGM-13B, with and without HD. They hold the language model, the mining
and CLIP. ConvNeXt comes from a repository of its own, as in the original code (card.repositories).

Sizes that the original code reads from folders of the towers are defaults here. A checkpoint of another size says so in
its config.json:

    "encoder_configs": {"clip": {"hidden_size": 32, ...}, "convnext": {"depths": [...], "dims": [...]}}

Source: dvlab-research/MGM at 769820c; mgm/model/mgm_arch.py, mgm/eval/model_vqa_loader.py:48-101 and
mgm/model/multimodal_encoder/{clip,openclip}_encoder.py.
"""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.encoders.hub_towers import ClipTower
from redundancy_eval.model_wrappers.encoders.open_clip_towers import ConvNextLargeTower
from redundancy_eval.model_wrappers.encoders.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    colour,
    crop,
    normalise,
    pad_to_square,
    resize,
)  # fmt: skip
from redundancy_eval.model_wrappers.families import language_models, templates
from redundancy_eval.model_wrappers.families.base import Encoder, FamilyModel, Visual
from redundancy_eval.model_wrappers.families.mgm import card, mining

log = logging.getLogger(__name__)

_STRIDE = 4  # of ConvNeXt's first stage, on whose grid its map is
_MINING = {
    "query.": "model.vlm_uni_query_projector.",
    "key.": "model.vlm_uni_aux_projector.",
    "value.": "model.vlm_uni_val_projector.",
    "mm_projector.": "model.mm_projector.",
}
_CLIP, _CONVNEXT = "model.vision_tower.vision_tower.", "model.vision_tower_aux.vision_"
_TRUNK = "visual.trunk."  # of ConvNeXt's own repository
_ROTARY = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")


class Mgm(FamilyModel):
    """An MGM model: encode -> (ablate) -> query, key and value -> (ablate) -> mining, MLP -> language model.

    CLIP sees the views of an image, each at CLIP's own size: crops (`image_grid` along a side) and, with
    `image_global`, the whole. ConvNeXt sees the image at once. All that an encoder sees of an image is one unit.

    What leaves the projectors is all that the fusion takes of an encoder: of CLIP its tokens, as they are, and the
    queries; of ConvNeXt keys and values.

    Args:
        config: the checkpoint's config.json.
        keep: names of the encoders to build; the others can't be run, only replaced. None builds all.
        attention: `attn_implementation` of the language model and of CLIP.
    """

    family = card.FAMILY
    slow_release = (4, 36)
    max_images = 1  # the original's crops are of one image (model_vqa_loader.py:79-98, serve/cli.py)

    def __init__(self, config: Mapping[str, Any], keep: Collection[str] | None = None, attention: str = "sdpa"):
        super().__init__(config)
        self.pads = config.get("image_aspect_ratio") == "pad"
        self.image_size: int = config["image_size_aux"]
        self.grid: int = config.get("image_grid", 1)
        self.views = self.grid**2 + bool(config.get("image_global"))
        self.max_length = config.get("tokenizer_model_max_length")
        self.convnext_elsewhere = bool(card.repositories(config))
        own = config.get("encoder_configs", {})
        clip = {**ClipTower.released, **own.get("clip", {})}
        self.clip_size: int = clip["image_size"]
        self.side: int = self.clip_size // clip["patch_size"]
        sizes = {**ConvNextLargeTower.released, **own.get("convnext", {})}
        self.channels: int = config["mm_hidden_size"]
        self.map_channels: int = config["mm_hidden_size_aux"]
        self._check(config, clip["hidden_size"], ConvNextLargeTower.output_channels(sizes))
        kept = [name for name in self.encoder_names if keep is None or name in keep]
        if "clip" in kept:
            self.encoders["clip"] = ClipTower(clip, None, config["mm_vision_select_layer"], attention)
        if "convnext" in kept:
            self.encoders["convnext"] = ConvNextLargeTower(sizes, self.image_size, self.image_size // _STRIDE)
        hidden = config["hidden_size"]
        self.query, self.key, self.value = (
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.channels))
            for width in (self.channels, self.map_channels, self.map_channels)
        )
        self.mm_projector = nn.Sequential(nn.Linear(self.channels, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.language_model = LlamaForCausalLM(language_models.llama(config, attention))

    def _check(self, config: Mapping[str, Any], channels: int, map_channels: int) -> None:
        """Refuse sizes that do not fit each other.

        Raises:
            SetupError: which.
        """
        for key, has in (("mm_hidden_size", channels), ("mm_hidden_size_aux", map_channels)):
            if config[key] != has:
                raise SetupError(f"{key} is {config[key]}, but its encoder has {has} channels")
        if config.get("image_global") and self.grid == 1:
            raise SetupError("image_global is true, but image_grid is 1: the one crop is the whole image already")
        # ConvNeXt halves its map three times; each window is a whole number of positions, in the smaller map too.
        fits = self.image_size % (_STRIDE * 8) == 0 and self.image_size % (_STRIDE * self.grid * self.side) == 0
        if not fits:
            raise SetupError(
                f"image_size_aux {self.image_size} does not fit {self.grid} x {self.grid} crops of {self.side} x "
                f"{self.side} tokens"
            )

    @property
    def tokens(self) -> int:
        """Tokens of a view: a crop, or the whole image."""
        return self.side**2

    @property
    def window(self) -> int:
        """Positions of ConvNeXt's map that a token looks at."""
        return (self.image_size // _STRIDE // self.grid // self.side) ** 2

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of an image: CLIP's of all views and ConvNeXt's map; or what the projectors make."""
        tokens = self.views * self.tokens
        if site == "projected":
            return {"clip": (tokens, 2 * self.channels), "convnext": (tokens * self.window, 2 * self.channels)}
        return {"clip": (tokens, self.channels), "convnext": ((self.image_size // _STRIDE) ** 2, self.map_channels)}

    def place_sides(self) -> dict[str, int]:
        """There are none.

        Raises:
            SetupError: CLIP's views overlap, and each has an order of its own; ConvNeXt has one map.
        """
        raise SetupError(
            "the encoders' tokens do not lie at the same places: CLIP's are of crops and of the whole image, those of "
            "ConvNeXt are one map"
        )

    def rename(self, released: str) -> weights.Target:
        """Released tensor name -> own name; None for tensors that are not needed."""
        if released.startswith(_CLIP):
            return self._inside("clip", released.removeprefix(_CLIP))
        if released.startswith(_CONVNEXT):
            own = _TRUNK + released.removeprefix(_CONVNEXT)
            return None if self.convnext_elsewhere else self._inside("convnext", own)
        for own, start in _MINING.items():
            if released.startswith(start):
                return own + released.removeprefix(start)
        return None if _ROTARY.fullmatch(released) else f"language_model.{released}"

    def _inside(self, name: str, released: str) -> weights.Target:
        if name not in self.encoders:
            return None
        return weights.inside(f"encoders.{name}.", self.encoders[name].rename(released))

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that a released checkpoint gives to one of our tensors."""
        if own.startswith("encoders.clip."):
            return _CLIP + self.encoders["clip"].release(own.removeprefix("encoders.clip."))
        if own.startswith("encoders.convnext."):
            name = self.encoders["convnext"].release(own.removeprefix("encoders.convnext."))
            return _CONVNEXT + name.removeprefix(_TRUNK)
        for ours, start in _MINING.items():
            if own.startswith(ours):
                return start + own.removeprefix(ours)
        return own.removeprefix("language_model.")

    def add_encoder(self, name: str, place: Path, attention: str = "sdpa") -> None:
        """Check ConvNeXt's repository; the encoder is built already, as every release has the same.

        Raises:
            SetupError: the repository is of another encoder.
        """
        ConvNextLargeTower.sizes(place)

    def check_weights(self, folder: Path, places: Mapping[str, Path]) -> None:
        """Say so where the checkpoint's copy of ConvNeXt is another than what runs, rounding aside."""
        for name, place in places.items():
            tower, prefix = self.encoders[name], _CONVNEXT.removesuffix("vision_")
            other = weights.differing(folder, prefix, place, partial(_rename, tower))
            if other:
                log.warning("%s: %s%s differs from %s, which is what runs", folder, prefix, other, place)

    def template_for(self, tokenizer: Any) -> str:
        """That of the evaluation scripts, from the tokenizer's special tokens; "" where it has ChatML's."""
        if templates.template_for(tokenizer) == "llama3":
            return "mgm_llama_3"
        return "" if "<|im_start|>" in tokenizer.get_vocab() else "vicuna_v1"

    def ends(self, tokenizer: Any) -> tuple[int, ...]:
        """On Llama 3 also the token that ends a turn (model_vqa_loader.py:143-145)."""
        if self.template_for(tokenizer) != "mgm_llama_3":
            return ()
        return (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>"))

    def preprocess_uint8(self, image: Image.Image) -> np.ndarray:
        """Make an image square, by CLIP's mean colour or by cutting, resize it bicubically: (size, size, 3) uint8."""
        if not self.pads:
            return crop(image, self.image_size)
        return resize(pad_to_square(image, colour(CLIP_MEAN)), self.image_size)

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str] = ()) -> dict[str, Tensor]:
        """Images -> what ConvNeXt sees, (images, 3, image_size_aux, image_size_aux), and CLIP's views of each.

        CLIP's pixels are made of ConvNeXt's, already normalised: resized to the grid of crops without antialiasing, and
        the view of the whole is made of that once more. model_vqa_loader.py:71-98.
        """
        whole = normalise(np.stack([self.preprocess_uint8(image) for image in images]), CLIP_MEAN, CLIP_STD)
        found = {"convnext": whole} if "convnext" in names else {}
        if "clip" in names:
            found["clip"] = torch.cat([self.crops(pixels) for pixels in whole])
        return found

    def crops(self, pixels: Tensor) -> Tensor:
        """(3, S, S) float32 -> CLIP's views (views, 3, size, size): crops row by row, then the whole image."""
        size = self.clip_size
        large = _resized(pixels[None], size * self.grid)
        cut = large[0].unflatten(2, (self.grid, size)).unflatten(1, (self.grid, size)).permute(1, 3, 0, 2, 4)
        views = [cut.flatten(0, 1)]
        if self.views > self.grid**2:
            views.append(_resized(large, size))
        return torch.cat(views)

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders: {name: (images, tokens, channels)}; CLIP's views of an image stand one after another."""
        found = {}
        if "clip" in names:
            tokens = self.encoders["clip"](pixels["clip"])
            found["clip"] = tokens.unflatten(0, (-1, self.views)).flatten(1, 2)
        if "convnext" in names:
            found["convnext"] = self.encoders["convnext"](pixels["convnext"])
        return found

    def candidates(self, tokens: Tensor) -> Tensor:
        """ConvNeXt's map of an image (positions, channels) -> (tokens of all views, window, channels)."""
        side = self.image_size // _STRIDE
        maps = tokens.unflatten(0, (side, side))
        found = [mining.windows(maps, self.grid, self.side)]
        if self.views > self.grid**2:
            found.append(mining.windows(mining.smaller(maps, self.grid), 1, self.side))
        return torch.cat(found)

    def project(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the fusion takes of the given encoders: [token, query] and [key, value] side by side in the channels."""
        found = {}
        if "clip" in features:
            found["clip"] = torch.cat([features["clip"], self.query(features["clip"])], -1)
        if "convnext" in features:
            # One image at a time: candidates of a full-size image are half a billion values.
            found["convnext"] = torch.stack([self._keys_and_values(tokens) for tokens in features["convnext"]])
        return found

    def _keys_and_values(self, tokens: Tensor) -> Tensor:
        candidates = self.candidates(tokens)
        return torch.cat([self.key(candidates), self.value(candidates)], -1).flatten(0, 1)

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Any]) -> list[Visual]:
        """Tokens and what they mine, added -> (views * tokens, hidden) for each image, the whole image first."""
        return [
            Visual(self.mm_projector(self.merged(clip, convnext)))
            for clip, convnext in zip(projected["clip"], projected["convnext"], strict=True)
        ]

    def merged(self, clip: Tensor, convnext: Tensor) -> Tensor:
        """What enters the MLP, of an image's projected outputs: (views * tokens, channels)."""
        tokens, query, key, value = self.parts(clip, convnext)
        merged = tokens + mining.mine(query, key, value)[1]
        whole = (self.views - self.grid**2) * self.tokens  # last in the pixels, first in the prompt
        return torch.cat([merged[len(merged) - whole :], merged[: len(merged) - whole]])

    def parts(self, clip: Tensor, convnext: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens and queries (tokens, channels), keys and values (tokens, window, channels) of an image."""
        tokens, query = clip.chunk(2, -1)
        key, value = convnext.unflatten(0, (-1, self.window)).chunk(2, -1)
        return tokens, query, key, value


def _rename(tower: Encoder, released: str) -> weights.Target:
    """Own name of one of ConvNeXt's tensors, as its own repository calls it or, after its prefix, a checkpoint."""
    return tower.rename(_TRUNK + released.removeprefix("vision_") if released.startswith("vision_") else released)


def _resized(pixels: Tensor, size: int) -> Tensor:
    return F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
