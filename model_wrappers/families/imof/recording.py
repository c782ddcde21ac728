"""Tensors recorded from the original I-MoF code: which checkpoint, conditions and names they have (for `parity`)."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.imof.model import IMof
from redundancy_eval.model_wrappers.families.recording import (
    Check,
    Condition,
    Recording,
    Subject,
    by_name,
    same,
    same_pixels,
    site_condition,
)

_SITES: dict[str, tuple[str, dict[str, Any]]] = {"zero_tower": ("encoder", {}), "zero_proj": ("projected", {})}
_DINO = {"embed_dim": "hidden_size", "depth": "num_hidden_layers", "num_heads": "num_attention_heads"}


class IMofRecording(Recording[IMof]):
    """How recordings of the original code call things."""

    def config(self, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a recorded checkpoint whose shrunken DINOv2 is described in tiny_overrides.json."""
        tiny = overrides["encoders"]["dinov2"]["tiny_config"]
        return {**config, "encoder_configs": {"dinov2": {_DINO[k]: v for k, v in tiny.items() if k in _DINO}}}

    def condition(self, text: str, model: IMof) -> Condition:
        """`nomask`, `zero_tower:<encoder>` (site encoder), `zero_proj:<encoder>` (site projected); `all` for both.

        Raises:
            SetupError: this port has no such condition.
        """
        return site_condition(text, model, _SITES)

    def check_prompt(self, name: str, entry: Mapping[str, Any], model: IMof, tokenizer: Any) -> Iterator[Check]:
        """Prompt and token ids of an input."""
        template = templates.template(entry["conv_template"])
        text = template.render(entry["messages"])
        yield same(f"{name} prompt text", text, entry["prompt"])
        yield same(f"{name} token ids", templates.tokenize(tokenizer, text, template), entry["input_ids"])

    def check_pixels(
        self, name: str, entry: Mapping[str, Any], stats: Mapping[str, Any], model: IMof, image: Image.Image
    ) -> Iterator[Check]:
        """Pixels of an input; sets the model's image_mode, which is recorded for each."""
        model.image_mode = "pad" if entry["preprocess"].startswith("pad") else "crop"
        pixels = model.preprocess([image])["shared"][0]
        yield from same_pixels(name, model.preprocess_uint8(image), pixels, stats.get(f"{name}/pixel_values"))

    @torch.inference_mode()
    def tensors(self, subject: Subject[IMof], image: Image.Image) -> dict[str, Tensor]:
        """What a recording may hold of the encoders and the fusion."""
        projected = subject.projected([image])
        merged = subject.model.fuse(projected, [None])[0].embeddings
        return {
            **by_name("tower", subject.features([image]), subject.model),
            **by_name("proj", projected, subject.model),
            "image_embeds": merged,
            # Pairs of rows: patch 16i of each encoder.
            "image_embeds/rows_stride16": merged.unflatten(0, (-1, 2))[::16].flatten(0, 1),
        }
