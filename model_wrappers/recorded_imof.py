"""Tensors recorded from the original I-MoF code: which checkpoint, conditions and names they have (for `parity`)."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import checkpoint, imof, prompts
from redundancy_eval.model_wrappers.parity import Check, Condition, MaskedModel, by_name, read_json, same

_SITES = {"zero_tower": "encoder", "zero_proj": "projected"}
_DINO = {"embed_dim": "hidden_size", "depth": "num_hidden_layers", "num_heads": "num_attention_heads"}


def load(folder: Path) -> tuple[imof.IMof, Any, checkpoint.LoadReport]:
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
    if text == "nomask":
        return Condition()
    kind, _, names = text.partition(":")
    mask = model.encoder_names if names == "all" else tuple(names.split("+"))
    if kind not in _SITES or not set(mask) <= set(model.encoder_names):
        raise SetupError(f"this port has no condition {text!r}")
    return Condition(mask, _SITES[kind])


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
    template = prompts.template(entry["conv_template"])
    text = template.render(entry["messages"])
    yield same(f"{name} prompt text", text, entry["prompt"])
    yield same(f"{name} token ids", prompts.tokenize(tokenizer, text, template), entry["input_ids"])
    recorded = stats.get(f"{name}/pixel_values")
    if recorded:
        uint8 = hashlib.sha256(model.preprocess_uint8(image).transpose(2, 0, 1).tobytes()).hexdigest()
        yield same(f"{name} uint8 pixels", uint8, recorded["uint8_sha256_chw"])
        floats = hashlib.sha256(model.preprocess([image])["shared"][0].numpy().tobytes()).hexdigest()
        yield same(f"{name} float32 pixels", floats, recorded["sha256_le"])


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
