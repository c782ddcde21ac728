"""Prismatic and OpenVLA: DINOv2 and SigLIP, or DINOv2 and CLIP, side by side in the channels, an MLP, a Llama.

Loads both forms: the original release (`config.json` and `checkpoints/latest-checkpoint.pt`, with projector and
language model; encoders come from timm's hub repositories, the tokenizer from the language model's) and the one that
transformers reads (OpenVLA, `model.safetensors`, which holds everything). A dropped encoder's channels are zero as they
enter the projector: the image's tokens are not zero, and with both dropped they are all equal.

What the original code hard-codes are defaults here. A checkpoint of another size says so in its config.json:

    "encoder_configs": {"dinov2": {"depth": 3, "embed_dim": 24, "num_heads": 2}}     timm's settings
    "text_config": {"hidden_size": 64, ...}                                          of the language model

Source: TRI-ML/prismatic-vlms at 874c5bb, prismatic/models/; openvla/openvla at c8f03f4, prismatic/extern/hf/.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.encoders.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    colour,
)
from redundancy_eval.model_wrappers.encoders.timm_vits import TimmVit
from redundancy_eval.model_wrappers.families import language_models
from redundancy_eval.model_wrappers.families.base import FamilyModel, Visual
from redundancy_eval.model_wrappers.families.prismatic import actions as action_tokens
from redundancy_eval.model_wrappers.families.prismatic import card, names, pixels, tokens

NORMALISATION = {"dinov2": (IMAGENET_MEAN, IMAGENET_STD), "siglip": (HALF, HALF), "clip": (CLIP_MEAN, CLIP_STD)}
_TEXT_LENGTH = 2048  # most tokens of a prompt's text, where a config is silent (prismatic/models/load.py:93)
_PREPROCESSOR = "preprocessor_config.json"


class Prismatic(FamilyModel):
    """A Prismatic model: encode -> (ablate) -> concatenate -> project -> language model.

    Args:
        config: the checkpoint's config.json.
        keep: encoders to build; None for all. The others cannot be run, only replaced.
        attention: `attn_implementation` of the language model; timm's encoders choose theirs.
        actions: OpenVLA: the key of `norm_stats` in whose units actions are shown.
    """

    family = card.FAMILY
    max_images = 1  # the original code puts one into a prompt

    def __init__(
        self,
        config: Mapping[str, Any],
        keep: Collection[str] | None = None,
        attention: str = "sdpa",
        actions: str | None = None,
    ):
        super().__init__(config)
        told = card.told(config)
        encoders, language = _encoders(config), card.language(config)
        self.converted, self.acts = card.converted(config), config.get("model_type") == "openvla"
        self.policy: str = told["image_resize_strategy"]
        self.released_names = {"dino" if name == "dinov2" else name: name for name in self.encoder_names}
        self.sizes = {name: size for name, (_, size, _) in encoders.items()}
        self.channels = {name: TimmVit.output_channels(made) for name, (_, _, made) in encoders.items()}
        for name, (model, size, made) in encoders.items():
            if keep is None or name in keep:
                self.encoders[name] = TimmVit(model, size, made)
        counts = [(size // made["patch_size"]) ** 2 for _, size, made in encoders.values()]
        if len(set(counts)) > 1:
            raise SetupError(f"the encoders give {' and '.join(map(str, counts))} tokens: no pair")
        self.tokens = counts[0]
        text = _text(config, language)
        self.language_model = LlamaForCausalLM(language_models.llama(text, attention))
        hidden = self.language_model.config.hidden_size
        self.projector = _projector(_kind_of_projector(config), sum(self.channels.values()), hidden)
        self.first_layer = "projector" if isinstance(self.projector, nn.Linear) else "projector.0"
        self.max_length = told.get("llm_max_length", _TEXT_LENGTH) + self.tokens  # the text's own, and the image
        self.template = language.template
        if self.acts:
            self.template = "openvla_v01" if language.template == "prismatic_vicuna" else "openvla"
        self.edges: int = config.get("n_action_bins", 256)
        self.vocabulary: int = self.language_model.config.vocab_size - config.get("pad_to_multiple_of", 64)
        if actions is not None and not self.acts:
            raise SetupError("actions= is for OpenVLA: this checkpoint's answers are texts")
        self.action_statistics: Mapping[str, Any] = config.get("norm_stats") or {}
        self.statistics = action_tokens.chosen(self.action_statistics, actions) if self.acts else None

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of each encoder's output as it enters the concatenation."""
        return {name: (self.tokens, self.channels[name]) for name in self.encoder_names}

    def rename(self, released: str) -> weights.Target:
        """Released tensor name -> own name; None for tensors that are not needed."""
        if not self.converted:
            return names.original_name(released)
        place, own = names.of_encoder(released)
        if place < 0:
            return names.converted_name(released)
        name = self.encoder_names[place]
        if name not in self.encoders:
            return None
        return weights.inside(f"encoders.{name}.", self.encoders[name].rename(own))

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that a released checkpoint gives to one of our tensors."""
        if not self.converted:
            return names.original_release(own)
        part, _, rest = own.partition(".")
        name, _, inner = rest.partition(".")
        if part != "encoders":
            return names.converted_release(own)
        return names.encoder_release(self.encoder_names.index(name), self.encoders[name].release(inner))

    def add_encoder(self, name: str, place: Path, attention: str = "sdpa") -> None:
        """The encoders are built already, as their sizes are those of timm's models; here the repository is looked at.

        Raises:
            SetupError: the repository is of another encoder.
        """
        tower = self.encoders[name]
        assert isinstance(tower, TimmVit)
        tower.check(place)

    def check_weights(self, folder: Path, places: Mapping[str, Path]) -> None:
        """Refuse a checkpoint whose image processor prepares images otherwise than its config says.

        Raises:
            SetupError: what it does.
        """
        if not self.converted or not (folder / _PREPROCESSOR).is_file():
            return
        stated = hub.read_config(folder, _PREPROCESSOR)
        for key, want in self.processing().items():
            if stated.get(key) is not None and _plain(stated[key]) != _plain(want):
                raise SetupError(f"{folder / _PREPROCESSOR}: {key} must be {want}; not {stated[key]!r}")

    def processing(self) -> dict[str, Any]:
        """What the processor of the converted form says of images that are prepared as here."""
        encoders = self.encoder_names
        made = {
            "image_resize_strategy": self.policy,
            "use_fused_vision_backbone": len(encoders) > 1,
            "input_sizes": [[3, self.sizes[name], self.sizes[name]] for name in encoders],
            "interpolations": ["bicubic"] * len(encoders),
            "means": [list(NORMALISATION[name][0]) for name in encoders],
            "stds": [list(NORMALISATION[name][1]) for name in encoders],
            "tvf_do_letterbox": self.policy == "letterbox",
        }
        return made | ({"tvf_letterbox_fill": list(self.colour(encoders[0]))} if made["tvf_do_letterbox"] else {})

    def read_tokenizer(self, folder: Path) -> Any:
        """The tokenizer, with the ids of the release with which the models were trained (tokens.py)."""
        return tokens.read(folder, self.language_model.config)

    def ends(self, tokenizer: Any) -> tuple[int, ...]:
        """The tokenizer's end; the original's config says nothing of it."""
        return (tokenizer.eos_token_id,)

    def tied(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        """By the language model's part."""
        return language_models.tied(config.get("text_config") or {})

    def answer(self, tokenizer: Any, ids: Sequence[int]) -> str:
        """OpenVLA's actions as such, see actions.py; other answers are texts."""
        action = action_tokens.text(ids, self.vocabulary, self.statistics, self.edges) if self.acts else None
        return super().answer(tokenizer, ids) if action is None else action

    def colour(self, name: str) -> pixels.Colour:
        """What an encoder's image is padded with: its own mean; in the converted form the last one's for all."""
        return colour(NORMALISATION[self.encoder_names[-1] if self.converted else name][0])

    def preprocess_uint8(self, image: Image.Image, name: str) -> np.ndarray:
        """An image as an encoder gets it, not normalised: (size, size, 3) uint8."""
        return pixels.square(image, self.sizes[name], self.policy, self.colour(name))

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str] = ()) -> dict[str, Tensor]:
        """Images -> {encoder: (images, 3, size, size)}, normalised float32."""
        return {
            name: pixels.normalise(
                np.stack([self.preprocess_uint8(image, name) for image in images]), *NORMALISATION[name]
            )
            for name in self.encoder_names
            if name in names
        }

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders: {name: (images, tokens, channels)}, ready for the concatenation."""
        return {name: self.encoders[name](pixels[name]) for name in self.encoder_names if name in names}

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Any]) -> list[Visual]:
        """Features of both encoders -> (tokens, hidden) for each image."""
        both = torch.cat([projected[name] for name in self.encoder_names], dim=-1)
        return [Visual(rows) for rows in self.projector(both)]


def _encoders(config: Mapping[str, Any]) -> dict[str, tuple[str, int, dict[str, Any]]]:
    """Of each encoder: its timm model, the side of its pixels, and timm's settings.

    The converted form says which activations it runs with; its default for CLIP is the quick one, beside DINOv2 too,
    where the original has the exact one (configuration_prismatic.py:43).

    Raises:
        SetupError: the converted form names other encoders.
    """
    vision = card.vision(config)
    known = [encoder.timm_model for encoder in vision.encoders.values()]
    sizes, activations = [vision.image_size] * len(known), [own.activation for own in vision.encoders.values()]
    if card.converted(config):
        sizes = list(config.get("image_sizes") or sizes)
        default = ["quick_gelu" if name == "clip" else None for name in vision.encoders]
        activations = [act or "gelu" for act in config.get("timm_override_act_layers") or default]
        models = [name.partition(".")[0] for name in config.get("timm_model_ids") or known]
        fused = config.get("use_fused_vision_backbone")
        if len(sizes) != len(known) or len(activations) != len(known) or models != known:
            raise SetupError(
                f"image_sizes, timm_override_act_layers and timm_model_ids must be of {', '.join(known)}; not "
                f"{sizes}, {activations} and {models}"
            )
        if fused is not None and fused != (len(known) > 1):
            raise SetupError(f"use_fused_vision_backbone is {fused}, and there are {len(known)} encoders")
    told: Mapping[str, Mapping[str, Any]] = config.get("encoder_configs", {})
    return {
        name: (encoder.timm_model, size, {**encoder.sizes, **told.get(name, {}), "act_layer": activation})
        for (name, encoder), size, activation in zip(vision.encoders.items(), sizes, activations, strict=True)
    }


def _kind_of_projector(config: Mapping[str, Any]) -> str:
    """The kind of the projector; in the converted form it follows from the number of encoders."""
    if card.converted(config):
        return "fused-gelu-mlp" if len(card.encoders(config)) > 1 else "gelu-mlp"
    return str(card.told(config).get("arch_specifier", "gelu-mlp"))


def _text(config: Mapping[str, Any], language: card.Language) -> dict[str, Any]:
    """What the language model is built of.

    The converted form leaves out what is a default of transformers' LlamaConfig, rms_norm_eps 1e-6 among it, although
    the same model was trained with 1e-5.
    """
    own = config.get("text_config") or {}
    return {**({"vocab_size": language.sizes["vocab_size"]} if card.converted(config) else language.sizes), **own}


def _projector(kind: str, channels: int, hidden: int) -> nn.Module:
    """prismatic/util/nn_utils.py: a linear layer, or two, or three, with exact GELUs between.

    Raises:
        SetupError: another projector.
    """
    if kind == "linear":
        return nn.Linear(channels, hidden)
    if kind.endswith("fused-gelu-mlp"):
        sides = [channels, 4 * channels, hidden, hidden]
    elif kind.endswith("gelu-mlp"):
        sides = [channels, hidden, hidden]
    else:
        raise SetupError(f"arch_specifier must be linear, or end with gelu-mlp or fused-gelu-mlp; not {kind!r}")
    layers: list[nn.Module] = []
    for before, after in pairwise(sides):
        layers += [nn.GELU(), nn.Linear(before, after)]
    return nn.Sequential(*layers[1:])


def _plain(value: Any) -> Any:
    """A value of JSON as it is compared: numbers within float32's rounding."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return round(value, 5) if isinstance(value, float) else value
