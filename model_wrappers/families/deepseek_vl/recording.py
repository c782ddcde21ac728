"""Tensors recorded from the original DeepSeek-VL code: which conditions and names they have (for `parity`)."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.deepseek_vl.model import RELEASED, DeepseekVl
from redundancy_eval.model_wrappers.families.recording import (
    Check,
    Recording,
    Subject,
    by_name,
    relative_error,
    same,
    sha256,
)

PIXEL_TOLERANCE = 2e-5
SUMMARY = ("mean", "std", "min", "max")


class DeepseekVlRecording(Recording[DeepseekVl]):
    """How recordings of the original code call things."""

    def check_prompt(self, name: str, entry: Mapping[str, Any], model: DeepseekVl, tokenizer: Any) -> Iterator[Check]:
        """Prompt and token ids of an input."""
        template = templates.template(model.template)
        markup = (template.placeholder or (templates.IMAGE,))[0]
        turns = [message["content"].replace(markup, templates.IMAGE) for message in entry["messages"][:-1]]
        text = template.render(turns)
        yield same(f"{name} prompt text", text.replace(templates.IMAGE, markup), entry["prompt"])
        ids = templates.tokenize(tokenizer, text, template)
        yield same(f"{name} token ids", ids, self.input_ids(entry))
        tokens, mark = next(iter(model.shapes("encoder").values()))[0], entry["image_token_id"]
        expanded = [i for token in ids for i in ([mark] * tokens if token == templates.IMAGE_ID else [token])]
        yield same(f"{name} token ids with the image's", expanded, entry["input_ids"])
        yield same(f"{name} end token", model.eos, (entry["eos_token_id"],))

    def check_pixels(
        self, name: str, entry: Mapping[str, Any], stats: Mapping[str, Any], model: DeepseekVl, image: Image.Image
    ) -> Iterator[Check]:
        """Pixels of an input."""
        recorded = stats.get(f"{name}/high_pixels")
        if recorded:
            uint8 = hashlib.sha256(model.preprocess_uint8(image).transpose(2, 0, 1).tobytes()).hexdigest()
            yield same(f"{name} uint8 pixels", uint8, recorded["uint8_sha256_chw"])
        for kind, value in pixels(model, image).items():
            expected = stats.get(f"{name}/{kind}")
            if expected and kind.startswith("high"):
                yield same(f"{name} {kind}", sha256(value), expected["sha256_le"])
            elif expected:
                # The float resize rounds otherwise from one torch version and processor to the next, by up to 1e-5.
                error = relative_error(torch.tensor(summary(value)), torch.tensor([expected[key] for key in SUMMARY]))
                yield Check(f"{name} {kind}", error, error <= PIXEL_TOLERANCE, f"only {', '.join(SUMMARY)}")

    def input_ids(self, entry: Mapping[str, Any]) -> list[int]:
        """Token ids of an input with prompts.IMAGE_ID at its image."""
        mark = entry["image_token_id"]
        return [templates.IMAGE_ID if token == mark else token for token in entry["input_ids_before_expansion"]]

    def tensors(self, subject: Subject[DeepseekVl], image: Image.Image) -> dict[str, Tensor]:
        """What a recording may hold of the encoders and the fusion."""
        features = subject.features([image])
        return {
            **by_name("encoder", features, subject.model),
            "fused": subject.model.concatenate(features)[0],
            "image_embeds": subject.model.fuse(features, [None])[0].embeddings,
        }

    def config(self, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a recorded checkpoint whose shrunken encoder sizes stand in tiny_overrides.json."""
        return {
            **config,
            "encoder_configs": {
                name: {k: v for k, v in encoder["tiny_config"].items() if k in RELEASED[name]}
                for name, encoder in overrides["encoders"].items()
            },
        }


def pixels(model: DeepseekVl, image: Image.Image) -> dict[str, Tensor]:
    """Every stage of the pixels of an image, float32, under the names that recordings use."""
    made = model.preprocess([image])
    return {
        "high_pixels": made["pixels"][0],
        "low_pixels": model.small(made["pixels"])[0],
        "high_pixels_normalised": model.encoder_pixels(made, "sam")[0],
        "low_pixels_normalised": model.encoder_pixels(made, "siglip")[0],
    }


def summary(value: Tensor) -> list[float]:
    """Statistics of a tensor, as SUMMARY names them, in double precision."""
    value = value.double()
    return [float(v) for v in (value.mean(), value.std(unbiased=False), value.min(), value.max())]
