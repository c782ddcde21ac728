"""Tensors recorded from the original MGM code: which checkpoint, conditions and names they have (for `parity`)."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.model_wrappers.encoders.hub_towers import ClipTower
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.mgm import mining
from redundancy_eval.model_wrappers.families.mgm.model import Mgm
from redundancy_eval.model_wrappers.families.recording import (
    Check,
    Condition,
    Recording,
    Subject,
    by_name,
    same,
    same_pixels,
    sha256,
    site_condition,
)

_SITES: dict[str, tuple[str, dict[str, Any]]] = {
    "zero@encoder": ("encoder", {}), "zero@projected": ("projected", {}),
}  # fmt: skip
_TEMPLATES = {"llama_3": "mgm_llama_3"}  # as the original code calls them -> as we do


class MgmRecording(Recording[Mgm]):
    """How recordings of the original code call things."""

    def config(self, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a recorded checkpoint whose shrunken encoder sizes stand in tiny_overrides.json."""
        clip = overrides["encoders"]["clip"]["tiny_config"]
        return {
            **config,
            "encoder_configs": {
                "clip": {key: clip[key] for key in ClipTower.released if key in clip},
                "convnext": overrides["encoders"]["convnext"]["timm_kwargs_tiny"],
            },
        }

    def condition(self, text: str, model: Mgm) -> Condition:
        """`nomask`, `zero@encoder:<encoder>`, `zero@projected:<encoder>`; `all` for both.

        Raises:
            SetupError: this port has no such condition.
        """
        return site_condition(text, model, _SITES)

    def check_prompt(self, name: str, entry: Mapping[str, Any], model: Mgm, tokenizer: Any) -> Iterator[Check]:
        """Prompt, its template and token ids of an input."""
        called = _TEMPLATES.get(entry["conv_template"], entry["conv_template"])
        template = templates.template(called)
        text = template.render(entry["messages"])
        yield same(f"{name} prompt text", text, entry["prompt"])
        yield same(f"{name} template chosen from the checkpoint", model.template, called)
        yield same(f"{name} token ids", templates.tokenize(tokenizer, text, template), entry["input_ids"])

    def check_pixels(
        self, name: str, entry: Mapping[str, Any], stats: Mapping[str, Any], model: Mgm, image: Image.Image
    ) -> Iterator[Check]:
        """What ConvNeXt sees, and each of CLIP's views."""
        pixels, uint8 = model.preprocess([image], model.encoder_names), model.preprocess_uint8(image)
        yield from same_pixels(f"{name} aux", uint8, pixels["convnext"][0], stats.get(f"{name}/aux"))
        for index, view in enumerate(pixels["clip"]):
            recorded = stats.get(f"{name}/clip/{index}")
            if recorded:
                yield same(f"{name} clip {index} pixels", sha256(view), recorded["sha256_le"])

    @torch.inference_mode()
    def tensors(self, subject: Subject[Mgm], image: Image.Image) -> dict[str, Tensor]:
        """What a recording may hold of the encoders, the mining and the fusion."""
        model, projected = subject.model, subject.projected([image])
        clip, convnext = projected["clip"][0], projected["convnext"][0]
        _, query, key, value = model.parts(clip, convnext)
        attention, mined = mining.mine(query, key, value)
        local = model.grid**2 * model.tokens
        of_tokens = {"query": query, "attention": attention, "mined": mined}
        of_candidates = {"key": key, "value": value}
        parts = {"local": slice(local), "global": slice(local, None)}
        return {
            **by_name("encoder", subject.features([image]), model),
            **{f"mining/{part}/{n}": found[rows] for part, rows in parts.items() for n, found in of_tokens.items()},
            **{
                f"mining/{part}/{n}": found[rows].flatten(0, 1)
                for part, rows in parts.items()
                for n, found in of_candidates.items()
            },
            "fused": model.merged(clip, convnext),
            "image_embeds": model.fuse(projected, [None])[0].embeddings,
        }
