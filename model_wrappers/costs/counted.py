"""What every mask of a model costs, counted: parameters and bytes that stay, operations for an image and a prompt.

Nothing is loaded: the model stands on the meta device, built from its config (operations.py). A mask's cost is that of
what runs under it: encoders that are dropped and not run go, with their parameters; projectors and fusion stay.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from redundancy_eval.costs_file import MaskCost
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.costs import operations
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.families.base import FamilyModel, model_class
from redundancy_eval.model_wrappers.families.card import PLACES

CONVENTION = (
    "2 operations for a multiply-add; matrix products, convolutions and attention (causal attention as a whole square)"
)


@dataclass(frozen=True)
class Load:
    """What is counted: an image of a size (width, height), and tokens of the text and of the answer."""

    picture: tuple[int, int]
    text_tokens: int
    new_tokens: int


class Counter:
    """Counts the costs of a model's masks.

    Args:
        model_id: of a family.
        folder: of the checkpoint; its weights need not be there.
        given: model arguments. With `encoder_weights`, encoders that have repositories of their own are built as those
            say; else they are taken to be the released ones.

    Raises:
        SetupError: the config is of another family, or an argument makes no sense.
    """

    def __init__(self, model_id: str, folder: Path, given: Mapping[str, str]):
        self.family, self.folder, self.model_id = registry.family(model_id), folder, model_id
        self.config = hub.read_config(folder)
        self.site = given.get("site", "encoder")
        self.settings = {k: given[k] for k in self.family.settings if k in given and k not in PLACES}
        self.model = operations.skeleton(model_id, folder, given)
        if "encoder_weights" in given:
            for name, repository in self.family.elsewhere(self.config).items():
                self.model.add_encoder(name, hub.locate_encoder(repository, given["encoder_weights"]), "sdpa")

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the encoders, in order."""
        return self.model.encoder_names

    def needed(self, mask: Sequence[str]) -> tuple[str, ...]:
        """Encoders that run under a mask."""
        return self.model.needed(self.encoders, mask, self.site, **self.settings)

    @cached_property
    def own(self) -> dict[str, float]:
        """Parameters of each encoder; NaN where its size is not known."""
        if not self.family.elsewhere(self.config):
            whole = _size(self.model)
            return {name: whole - _size(self._without(name)) for name in self.encoders}
        if self.model.encoders:
            return {name: _size(self.model.encoders[name]) for name in self.encoders}
        if {"encoder_configs", "image_size", "grid_size"} & set(self.config):
            return dict.fromkeys(self.encoders, math.nan)
        return {name: self.family.costs[name][0] * 1e6 for name in self.encoders}

    def masks(self, masks: Sequence[tuple[str, ...]], load: Load, itemsize: int) -> tuple[list[MaskCost], int]:
        """Count.

        Args:
            masks: dropped encoders, of each.
            load: what is asked.
            itemsize: bytes of a parameter.

        Returns:
            The costs, and the number of visual tokens of the image.
        """
        whole = operations.of(self.model, self.model_id, self.config, load.picture)
        language, length = whole.language, whole.visual_tokens + load.text_tokens
        added = operations.within_language(self.model, load.picture, self.encoders)
        total = math.nan if whole.parameters is None else float(whole.parameters)
        made = []
        for mask in masks:
            run = self.needed(mask)
            flops = {name: math.nan if (spent := whole.encoders[name]) is None else float(spent) for name in run}
            parameters = total - sum(self.own[name] for name in self.encoders if name not in run)
            parts = {
                "flops_encoders": float(sum(flops.values())),
                "flops_fusion": float(self._fusion(mask, whole.fusion, load.picture)),
                "flops_prefill": float(language.prefill(length) + added),
                "flops_decode": float(language.decode(length, load.new_tokens)),
            }
            made.append(
                MaskCost(
                    tuple(mask),
                    {"flops": sum(parts.values()), **parts, "parameters": parameters, "bytes": parameters * itemsize},
                )
            )
        return made, whole.visual_tokens

    def _fusion(self, mask: Sequence[str], whole: float, picture: tuple[int, int]) -> float:
        """Operations of projectors and fusion under a mask: what is dropped behind its projector skips that, too."""
        stand_ins = self.model.replaced(mask, self.site, **self.settings) if self.site == "projected" else ()
        if not stand_ins:
            return whole
        return operations.fused(self.model, picture, self.needed(mask), stand_ins)[1]

    def _without(self, name: str) -> FamilyModel:
        with weights.building(self.folder):
            others = [other for other in self.encoders if other != name]
            return model_class(self.family)(self.config, others, **self.settings)


def _size(model: Any) -> float:
    return float(sum(parameter.numel() for parameter in model.parameters()))


def sentences(load: Load, visual_tokens: int, dtype: str) -> dict[str, str]:
    """What a count assumes, by name."""
    width, height = load.picture
    return {
        "image": f"{width}x{height} pixels, {visual_tokens} visual tokens",
        "prompt": f"{load.text_tokens} text tokens",
        "answer": f"{load.new_tokens} tokens",
        "weights": dtype,
        "operations": CONVENTION,
    }
