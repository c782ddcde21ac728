"""Tensors recorded from the original Eagle2 code: which checkpoint, conditions and names they have (for `parity`)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.eagle2.model import Eagle2
from redundancy_eval.model_wrappers.families.recording import (
    Check,
    Recording,
    Subject,
    same,
    same_pixels,
    sha256,
)


class Eagle2Recording(Recording[Eagle2]):
    """How recordings of the original code call things."""

    @contextmanager
    def as_recorded(self, model: Eagle2, entry: Mapping[str, Any]) -> Iterator[None]:
        """Within, the model cuts images as an input was recorded: `max_num` tiles at most, with or without a thumbnail.

        Raises:
            SetupError: `max_num` is no count, or `use_thumbnail` neither true nor false.
        """
        loaded = model.max_tiles, model.thumbnail
        count, thumbnail = entry.get("max_num", loaded[0]), entry.get("use_thumbnail", loaded[1])
        if isinstance(count, bool) or not isinstance(count, int) or count < 1 or not isinstance(thumbnail, bool):
            raise SetupError(
                f"inputs.json: max_num must be a whole number from 1 and use_thumbnail true or false; "
                f"not {count!r} and {thumbnail!r}"
            )
        model.max_tiles, model.thumbnail = count, thumbnail
        try:
            yield
        finally:
            model.max_tiles, model.thumbnail = loaded

    def check_prompt(self, name: str, entry: Mapping[str, Any], model: Eagle2, tokenizer: Any) -> Iterator[Check]:
        """Prompt and token ids of an input."""
        template = templates.template(entry["conv_template"])
        text = template.render(entry["messages"])
        yield same(f"{name} prompt text", text, entry["prompt_before_expansion"])
        yield same(f"{name} template of the family", model.template, entry["conv_template"])
        yield same(f"{name} token ids", templates.tokenize(tokenizer, text, template), self.input_ids(entry))
        yield same(f"{name} end of an answer", model.eos, (entry["eos_token_id"],))

    def check_pixels(
        self, name: str, entry: Mapping[str, Any], stats: Mapping[str, Any], model: Eagle2, image: Image.Image
    ) -> Iterator[Check]:
        """Tiles and pixels of an input."""
        (layout,) = model.layouts([image])
        yield same(f"{name} tiles", [layout.columns, layout.rows], entry["tile_grid_columns_rows"])
        yield same(f"{name} tiles with thumbnail", layout.tiles, entry["n_tiles_with_thumbnail"])
        uint8, pixels = model.preprocess_uint8(image), model.preprocess([image])["tiles"]
        recorded = stats.get(f"{name}/pixel_values")
        if recorded:
            yield same(f"{name} float32 pixels", sha256(pixels), recorded["sha256_le"])
        for index, (tile, cut) in enumerate(zip(pixels, uint8, strict=True)):
            yield from same_pixels(f"{name} tile {index}", cut, tile, stats.get(f"{name}/tile{index}"))
        # Another version of torch interpolates with other roundings, so that hashes differ.
        for kind, value in zip(
            ("convnext_pixels", "convnext_pixels_normalised"), model.convnext_pixels(pixels), strict=True
        ):
            recorded = stats.get(f"{name}/{kind}")
            if recorded:
                error = _statistics_error(value.double(), recorded)
                yield Check(f"{name} {kind}", error, error <= 1e-6)

    def input_ids(self, entry: Mapping[str, Any]) -> list[int]:
        """Token ids of an input with prompts.IMAGE_ID at its image."""
        return [*entry["input_ids_before_image"], templates.IMAGE_ID, *entry["input_ids_after_image"]]

    @torch.inference_mode()
    def tensors(self, subject: Subject[Eagle2], image: Image.Image) -> dict[str, Tensor]:
        """What a recording may hold of the encoders and the fusion; rows run over the tiles, then each one's tokens."""
        model, features = subject.model, subject.features([image])
        fused = model.concatenate(features).flatten(0, 1)
        found = {f"encoder/{name}": value.flatten(0, 1) for name, value in features.items()}
        if "siglip" not in subject.mask:
            first = model.preprocess([image], ("siglip",))["tiles"][:1].to(subject.device, subject.dtype)
            found["tower/siglip/tile0"] = model.encoders["siglip"](first)[0]
        return {
            **found,
            "fused": fused,
            "fused_layernorm": model.mlp1[0](fused),
            "image_embeds": model.fuse(features, model.layouts([image]))[0].embeddings,
        }

    def config(self, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a recorded checkpoint whose shrunken ConvNeXt sizes stand in tiny_overrides.json."""
        tiny = overrides["encoders"]["convnext"]["tiny_config"]
        sizes = {key: tiny[key] for key in ("depths", "dims")}
        return {**config, "vision_config": {**config["vision_config"], "convnext_config": sizes}}


def _statistics_error(value: Tensor, recorded: Mapping[str, float]) -> float:
    found = {"abs_sum": value.abs().sum(), "l2": value.norm(), "min": value.min(), "max": value.max()}
    return max(abs(float(got) / recorded[key] - 1) for key, got in found.items())
