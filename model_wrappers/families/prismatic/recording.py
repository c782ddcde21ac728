"""Tensors recorded from the original code of Prismatic and OpenVLA (for `parity`).

`towers/` beside the checkpoint holds the encoders' repositories, `llm/` config and tokenizer of the language model.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.prismatic import actions, card, pixels, tokens
from redundancy_eval.model_wrappers.families.prismatic.model import NORMALISATION, Prismatic
from redundancy_eval.model_wrappers.families.recording import (
    Check,
    Recording,
    Subject,
    by_name,
    read_json,
    same,
    same_pixels,
)

_NAMES = {"dino": "dinov2"}
_BUILDERS = {
    "PurePromptBuilder": "prismatic_pure",
    "LLaMa2ChatPromptBuilder": "prismatic_llama2",
    "VicunaV15ChatPromptBuilder": "prismatic_vicuna",
    "MistralInstructPromptBuilder": "prismatic_mistral",
    "PhiPromptBuilder": "prismatic_phi",
}
ROWS = 64  # of the embeddings, which are padded to a multiple (llama2.py:76)
_ROUNDING = 1e-12  # of an action's values, relative


class PrismaticRecording(Recording[Prismatic]):
    """How recordings of the original code call things."""

    def load(self, folder: Path) -> tuple[Prismatic, Any, weights.LoadReport]:
        """The recorded model, with both encoders, in float32."""
        config, beside = hub.read_config(folder), folder.parent / "llm"
        overrides = folder / "tiny_overrides.json"
        if overrides.is_file():
            config = self.config(config, read_json(overrides))
        tokenizer = None
        if not card.converted(config) and beside.is_dir():
            tokenizer, made = str(beside), len(tokens.read(beside, None))
            language = {**hub.read_config(beside), "vocab_size": ROWS * math.ceil(made / ROWS)}
            config = {**config, "text_config": language}
        return Prismatic.load(folder, config=config, encoder_weights=folder.parent / "towers", tokenizer=tokenizer)

    def config(self, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a recorded checkpoint whose shrunken encoders are described in tiny_overrides.json."""
        sizes = {_NAMES.get(name, name): told["timm_kwargs_tiny"] for name, told in overrides["encoders"].items()}
        return {**config, "encoder_configs": sizes}

    def check_prompt(self, name: str, entry: Mapping[str, Any], model: Prismatic, tokenizer: Any) -> Iterator[Check]:
        """Prompt and token ids of an input, and the values of recorded actions."""
        template = templates.template(_BUILDERS.get(entry["conv_template"], model.template))
        if entry["conv_template"] in _BUILDERS:
            yield same(f"{name} template", model.template, _BUILDERS[entry["conv_template"]])
            text = template.render([turn["content"].replace(templates.IMAGE, "") for turn in entry["messages"]])
            yield same(f"{name} prompt text", text, entry["prompt"])
        else:
            text = entry["prompt"]
        ids = templates.tokenize(tokenizer, text, template)
        processed = entry.get("input_ids_of_processor", entry["input_ids"])
        yield same(f"{name} token ids", ids, processed)
        if processed != entry["input_ids"]:  # with the empty token, which a blank at the end makes
            yield same(f"{name} token ids of an action", tokenizer(f"{text} ").input_ids, entry["input_ids"])
        for key, told in entry.get("actions", {}).items():
            stats = actions.chosen(model.action_statistics, key) or {}
            bins = actions.bins(told["action_tokens"], model.vocabulary, model.edges)
            yield same(f"{name} {key}: bins of the action", bins, told["action_bins"])
            got, want = (torch.tensor(x, dtype=torch.double) for x in (actions.values(bins, stats), told["action"]))
            error = float((got - want).abs().max() / want.abs().max())
            yield Check(f"{name} {key}: values of the action", error, error <= _ROUNDING)

    def check_pixels(
        self, name: str, entry: Mapping[str, Any], stats: Mapping[str, Any], model: Prismatic, image: Image.Image
    ) -> Iterator[Check]:
        """Pixels of an input for each encoder, by every policy that was recorded."""
        for recorded, encoder in model.released_names.items():
            uint8, made = model.preprocess_uint8(image, encoder), model.preprocess([image], [encoder])[encoder][0]
            yield from same_pixels(f"{name} {encoder}", uint8, made, stats.get(f"{name}/{recorded}"))
            for policy in card.POLICIES:
                other = pixels.square(image, model.sizes[encoder], policy, model.colour(encoder))
                made = pixels.normalise(other[None], *NORMALISATION[encoder])[0]
                where = f"{name} {encoder} {policy}"
                yield from same_pixels(where, other, made, stats.get(f"{name}/{policy}/{recorded}"))

    def input_ids(self, entry: Mapping[str, Any]) -> list[int]:
        """Token ids of an input with templates.IMAGE_ID at its image."""
        return list(entry.get("input_ids_with_image", entry["input_ids"]))

    @torch.inference_mode()
    def tensors(self, subject: Subject[Prismatic], image: Image.Image) -> dict[str, Tensor]:
        """What a recording may hold of the encoders and the fusion."""
        features = subject.features([image])
        return {
            **by_name("encoder", features, subject.model),
            "image_embeds": subject.model.fuse(features, [None])[0].embeddings,
        }
