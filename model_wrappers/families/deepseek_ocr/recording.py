"""Tensors recorded from the original DeepSeek-OCR code: which conditions and names they have (for `parity`)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.deepseek_ocr import card, views
from redundancy_eval.model_wrappers.families.deepseek_ocr.encoders import KINDS
from redundancy_eval.model_wrappers.families.deepseek_ocr.model import DeepseekOcr, normalise
from redundancy_eval.model_wrappers.families.recording import (
    Check,
    Condition,
    Recording,
    Subject,
    same,
    same_pixels,
    zero_condition,
)

_CUT = "chain:sam"  # SAM's output is zero everywhere, for CLIP too


class DeepseekOcrRecording(Recording[DeepseekOcr]):
    """How recordings of the original code call things."""

    def load(self, folder: Path) -> tuple[DeepseekOcr, Any, weights.LoadReport]:
        """The recorded model; where transformers' config stands beside its tensors, with DeepSeek-OCR's tiles."""
        if hub.read_config(folder).get("model_type") == card.NATIVE:
            return DeepseekOcr.load(folder, max_tiles=card.MOST_TILES["deepseek_vl_v2"])
        return super().load(folder)

    def config(self, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a recorded checkpoint whose shrunken encoder sizes stand in tiny_overrides.json."""
        return {
            **config,
            "encoder_configs": {
                name: {k: v for k, v in encoder["tiny_config"].items() if k in KINDS[name].released}
                for name, encoder in overrides["encoders"].items()
            },
        }

    def condition(self, text: str, model: DeepseekOcr) -> Condition:
        """The usual ones, and `chain:sam`.

        Raises:
            SetupError: this port has no such condition.
        """
        return Condition(("sam",), settings={"chain": "cut"}) if text == _CUT else zero_condition(text, model)

    @contextmanager
    def as_recorded(self, model: DeepseekOcr, entry: Mapping[str, Any]) -> Iterator[None]:
        """Within, the model sees an image in the resolution that an input was recorded with.

        Raises:
            SetupError: the input tells none.
        """
        told = entry.get("mode")
        if not isinstance(told, dict) or set(told) != {"base_size", "image_size", "crop_mode"}:
            raise SetupError(f"inputs.json: mode must have base_size, image_size and crop_mode; not {told!r}")
        loaded = model.resolution
        model.resolution = views.Resolution(told["base_size"], told["image_size"], told["crop_mode"])
        try:
            yield
        finally:
            model.resolution = loaded

    def check_prompt(self, name: str, entry: Mapping[str, Any], model: DeepseekOcr, tokenizer: Any) -> Iterator[Check]:
        """Prompt and token ids of an input."""
        template = templates.template(entry["conv_template"])
        text = template.render([message["content"] for message in entry["messages"][:-1]])
        yield same(f"{name} prompt text", text, entry["prompt"])
        yield same(f"{name} template of the family", model.template, entry["conv_template"])
        yield same(f"{name} token ids", templates.tokenize(tokenizer, text, template), self.input_ids(entry))
        yield same(f"{name} end token", model.eos, (entry["eos_token_id"],))

    def check_pixels(
        self, name: str, entry: Mapping[str, Any], stats: Mapping[str, Any], model: DeepseekOcr, image: Image.Image
    ) -> Iterator[Check]:
        """Tiles, how many tokens stand for them, and pixels of an input."""
        (layout,) = model.layouts([image])
        yield same(f"{name} tiles", [layout.columns or 1, layout.rows or 1], entry["tile_grid_columns_rows"])
        yield same(f"{name} tokens", _tokens(layout), entry["n_image_tokens"])
        *tiles, whole = model.preprocess_uint8(image)
        seen = {f"tile{number}": tile for number, tile in enumerate(tiles)} | {"global_pixels": whole}
        for kind, view in seen.items():
            yield from same_pixels(f"{name} {kind}", view, normalise(view), stats.get(f"{name}/{kind}"))

    def input_ids(self, entry: Mapping[str, Any]) -> list[int]:
        """Token ids of an input with templates.IMAGE_ID at its image."""
        mark, ids = entry["image_token_id"], entry.get("input_ids_before_expansion", entry["input_ids"])
        return [templates.IMAGE_ID if token == mark else token for token in ids]

    @torch.inference_mode()
    def tensors(self, subject: Subject[DeepseekOcr], image: Image.Image) -> dict[str, Tensor]:
        """What a recording may hold of the encoders and the fusion; rows run over the tiles, then the whole."""
        model, layouts, projected = subject.model, subject.model.layouts([image]), subject.projected([image])
        return {
            **{f"encoder/{name}": value[:, 0] for name, value in model.halves(projected, layouts).items()},
            "projected": model.tokens(projected, layouts),
            "image_embeds": model.fuse(projected, layouts)[0].embeddings,
        }


def _tokens(layout: views.Layout) -> int:
    """Tokens that stand for an image, as the original counts its placeholders."""
    side = views.tokens(views.TILE)
    mosaic = layout.rows * side * (layout.columns * side + 1)
    return mosaic + layout.side * (layout.side + 1) + 1
