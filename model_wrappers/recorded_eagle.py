"""Tensors recorded from the original Eagle code: which checkpoint, conditions and names they have (for `parity`)."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import checkpoint, eagle, hub, prompts
from redundancy_eval.model_wrappers.parity import Check, Condition, MaskedModel, by_name, read_json, same


def load(folder: Path) -> tuple[eagle.Eagle, Any, checkpoint.LoadReport]:
    """The recorded model, with every encoder, in float32."""
    config, overrides = hub.read_config(folder), folder / "tiny_overrides.json"
    if overrides.is_file():
        config = recorded_config(config, read_json(overrides))
    return eagle.load(folder, config=config)


def condition(text: str, model: eagle.Eagle) -> Condition:
    """`nomask`, `all_masked`, `zero:<tower>+<tower>`.

    Raises:
        SetupError: this port has no such condition.
    """
    if text in ("nomask", "all_masked"):
        return Condition(() if text == "nomask" else model.encoder_names)
    kind, _, names = text.partition(":")
    if kind != "zero" or not set(names.split("+")) <= set(model.released_names):
        raise SetupError(f"this port has no condition {text!r}")
    return Condition(tuple(model.released_names[name] for name in names.split("+")))


def check_inputs(
    name: str,
    entry: Mapping[str, Any],
    stats: Mapping[str, Any],
    model: eagle.Eagle,
    tokenizer: Any,
    image: Image.Image,
) -> Iterator[Check]:
    """Prompt, token ids and pixels of an input."""
    template = prompts.template(entry["conv_template"])
    text = template.render(entry["messages"])
    yield same(f"{name} prompt text", text, entry["prompt"])
    yield same(f"{name} template chosen from the checkpoint", prompts.template_for(tokenizer), entry["conv_template"])
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


def tensors(subject: MaskedModel, image: Image.Image) -> dict[str, Tensor]:
    """What a recording may hold of the encoders and the fusion."""
    features = subject.features([image])
    return {
        **by_name("encoder", features, subject.model),
        "fused": subject.model.concatenate(features)[0],
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
