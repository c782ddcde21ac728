"""Tensors recorded from the original Eagle code: which checkpoint, conditions and names they have (for `parity`)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from PIL import Image
from torch import Tensor

from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.eagle import model as eagle
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.masking.parity import (
    Check,
    by_name,
    config_of,
    same,
    same_pixels,
    zero_condition,
)


def load(folder: Path) -> tuple[eagle.Eagle, Any, weights.LoadReport]:
    """The recorded model, with every encoder, in float32."""
    return eagle.load(folder, config=config_of(folder, recorded_config))


condition = zero_condition


def check_inputs(
    name: str,
    entry: Mapping[str, Any],
    stats: Mapping[str, Any],
    model: eagle.Eagle,
    tokenizer: Any,
    image: Image.Image,
) -> Iterator[Check]:
    """Prompt, token ids and pixels of an input."""
    template = templates.template(entry["conv_template"])
    text = template.render(entry["messages"])
    yield same(f"{name} prompt text", text, entry["prompt"])
    yield same(f"{name} template chosen from the checkpoint", templates.template_for(tokenizer), entry["conv_template"])
    yield same(f"{name} token ids", templates.tokenize(tokenizer, text, template), entry["input_ids"])
    pixels = model.preprocess([image])["shared"][0]
    yield from same_pixels(name, model.preprocess_uint8(image), pixels, stats.get(f"{name}/pixel_values"))


def input_ids(entry: Mapping[str, Any]) -> list[int]:
    """Token ids of an input with prompts.IMAGE_ID at its image."""
    return list(entry["input_ids"])


def tensors(subject: MaskedModel, image: Image.Image) -> dict[str, Tensor]:
    """What a recording may hold of the encoders and the fusion."""
    features = subject.features([image])
    return {
        **by_name("encoder", features, subject.model),
        "fused": cast(eagle.Eagle, subject.model).concatenate(features)[0],
        "image_embeds": subject.model.fuse(features, [None])[0].embeddings,
    }


def recorded_config(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a recorded checkpoint whose shrunken encoder sizes stand in tiny_overrides.json."""
    kinds = {released: eagle.MODULES[released.partition("-")[0]] for released in overrides["encoders"]}
    return {
        **config,
        "image_size": overrides["fusion"]["input_image_size"],
        "grid_size": overrides["fusion"]["grid_size"],
        "encoder_configs": {
            released: {k: v for k, v in encoder["tiny_config"].items() if k in kinds[released].released}
            | {"input_size": encoder["input_image_size"]}
            for released, encoder in overrides["encoders"].items()
        },
    }
