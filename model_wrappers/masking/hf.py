r"""Any transformers image-text-to-text model under a mask: encoders named by module path, replaced by hooks.

    --model hf_masked --model_args pretrained=...,drop=sam,\
        encoders=siglip:model.vision_model+sam:model.high_res_vision_proj

The prompt is the model's own chat template, the pixels are its own processor's.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import is_
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor
from transformers import GenerationConfig

from redundancy_eval import masks
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.masking import ablations, generated, guessing, hooks
from redundancy_eval.model_wrappers.masking.places import Place
from redundancy_eval.model_wrappers.masking.prompt import Answer, Numbers, Prompt, not_numbers


@dataclass
class Feeding:
    """Encoders that others see through, and these; None before it was found out."""

    known: dict[str, tuple[str, ...]] | None = None


@dataclass
class Latest:
    """The prompts that were made inputs of last, and what was made: another mask is mostly asked the same next."""

    prompts: tuple[Prompt, ...] = ()
    made: Mapping[str, Any] = field(default_factory=dict)


class HfMaskedModel:
    """A transformers model and its mask; the same to the frameworks as native.MaskedModel.

    Args:
        model: an image-text-to-text model.
        processor: its processor, with a chat template.
        places: encoder -> where its features are.
        mask: names of the dropped encoders.
        ablation: what stands in for their outputs.
    """

    site = "encoder"

    def __init__(
        self,
        model: Any,
        processor: Any,
        places: Mapping[str, Place],
        mask: Sequence[str] = (),
        ablation: ablations.Ablation | None = None,
    ):
        self.feeding, self.latest = Feeding(), Latest()  # shared by the model's masks
        self.model, self.processor, self.places, self.mask = model, processor, dict(places), tuple(mask)
        self.ablation = ablation or ablations.Ablation()
        self.cut: list[str] = []
        self.moved: list[str] = []
        self.first: list[str] = []
        self.known: list[str] = []
        self._images = ""  # hash of the images of the prompt that is answered; for ablations that ask for it
        self._guessing: guessing.Guessing | None = None  # of that prompt, where stand-ins are guessed

    def under(self, mask: Sequence[str]) -> "HfMaskedModel":
        """The same loaded model under another mask."""
        other = copy.copy(self)
        other.mask = tuple(mask)
        other.cut, other.moved, other.first, other.known = [], [], [], []
        other._images, other._guessing = "", None
        return other

    @property
    def encoder_names(self) -> tuple[str, ...]:
        """Names of all encoders, as given."""
        return tuple(self.places)

    @property
    def mask_label(self) -> str:
        """Canonical text of the mask."""
        return masks.label(self.mask, self.encoder_names)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the model's parameters."""
        return cast(torch.dtype, self.model.dtype)

    def hooks(self) -> hooks.Hooks:
        """The hooks that drop the masked encoders."""
        return hooks.Hooks({name: self.places[name] for name in self.mask}, self._stand_in)

    def feeds(self) -> list[str]:
        """What is known of dropped encoders that kept ones see through, `sam feeds clip`."""
        return hooks.told(self.mask, self.feeding.known or {})

    def _learn(self, image: Image.Image) -> dict[str, tuple[str, ...]]:
        """Which encoders see through others; found out with the first image."""
        if self.mask and self.feeding.known is None:
            inputs = self.inputs([Prompt("?", (image,))])
            once = GenerationConfig(
                max_new_tokens=1, do_sample=False, pad_token_id=self.processor.tokenizer.pad_token_id
            )
            self.feeding.known = hooks.feeds(self.places, lambda: self.model.generate(**inputs, generation_config=once))
        return self.feeding.known or {}

    def _stand_in(self, name: str, number: int, output: Tensor) -> Tensor:
        units = [(self._images, row) for row in range(len(output))] if output.ndim else []
        if self.ablation.kind == "zero":
            return torch.zeros_like(output)
        if self._guessing is not None:
            return self._guessing.stand_in(f"{name}.{number}", output)
        return self.ablation.stand_in(f"{name}.{number}", output.shape[1:], units, output.dtype, output.device)

    def inputs(self, batch: Sequence[Prompt], generation: bool = True) -> dict[str, Any]:
        """What the model takes for prompts, by its own chat template and processor."""
        for prompt in batch:
            if prompt.reworded or self.worded(prompt.text) != prompt.text:
                self.moved.append(prompt.name)
        if generation and len(batch) == len(self.latest.prompts) and all(map(is_, batch, self.latest.prompts)):
            return _copied(self.latest.made)
        conversations = [
            [{"role": "user", "content": [
                *({"type": "image", "image": image} for image in prompt.images),
                {"type": "text", "text": self.worded(prompt.text)},
            ]}]
            for prompt in batch
        ]  # fmt: skip
        made = self.processor.apply_chat_template(
            conversations, add_generation_prompt=generation, tokenize=True, return_dict=True, return_tensors="pt",
            processor_kwargs={"padding": True},
        )  # fmt: skip
        device, dtype = self.model.device, self.model.dtype

        def move(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return value.to(device, dtype) if value.is_floating_point() else value.to(device)

        moved = {key: move(value) for key, value in made.items()}
        if generation:
            self.latest.prompts, self.latest.made = tuple(batch), _copied(moved)
        return moved

    def worded(self, text: str) -> str:
        """A text in which image tags are words: the chat template puts images in front."""
        own = getattr(self.processor, "image_token", None) or templates.IMAGE
        return templates.as_words(text).replace(own, own.strip("<>|[]"))

    def _groups(self, batch: Sequence[Prompt]) -> list[list[int]]:
        """Prompts that are answered together: with images, and without; one by one where images seed the stand-in."""
        if self.mask and self.ablation.kind != "zero":
            return [[i] for i in range(len(batch))]
        groups = [[i for i, p in enumerate(batch) if bool(p.images) is has] for has in (True, False)]
        return [group for group in groups if group]

    @torch.inference_mode()
    def generate(self, batch: Sequence[Prompt], max_new_tokens: int, **settings: Any) -> list[Answer]:
        """Answer prompts; greedy unless `settings` (transformers' generation settings) say otherwise."""
        answers: dict[int, Answer] = {}
        tokenizer = self.processor.tokenizer
        ends = self.model.generation_config.eos_token_id
        eos = [ends] if isinstance(ends, int) else list(ends or [tokenizer.eos_token_id])
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=eos,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos[0],
            **{"do_sample": False, **settings},
        )
        for group in self._groups(batch):
            asked = [batch[i] for i in group]
            inputs = self.inputs(asked)
            length = inputs["input_ids"].shape[1]
            numbers = Numbers([self.called(prompt) for prompt in asked], self.model.dtype, eos, length)
            with self._masked(asked, inputs), generated.Likelihood(self.model, settings) as likelihood:
                tokens = self.model.generate(**inputs, generation_config=config, logits_processor=[numbers, likelihood])
            text, lengths = partial(templates.text_of, tokenizer), inputs["attention_mask"].sum(-1).tolist()
            given = generated.answers(text, lengths, tokens[:, length:], eos, likelihood)
            answers |= dict(zip(group, given, strict=True))
        return [answers[i] for i in range(len(batch))]

    @torch.inference_mode()
    def loglikelihood(self, batch: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[float, bool]]:
        """For each prompt: natural log-probability of its continuation as the answer, and whether greedy says it."""
        scored = []
        for prompt, continuation in zip(batch, continuations, strict=True):
            ids = self.processor.tokenizer(continuation, add_special_tokens=False, return_tensors="pt").input_ids
            if not ids.numel():
                raise DataError("a continuation without tokens has no likelihood")
            predicted = self.along(prompt, ids[0].tolist())[:-1].float().log_softmax(-1)
            ids = ids.to(predicted.device)
            total = predicted.gather(-1, ids[0][:, None]).sum().item()
            scored.append((total, bool((predicted.argmax(-1) == ids[0]).all())))
        return scored

    @torch.inference_mode()
    def along(self, prompt: Prompt, ids: Sequence[int]) -> Tensor:
        """Logits (tokens + 1, vocabulary) that say each token of an answer to a prompt, and what comes after it.

        Raises:
            SetupError: they are not numbers.
        """
        inputs = self.inputs([prompt])
        said = torch.tensor([list(ids)]).to(inputs["input_ids"])
        for key, fill in (("input_ids", said), ("attention_mask", torch.ones_like(said))):
            inputs[key] = torch.cat([inputs[key], fill], dim=1)
        if "token_type_ids" in inputs:
            inputs["token_type_ids"] = torch.cat([inputs["token_type_ids"], torch.zeros_like(said)], dim=1)
        with self._masked([prompt], inputs):
            logits: Tensor = self.model(**inputs).logits[0, -len(ids) - 1 :]
        if not logits.isfinite().all():
            raise not_numbers(self.called(prompt), self.model.dtype)
        return logits

    @torch.inference_mode()
    def outputs(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Outputs of every encoder for one image, `<encoder>.<number of the tensor>` -> (units, ...).

        Raises:
            SetupError: an encoder's output is no batch of equal units, so no stand-in can be made of a sample.
        """
        (image,) = images
        recorded = self._recorded(self.encoder_names, self.inputs([Prompt("?", (image,))]))
        found = {key: calls[-1] for key, calls in recorded.items()}
        counts = {len(output) if output.ndim > 1 else 0 for output in found.values()}
        if len(counts) != 1 or 0 in counts:
            raise SetupError(
                f"outputs of the named modules are no batches of equal units: {sorted(counts)}; name others"
            )
        return found

    def _recorded(self, names: Sequence[str], inputs: Mapping[str, Any]) -> dict[str, list[Tensor]]:
        """What encoders give for inputs, unmasked: `<encoder>.<number of the tensor>` -> a tensor for each call."""
        found: dict[str, list[Tensor]] = {}

        def record(name: str, number: int, output: Tensor) -> Tensor:
            found.setdefault(f"{name}.{number}", []).append(output.detach().clone())
            return output

        with hooks.Hooks({name: self.places[name] for name in names}, record):
            self.model(**inputs)
        return found

    def called(self, prompt: Prompt) -> str:
        """A prompt under the mask, for messages."""
        return f"{prompt.name or 'prompt'}, drop={self.mask_label}"

    def _masked(self, prompts: Sequence[Prompt], inputs: Mapping[str, Any]) -> "_Checked":
        images = [image for prompt in prompts for image in prompt.images]
        self.known += [prompt.name for prompt in prompts if self.ablation.known(prompt.images)]
        if self.ablation.by_image:
            self._images = " ".join(map(ablations.image_hash, images))
        if self.ablation.predictor is not None and self.mask and images:
            if fed := hooks.told(self.mask, self._learn(images[0])):
                raise SetupError(
                    f"{fed[0]}, so nothing guessed from what that gives stands in for it (ablation=predicted)"
                )
            kept = [name for name in self.encoder_names if name not in self.mask]
            seen = self._recorded(kept, inputs) if kept else {}
            self._guessing = guessing.Guessing(self.ablation.predictor, self.mask, seen)
        return _Checked(self.hooks(), lambda: self._learn(images[0]) if images else None)


def _copied(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs that a model may change."""
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in inputs.items()}


class _Checked:
    """Hooks around one call, checked after it when images went in; `learn` tells which encoders see through others."""

    def __init__(self, hooked: hooks.Hooks, learn: Callable[[], Mapping[str, tuple[str, ...]] | None]):
        self.hooked, self.learn = hooked, learn

    def __enter__(self) -> None:
        self.hooked.__enter__()

    def __exit__(self, kind: object, *rest: object) -> None:
        self.hooked.__exit__()
        feeds = self.learn() if kind is None else None
        if feeds is not None:
            self.hooked.check(feeds)
