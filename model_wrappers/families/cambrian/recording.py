"""Tensors recorded from the original Cambrian-1 code: which checkpoint, conditions and names they have (for `parity`).

Recordings name the encoders in short, as we do. What the language model's samplers get and give is read by hooks.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from redundancy_eval.errors import DataError
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.cambrian.model import Cambrian
from redundancy_eval.model_wrappers.families.recording import (
    Check,
    Condition,
    Recording,
    Subject,
    same,
    same_pixels,
    site_condition,
)

_SITES = {
    "zero_tower": ("encoder", {}),
    # Recorded with the global context made of the zeros.
    "zero_aux": ("projected", {"global_context": "zero"}),
}  # fmt: skip


class CambrianRecording(Recording[Cambrian]):
    """How recordings of the original code call things."""

    def condition(self, text: str, model: Cambrian) -> Condition:
        """`nomask`, `zero_tower:<encoder>+<encoder>`, `zero_aux:<encoder>`, `zero_tower:all`, ...

        Raises:
            SetupError: this port has no such condition.
        """
        return site_condition(text, model, _SITES)

    def check_prompt(self, name: str, entry: Mapping[str, Any], model: Cambrian, tokenizer: Any) -> Iterator[Check]:
        """Prompt, token ids and place of the image of an input."""
        template = templates.template(entry["conv_template"])
        text = template.render(entry["messages"])
        yield same(f"{name} prompt text", text, entry["prompt"])
        yield same(f"{name} template chosen from the checkpoint", model.template, entry["conv_template"])
        ids = templates.tokenize(tokenizer, text, template)
        yield same(f"{name} token ids", ids, entry["input_ids"])
        # The original code runs a prompt whose image is elsewhere and updates the wrong rows. We refuse it, so what was
        # recorded of it is only reached here, past the check.
        in_place = entry["image_token_position"] == entry["config_image_position"]
        yield same(f"{name} prompt is taken", _taken(model, ids), in_place)

    def check_pixels(
        self, name: str, entry: Mapping[str, Any], stats: Mapping[str, Any], model: Cambrian, image: Image.Image
    ) -> Iterator[Check]:
        """Pixels of an input for each encoder, and the grid that is left of its image."""
        (size,) = model.layouts([image])
        for encoder, tower in model.towers.items():
            pixels, recorded = tower.preprocess([image])[0], stats.get(f"{name}/{encoder}/pixel_values")
            yield from same_pixels(f"{name} {encoder}", tower.preprocess_uint8(image), pixels, recorded)
        grid = model.grid(size)
        yield same(f"{name} grid", list(grid), entry["final_feature_size_hw"])

    @torch.inference_mode()
    def tensors(self, subject: Subject[Cambrian], image: Image.Image) -> dict[str, Tensor]:
        """What a recording may hold of the encoders, the projectors, the connector and what the samplers look at."""
        model, layouts = subject.model, subject.model.layouts([image])
        features, projected = subject.features([image]), subject.projected([image])
        sampled, behind = model.connect(projected, layouts)
        (visual,) = model.fuse(projected, layouts)
        looks = visual.extra
        return {
            **{f"tower/{name}": value[0] for name, value in features.items()},
            **{f"aux/{name}": projected[name][0] for name in model.encoder_names},
            **{f"final_features/{name}": looks.features[i] for i, name in enumerate(model.encoder_names)},
            **{f"final_mask/{name}": looks.allowed[i] for i, name in enumerate(model.encoder_names)},
            "global_context": looks.context,
            "sva_output": sampled[0],
            "projector_output": behind[0],
            "image_embeds": visual.embeddings,
        }

    @torch.inference_mode()
    def prompt_tensors(self, subject: Subject[Cambrian], image: Image.Image, ids: list[int]) -> dict[str, Tensor]:
        """What a recording may hold of the samplers in the language model: their queries on the prompt's pass."""
        found: dict[str, Tensor] = {}
        visuals = subject.visuals([image])
        inputs, attention = subject.batch([subject.embed(ids, visuals)])

        def keep(index: int, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            found[f"llm_sva{index}/queries_in"], found[f"llm_sva{index}/queries_out"] = args[0], output

        samplers = subject.model.samplers
        handles = [s.register_forward_hook(partial(keep, index)) for index, s in enumerate(samplers)]
        try:
            with subject.model.prefill([visuals], [0]):
                subject.model.language_model(inputs_embeds=inputs, attention_mask=attention, logits_to_keep=1)
        finally:
            for handle in handles:
                handle.remove()
        return found

    def config(self, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a recorded checkpoint whose shrunken encoder sizes stand in tiny_overrides.json."""
        return {
            **config,
            "encoder_configs": {
                released: encoder.get("timm_kwargs_tiny") or {"hidden_size": encoder["out_channels"]}
                for released, encoder in overrides["encoders"].items()
            },
        }


def _taken(model: Cambrian, ids: list[int]) -> bool:
    try:
        model.check_ids(ids, "")
    except DataError:
        return False
    return True
