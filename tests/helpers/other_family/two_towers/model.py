"""The computation of Two Towers: a ViT and a ConvNeXt, each projected to the width of a Llama, added."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.encoders.convnext import ConvNextEncoder
from redundancy_eval.model_wrappers.encoders.pixels import CLIP_MEAN, CLIP_STD, normalise, resize, to_tokens
from redundancy_eval.model_wrappers.families import language_models
from redundancy_eval.model_wrappers.families.base import FamilyModel, Visual
from two_towers.card import FAMILY


class VitEncoder(nn.Module):
    """timm's ViT: all tokens but the class token, after the final norm."""

    released: dict[str, Any] = dict(patch_size=32, embed_dim=16, depth=2, num_heads=2)

    def __init__(self, sizes: Mapping[str, Any], image_size: int):
        super().__init__()
        self.trunk = VisionTransformer(img_size=image_size, num_classes=0, global_pool="", **sizes)

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return int(sizes["embed_dim"])

    def rename(self, released: str) -> str:
        """Released name -> own name."""
        return f"trunk.{released}"

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        return own.removeprefix("trunk.")

    def restore_buffers(self) -> None:
        """It has none."""

    def forward(self, pixels: Tensor) -> Tensor:
        """(images, 3, S, S) -> (images, tokens, embed_dim)."""
        return self.trunk(pixels)[:, 1:]


class TwoTowers(FamilyModel):
    """Two Towers: encode -> (ablate) -> a projector each -> (ablate) -> add -> language model."""

    family = FAMILY
    template = "vicuna_v1"

    def __init__(self, config: Mapping[str, Any], keep: Collection[str] | None = None, attention: str = "sdpa") -> None:
        super().__init__(config)
        self.image_size: int = config["image_size"]
        vit = {**VitEncoder.released, **config.get("vit", {})}
        convnext = {**ConvNextEncoder.released, **config.get("convnext", {})}
        self.tokens = (self.image_size // vit["patch_size"]) ** 2
        if self.tokens != (self.image_size // (8 * convnext["patch_size"])) ** 2:
            raise SetupError(f"the encoders' maps do not fit at {self.image_size} px")
        self.channels = {
            "vit": VitEncoder.output_channels(vit), "convnext": ConvNextEncoder.output_channels(convnext)
        }  # fmt: skip
        if keep is None or "vit" in keep:
            self.encoders["vit"] = VitEncoder(vit, self.image_size)
        if keep is None or "convnext" in keep:
            self.encoders["convnext"] = ConvNextEncoder(convnext, attention)
        self.hidden: int = config["hidden_size"]
        self.projectors = nn.ModuleDict({name: nn.Linear(n, self.hidden) for name, n in self.channels.items()})
        self.language_model = LlamaForCausalLM(language_models.llama(config, attention))

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of each encoder's output as it enters its projector, or after it."""
        return {name: (self.tokens, self.hidden if site == "projected" else n) for name, n in self.channels.items()}

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str]) -> dict[str, Tensor]:
        """One CLIP-normalised tensor for both encoders: {"shared": (images, 3, S, S)}."""
        return {"shared": normalise(np.stack([resize(i, self.image_size) for i in images]), CLIP_MEAN, CLIP_STD)}

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders: {name: (images, tokens, channels)}."""
        outputs = {name: self.encoders[name](pixels["shared"]) for name in self.encoder_names if name in names}
        return {name: to_tokens(output) if name == "convnext" else output for name, output in outputs.items()}

    def project(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The projectors of the encoders that are given."""
        return {name: self.projectors[name](value) for name, value in features.items()}

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Any]) -> list[Visual]:
        """The sum -> (tokens, hidden) for each image."""
        return [Visual(rows) for rows in projected["vit"] + projected["convnext"]]

    def rename(self, released: str) -> weights.Target:
        """Released tensor name -> own name; None for an encoder that is not built."""
        if found := re.fullmatch(r"vision\.(vit|convnext)\.(.+)", released):
            name, rest = found.groups()
            if name not in self.encoders:
                return None
            return weights.inside(f"encoders.{name}.", self.encoders[name].rename(rest))
        return re.sub(r"^llm\.", "language_model.", re.sub(r"^project_", "projectors.", released))

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        if own.startswith("encoders."):
            _, name, rest = own.split(".", 2)
            return f"vision.{name}.{self.encoders[name].release(rest)}"
        return re.sub(r"^language_model\.", "llm.", re.sub(r"^projectors\.", "project_", own))
