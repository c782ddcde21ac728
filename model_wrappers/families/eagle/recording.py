"""Tensors recorded from the original Eagle code: which checkpoint, conditions and names they have (for `parity`)."""

from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image
from torch import Tensor

from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.eagle.model import MODULES, Eagle
from redundancy_eval.model_wrappers.families.recording import (
    Check,
    Recording,
    Subject,
    by_name,
    same,
    same_pixels,
)


class EagleRecording(Recording[Eagle]):
    """How recordings of the original code call things."""

    def check_prompt(self, name: str, entry: Mapping[str, Any], model: Eagle, tokenizer: Any) -> Iterator[Check]:
        """Prompt and token ids of an input."""
        template = templates.template(entry["conv_template"])
        text = template.render(entry["messages"])
        yield same(f"{name} prompt text", text, entry["prompt"])
        yield same(
            f"{name} template chosen from the checkpoint", templates.template_for(tokenizer), entry["conv_template"]
        )
        yield same(f"{name} token ids", templates.tokenize(tokenizer, text, template), entry["input_ids"])

    def check_pixels(
        self, name: str, entry: Mapping[str, Any], stats: Mapping[str, Any], model: Eagle, image: Image.Image
    ) -> Iterator[Check]:
        """Pixels of an input."""
        pixels = model.preprocess([image])["shared"][0]
        yield from same_pixels(name, model.preprocess_uint8(image), pixels, stats.get(f"{name}/pixel_values"))

    def tensors(self, subject: Subject[Eagle], image: Image.Image) -> dict[str, Tensor]:
        """What a recording may hold of the encoders and the fusion."""
        features = subject.features([image])
        return {
            **by_name("encoder", features, subject.model),
            "fused": subject.model.concatenate(features)[0],
            "image_embeds": subject.model.fuse(features, [None])[0].embeddings,
        }

    def config(self, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a recorded checkpoint whose shrunken encoder sizes stand in tiny_overrides.json."""
        kinds = {released: MODULES[released.partition("-")[0]] for released in overrides["encoders"]}
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
