"""Tensors recorded from the original I-MoF code: which checkpoint, conditions and names they have (for `parity`)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.imof import model as imof
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.masking.parity import (
    Check,
    Condition,
    by_name,
    read_json,
    same,
    same_pixels,
    site_condition,
)

_SITES: dict[str, tuple[str, dict[str, Any]]] = {"zero_tower": ("encoder", {}), "zero_proj": ("projected", {})}
_DINO = {"embed_dim": "hidden_size", "depth": "num_hidden_layers", "num_heads": "num_attention_heads"}


def load(folder: Path) -> tuple[imof.IMof, Any, weights.LoadReport]:
    """The recorded model, with both encoders (from `towers/` beside the checkpoint), in float32."""
    overrides, sizes = folder / "tiny_overrides.json", {}
    if overrides.is_file():
        tiny = read_json(overrides)["encoders"]["dinov2"]["tiny_config"]
        sizes["dinov2"] = {_DINO[key]: value for key, value in tiny.items() if key in _DINO}
    return imof.load(folder, encoder_weights=folder.parent / "towers", sizes=sizes)


def condition(text: str, model: imof.IMof) -> Condition:
    """`nomask`, `zero_tower:<encoder>` (site encoder), `zero_proj:<encoder>` (site projected); `all` for both.

    Raises:
        SetupError: this port has no such condition.
    """
    return site_condition(text, model, _SITES)


def check_inputs(
    name: str,
    entry: Mapping[str, Any],
    stats: Mapping[str, Any],
    model: imof.IMof,
    tokenizer: Any,
    image: Image.Image,
) -> Iterator[Check]:
    """Prompt, token ids and pixels of an input. Sets the model's image_mode, which recordings have for each input."""
    model.image_mode = "pad" if entry["preprocess"].startswith("pad") else "crop"
    template = templates.template(entry["conv_template"])
    text = template.render(entry["messages"])
    yield same(f"{name} prompt text", text, entry["prompt"])
    yield same(f"{name} token ids", templates.tokenize(tokenizer, text, template), entry["input_ids"])
    pixels = model.preprocess([image])["shared"][0]
    yield from same_pixels(name, model.preprocess_uint8(image), pixels, stats.get(f"{name}/pixel_values"))


def input_ids(entry: Mapping[str, Any]) -> list[int]:
    """Token ids of an input with prompts.IMAGE_ID at its image."""
    return list(entry["input_ids"])


@torch.inference_mode()
def tensors(subject: MaskedModel, image: Image.Image) -> dict[str, Tensor]:
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
