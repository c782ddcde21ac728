"""Tensors recorded from the original MoVA code: which checkpoint, conditions and names they have (for `parity`)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import GenerationConfig

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.families import routes, templates
from redundancy_eval.model_wrappers.families.base import Visual
from redundancy_eval.model_wrappers.families.mova import card, pixels, routing
from redundancy_eval.model_wrappers.families.mova.model import RELEASED, Layout, Mova
from redundancy_eval.model_wrappers.families.recording import (
    Check,
    Condition,
    Recording,
    Subject,
    read_json,
    same,
    same_pixels,
    zero_condition,
)

# Upstream's names of sizes -> ours.
_SIZES = {
    "vary": {"depth": "num_hidden_layers", "embed_dim": "hidden_size", "num_heads": "num_attention_heads",
             "out_chans": "output_channels", "net_2_out": "vary_channels"},
    "codetr": {"out_chans": "output_channels"},
}  # fmt: skip
_SIZES["sam"] = _SIZES["vary"]


class MovaRecording(Recording[Mova]):
    """How recordings of the original code call things."""

    entry: Mapping[str, Any]  # of the input that is looked at
    outputs: Mapping[str, Tensor] | None = None  # of all encoders, for its image
    routed = 0  # how many experts the last condition has
    text: Mapping[str, Any]  # config of the question's encoder

    def load(self, folder: Path) -> tuple[Mova, Any, weights.LoadReport]:
        """The recorded model; the config and the vocabulary of the question's encoder are in `towers/` beside it."""
        overrides = read_json(folder / "tiny_overrides.json")
        self.text = read_json(folder.parent / overrides["text_encoder_folder"] / "config.json")
        return super().load(folder)

    def config(self, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a recorded checkpoint whose shrunken encoder sizes stand in tiny_overrides.json."""
        told = {name: encoder["tiny_config"] for name, encoder in overrides["encoders"].items()}
        own = {
            name: {_SIZES.get(name, {}).get(key, key): value for key, value in sizes.items()}
            for name, sizes in {**told, "text": self.text}.items()
        }
        known = {name: {k: v for k, v in sizes.items() if k in RELEASED[name]} for name, sizes in own.items()}
        return {**config, "encoder_configs": known}

    def condition(self, text: str, model: Mova) -> Condition:
        """`nomask`, `all_masked`, `zero:clip`, `zero@answer:clip`, `drop:EXPERTS`, `zero:EXPERTS`, `route:LETTERS`.

        An expert that is dropped is out of the pool; one that is zero is still routed to.

        Raises:
            SetupError: this port has no such condition.
        """
        kind, _, told = text.partition(":")
        names = tuple(told.split("+"))
        experts = set(names) <= set(card.EXPERTS)
        if kind == "route" and (told == "none" or set(told) <= set(routing.LETTERS)):
            return Condition(settings={"routing": "+".join(routing.chosen(told.replace("none", "")))})
        if (kind == "zero" and experts) or text == f"zero@answer:{card.BASE}":
            return Condition(names, settings={"routing": routes.FIXED})
        if kind == "drop" and experts:
            return Condition(names)
        if kind == "zero" and names != (card.BASE,):
            raise SetupError(f"this port has no condition {text!r}")
        return zero_condition(text, model)

    @contextmanager
    def as_recorded(self, model: Mova, entry: Mapping[str, Any]) -> Iterator[None]:
        """Within, an input is looked at: its question decides what stands for its image."""
        self.entry, self.outputs = entry, None
        yield

    def check_prompt(self, name: str, entry: Mapping[str, Any], model: Mova, tokenizer: Any) -> Iterator[Check]:
        """Prompt and token ids of an input, of its routing and of its question."""
        template = templates.template(entry["conv_template"])
        text = template.render(entry["messages"])
        yield same(f"{name} prompt text", text, entry["prompt"])
        yield same(f"{name} template of the family", model.template, entry["conv_template"])
        yield same(f"{name} token ids", templates.tokenize(tokenizer, text, template), entry["input_ids"])
        yield same(f"{name} question", templates.without_images(entry["messages"][-1]), entry["question"])
        if "eos_token_id" in self.entry:
            yield same(f"{name} end of an answer", model.eos, (self.entry["eos_token_id"],))
        if "routing_prompt" in entry:
            text = template.render([model.routing_text(entry["question"])])
            yield same(f"{name} routing prompt", text, entry["routing_prompt"])
            ids = templates.tokenize(tokenizer, text, template)
            yield same(f"{name} routing token ids", ids, entry["routing_input_ids"])
            yield same(f"{name} question ids", [*model.layout(entry["question"], ()).words], entry["bert_input_ids"])

    def check_pixels(
        self, name: str, entry: Mapping[str, Any], stats: Mapping[str, Any], model: Mova, image: Image.Image
    ) -> Iterator[Check]:
        """Pixels of an input: three squares by hash, Pix2Struct's patches by their sums."""
        found = model.preprocess([image], model.encoder_names)
        for key in pixels.SQUARES:
            uint8 = pixels.square(image, key, found[key].shape[-1])
            yield from same_pixels(f"{name} {key}", uint8, found[key][0], stats.get(f"{name}/{key}"))
        recorded = stats.get(f"{name}/patches")
        if recorded:
            rows, patches = pixels.grid(max(image.size), model.patches), found["patches"][0].double()
            yield same(f"{name} patches", [rows, rows], [recorded["rows"], recorded["columns"]])
            # Another version of torch interpolates with other roundings, so that hashes differ.
            sums = {"abs_sum": patches.abs().sum(), "l2": patches.norm(), "min": patches.min(), "max": patches.max()}
            error = max(abs(float(value) / recorded[key] - 1) for key, value in sums.items())
            yield Check(f"{name} patches", error, error <= 1e-5)

    def visuals(self, subject: Subject[Mova], images: Sequence[Image.Image]) -> list[Visual]:
        """What stands for an input's image in its prompt, for its question."""
        if not images:
            return []
        if self.outputs is None:
            self.outputs = subject.encode(images, [*subject.model.encoders])
        return subject.visuals(images, self.outputs, [self.entry["question"]])

    @torch.inference_mode()
    def tensors(self, subject: Subject[Mova], image: Image.Image) -> dict[str, Tensor]:
        """What a recording may hold of the encoders, the adapter and the choice of experts."""
        (visual,) = self.visuals(subject, [image])
        model, routed, features = subject.model, visual.routed or (), dict(self.outputs or {})
        features |= {name: torch.zeros_like(features[name]) for name in subject.mask if name in features}
        self.routed, trace = len(routed), dict[str, Tensor]()
        model.adapt(features, model.layout(self.entry["question"], routed), trace)
        found = {f"encoder/{name}": value for name, value in features.items()} | trace
        return {
            **{name: value[0] for name, value in found.items()},
            **self._routing(subject, features),
            "routing_weights": torch.tensor([float(name in routed) for name in card.EXPERTS]),
            "image_embeds": visual.embeddings,
        }

    def _routing(self, subject: Subject[Mova], features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is recorded of the pass that chooses, where the masked model chooses among all experts."""
        if subject.settings or not set(subject.mask) <= {card.BASE}:
            return {}
        model = subject.model
        looks = model.first_look(features)
        inputs, attention = subject.batch([subject.embed(self.entry["routing_input_ids"], looks)])
        generation = {**self.entry["routing_generation"], "eos_token_id": model.eos, "pad_token_id": model.eos[0]}
        answer = model.language_model.generate(
            inputs_embeds=inputs,
            attention_mask=attention,
            generation_config=GenerationConfig(**generation, output_scores=True, return_dict_in_generate=True),
        )
        return {
            "routing/image_embeds": model.adapt(features, Layout((0,), ()))[0],
            "routing/tokens": answer.sequences[0],
            "routing/step_scores": torch.cat(answer.scores),
            "routing/logits_last": answer.scores[0][0],
        }

    def compare(self, where: str, name: str, got: Tensor, expected: Tensor, tolerance: float) -> Check:
        """As ever; of the experts that a gate selects, those of weight 0 have no order."""
        if name.endswith("/selected"):
            return same(where, got[: self.routed].tolist(), expected[: self.routed].tolist())
        return super().compare(where, name, got, expected, tolerance)
