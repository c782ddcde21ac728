"""A multi-encoder model of a family under a mask: written once, for every family and both frameworks.

The order of a forward pass is encode -> ablate -> fuse -> language model. A dropped encoder is not run (and, as the
mask is fixed for the run, its weights are not loaded); its place in the fusion is taken by an exact zero tensor.
"""

import copy
import inspect
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, LlamaForCausalLM

from redundancy_eval import masks
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.base import MultiEncoder, Visual
from redundancy_eval.model_wrappers.masking import ablations, generated, guesses, routing
from redundancy_eval.model_wrappers.masking.prompt import Answer, Numbers, Prefix, Prompt, not_numbers

Outputs = Mapping[str, Tensor]

# What a language model takes and gives its keys and values as; transformers renamed it in 5.24, the old name warns.
CACHE = "cache" if "cache" in inspect.signature(LlamaForCausalLM.forward).parameters else "past_key_values"


class MaskedModel:
    """A loaded model and its mask.

    Args:
        model: a family's model, such as families.eagle.model.Eagle.
        tokenizer: of the checkpoint.
        mask: names of the dropped encoders.
        template: conversation template.
        eos: token ids that end an answer.
        long_prompt: `error`, or `cut` to cut prompts at the model's length limit as the original code does.
        many_images: `error`, or `first` to keep the first images of prompts with more than the architecture takes.
        site: where a dropped encoder's output is replaced: `encoder` or `projected`.
        settings: the family's own settings (see its `needed` and `replaced`).
        ablation: what stands in for a dropped encoder's output; by default exact zeros.
    """

    def __init__(
        self,
        model: MultiEncoder,
        tokenizer: Any,
        mask: Sequence[str] = (),
        *,
        template: templates.Template,
        eos: Sequence[int] = (),
        long_prompt: str = "error",
        many_images: str = "error",
        site: str = "encoder",
        settings: Mapping[str, Any] | None = None,
        ablation: ablations.Ablation | None = None,
    ):
        if long_prompt not in ("error", "cut"):
            raise SetupError(f"long_prompt must be error or cut; not {long_prompt!r}")
        if many_images not in ("error", "first"):
            raise SetupError(f"many_images must be error or first; not {many_images!r}")
        self.model, self.tokenizer, self.mask, self.template = model, tokenizer, tuple(mask), template
        self.site, self.settings = site, dict(settings or {})
        self.ablation = ablation or ablations.Ablation()
        self.eos, self.long_prompt = list(eos) or [tokenizer.eos_token_id], long_prompt
        self.many_images = many_images
        self.cut: list[str] = []  # names of the prompts that were cut
        self.moved: list[str] = []  # names of the prompts whose placeholders did not fit their images
        self.first: list[str] = []  # names of the prompts that lost all but their first images
        self.known: list[str] = []  # names of the prompts with images of the calibration
        self.routes = routing.Routes()  # shared by all masks

    def under(self, mask: Sequence[str]) -> "MaskedModel":
        """The same loaded model under another mask; it must hold the encoders that run there."""
        other = copy.copy(self)
        other.mask = tuple(mask)
        other.cut, other.moved, other.first, other.known = [], [], [], []
        return other

    @property
    def encoder_names(self) -> tuple[str, ...]:
        """Names of all encoders, in the checkpoint's order."""
        return self.model.encoder_names

    @property
    def mask_label(self) -> str:
        """Canonical text of the mask."""
        return masks.label(self.mask, self.model.encoder_names)

    @property
    def device(self) -> torch.device:
        """Where the language model's embeddings live."""
        return self.model.language_model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the language model's embeddings."""
        return self.model.language_model.get_input_embeddings().weight.dtype

    def needed(self) -> tuple[str, ...]:
        """Encoders that run under the mask."""
        return self.model.needed(self.model.encoder_names, self.mask, self.site, **self.settings)

    @torch.inference_mode()
    def pixels(self, images: Sequence[Image.Image], names: Sequence[str]) -> dict[str, Tensor]:
        """What the named encoders see of images, in main memory; touches neither device nor weights."""
        return {key: value.to(self.dtype) for key, value in self.model.preprocess(list(images), names).items()}

    @torch.inference_mode()
    def encode(
        self, images: Sequence[Image.Image], names: Sequence[str], pixels: Sequence[Mapping[str, Tensor]] = ()
    ) -> dict[str, Tensor]:
        """Images (or what `pixels` gave for each) -> outputs (units, tokens, channels) of the named encoders."""
        if not names or not images:
            return {}
        seen = self.model.join(pixels) if pixels else self.pixels(images, names)
        outputs = self.model.encode({key: value.to(self.device) for key, value in seen.items()}, names)
        return {name: output.to(self.device) for name, output in outputs.items()}

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image], outputs: Outputs | None = None) -> dict[str, Tensor]:
        """Images -> output of every encoder that runs, and at site `encoder` the stand-ins of the dropped ones.

        Args:
            images: the images.
            outputs: what `encode` gave for them, of at least the encoders that run under the mask.
        """
        run = self.needed()
        outputs = self.encode(images, run) if outputs is None else outputs
        found = {name: outputs[name] for name in run}
        guessed = self.ablation.by_output
        return found | (guesses.of(self, images, found) if guessed else self.stand_ins("encoder", images))

    @torch.inference_mode()
    def projected(self, images: Sequence[Image.Image], outputs: Outputs | None = None) -> dict[str, Tensor]:
        """Images -> what enters the fusion, under the mask."""
        projected = self.model.project(self.features(images, outputs))
        return projected | self.stand_ins("projected", images)

    def stand_ins(self, site: str, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """What takes the place of the dropped encoders' outputs at a site; {} at the other site."""
        names = self.model.replaced(self.mask, site, **self.settings) if site == self.site else ()
        if not names or self.ablation.by_output:
            return {}
        shapes, units = self.model.shapes(site), self.units(images)
        return {name: self.ablation.stand_in(name, shapes[name], units, self.dtype, self.device) for name in names}

    def units(self, images: Sequence[Image.Image]) -> list[ablations.Unit]:
        """What the encoders see of images: each image's hash and the number of the unit (tile) within it."""
        # Hashing is for what is drawn for each image.
        hashes = [ablations.image_hash(image) if self.ablation.by_image else "" for image in images]
        layouts = self.model.layouts(images)
        return [
            (h, unit) for h, layout in zip(hashes, layouts, strict=True) for unit in range(self.model.units(layout))
        ]

    def outputs(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Outputs at the model's site, e.g. for a calibration (of the unmasked model)."""
        return self.features(images) if self.site == "encoder" else self.projected(images)

    @torch.inference_mode()
    def visuals(
        self, images: Sequence[Image.Image], outputs: Outputs | None = None, questions: Sequence[str] = ()
    ) -> list[Visual]:
        """What is inserted for each image under the mask; `questions` are about each, where these decide it."""
        router = self.model.router()
        if router is not None:
            return routing.visuals(self, router, images, list(questions) or [""] * len(images), outputs)
        return self.model.fuse(self.projected(images, outputs), self.model.layouts(images))

    def question(self, prompt: Prompt) -> str:
        """What is asked about a prompt's image: its text without the tag; "" where the fusion does not read it."""
        if self.model.router() is None:
            return ""
        return templates.without_images(templates.place_images(prompt.text, len(prompt.images), self.template)[0])

    def fitting(self, prompt: Prompt) -> Prompt:
        """The prompt with as many images as the architecture takes.

        Raises:
            DataError: it has more, and `many_images` is `error`.
        """
        most = self.model.max_images
        if most is None or len(prompt.images) <= most:
            return prompt
        if self.many_images == "error":
            raise DataError(
                f"{prompt.name or 'prompt'}: {len(prompt.images)} images; this architecture takes {most} "
                "(many_images=first keeps the first and lists such prompts)"
            )
        self.first.append(prompt.name)
        return replace(prompt, images=prompt.images[:most])

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt in the model's template, with IMAGE_ID at each image."""
        text, moved = templates.place_images(prompt.text, len(prompt.images), self.template)
        if moved or prompt.reworded:
            self.moved.append(prompt.name)
        ids = templates.tokenize(self.tokenizer, self.template.render([text]), self.template)
        if ids.count(templates.IMAGE_ID) != len(prompt.images):
            raise DataError(f"{prompt.name or 'prompt'}: its text holds the model's own image markup")
        self.model.check_ids(ids, prompt.name)
        most = self.model.language_model.get_input_embeddings().num_embeddings
        if max(ids, default=0) >= most:
            raise SetupError(
                f"{prompt.name or 'prompt'}: the tokenizer gives token {max(ids)}, but the model has embeddings of "
                f"{most}: they are not of one checkpoint"
            )
        return ids

    def feeds(self) -> list[str]:
        """Dropped encoders without which a kept one sees something else, `sam feeds clip`."""
        return list(self.model.feeds(self.mask, **self.settings))

    def called(self, prompt: Prompt) -> str:
        """A prompt and the mask, for messages."""
        return f"{prompt.name or 'prompt'}, drop={self.mask_label}"

    def embed(self, ids: Sequence[int], visuals: Sequence[Visual], name: str = "") -> Tensor:
        """Input embeddings (length, hidden) of token ids whose image placeholders take the images' embeddings.

        Raises:
            DataError: the sequence is longer than the model's limit and `long_prompt` is `error`.
        """
        table, parts, image, text = self.model.language_model.get_input_embeddings(), [], 0, []
        for token in [*ids, None]:
            if token is not None and token != templates.IMAGE_ID:
                text.append(token)
                continue
            if text:
                parts.append(table(torch.tensor(text, device=self.device)))
            if token is not None:
                parts.append(visuals[image].embeddings.to(self.dtype))
                image += 1
            text = []
        embeddings = torch.cat(parts)
        limit = self.model.max_length
        if limit is not None and len(embeddings) > limit:
            message = f"{name or 'prompt'}: {len(embeddings)} tokens with its images; the model's limit is {limit}"
            if self.long_prompt == "error":
                raise DataError(f"{message} (long_prompt=cut cuts such prompts as the original code does)")
            self.cut.append(name)
            embeddings = embeddings[:limit]
        return embeddings

    def batch(self, sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Left-pad sequences of embeddings: (batch, length, hidden) and the attention mask (batch, length)."""
        padded = pad_sequence(list(sequences), batch_first=True, padding_side="left")
        ones = [torch.ones(len(sequence), device=self.device, dtype=torch.long) for sequence in sequences]
        return padded, pad_sequence(ones, batch_first=True, padding_side="left")

    def embed_prompts(self, batch: Sequence[Prompt]) -> tuple[list[Tensor], list[list[Visual]]]:
        """Input embeddings and images of each prompt; all images of the batch go through the encoders together."""
        batch = [self.fitting(prompt) for prompt in batch]
        self.known += [prompt.name for prompt in batch if self.ablation.known(prompt.images)]
        ids = [self.prompt_ids(prompt) for prompt in batch]  # first: a prompt may be refused
        images = [image for prompt in batch for image in prompt.images]
        questions = [self.question(prompt) for prompt in batch for _ in prompt.images]
        visuals = iter(self.visuals(images, None, questions) if images else ())
        mine = [list(islice(visuals, len(prompt.images))) for prompt in batch]
        return list(map(self.embed, ids, mine, [prompt.name for prompt in batch])), mine

    @torch.inference_mode()
    def generate(self, batch: Sequence[Prompt], max_new_tokens: int, **settings: Any) -> list[Answer]:
        """Answer prompts; greedy unless `settings` (transformers' generation settings) say otherwise."""
        names = [self.called(prompt) for prompt in batch]
        return self.decode(*self.embed_prompts(batch), max_new_tokens, names=names, **settings)

    @torch.inference_mode()
    def decode(
        self,
        sequences: Sequence[Tensor],
        visuals: Sequence[Sequence[Visual]],
        max_new_tokens: int,
        prefixes: Sequence[Prefix] = (),
        names: Sequence[str] = (),
        **settings: Any,
    ) -> list[Answer]:
        """Answer sequences of embeddings (length, hidden), of whatever masks, with the images within each.

        Args:
            sequences: the prompts.
            visuals: of each sequence, of each image.
            max_new_tokens: most tokens of an answer.
            prefixes: of each sequence, where they are shared; every sequence goes on after its prefix.
            names: of each sequence, for messages.
            settings: transformers' generation settings.

        Raises:
            SetupError: the logits of one are not numbers.
        """
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=self.eos,
            pad_token_id=self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.eos[0],
            use_cache=True,  # some releases say false, which embeddings-only generation cannot do with
            **{"do_sample": False, **settings},
        )
        routed = [next((visual.routed for visual in own), None) for own in visuals]
        past, inputs, attention, visuals, offsets = self._inputs(sequences, visuals, prefixes)
        # The prefixes' embeddings are counted and not read: their keys and values are there.
        inputs = torch.nn.functional.pad(inputs, (0, 0, attention.shape[1] - inputs.shape[1], 0))
        language_model = self.model.language_model
        with self.model.prefill(visuals, offsets), generated.Likelihood(language_model, settings) as likelihood:
            tokens = language_model.generate(
                inputs_embeds=inputs, attention_mask=attention, generation_config=config, **{CACHE: past},
                logits_processor=[Numbers(names, self.dtype, self.eos), likelihood],
            )  # fmt: skip
        text = partial(self.model.answer, self.tokenizer)
        answers = generated.answers(text, list(map(len, sequences)), tokens, self.eos, likelihood)
        return [replace(answer, routed=route) for answer, route in zip(answers, routed, strict=True)]

    @torch.inference_mode()
    def logits(
        self,
        sequences: Sequence[Tensor],
        visuals: Sequence[Sequence[Visual]],
        keep: int,
        prefixes: Sequence[Prefix] = (),
    ) -> Tensor:
        """Logits (sequences, keep, vocabulary) of the last `keep` places of sequences of embeddings; see `decode`."""
        past, inputs, attention, visuals, offsets = self._inputs(sequences, visuals, prefixes)
        positions = (attention.cumsum(-1) - 1).clamp_min(0)[:, -inputs.shape[1] :]
        with self.model.prefill(visuals, offsets):
            made = self.model.language_model(
                inputs_embeds=inputs, attention_mask=attention, position_ids=positions, logits_to_keep=keep,
                **{CACHE: past, "use_cache": past is not None},
            )  # fmt: skip
        logits: Tensor = made.logits
        return logits

    def _inputs(
        self, sequences: Sequence[Tensor], visuals: Sequence[Sequence[Visual]], prefixes: Sequence[Prefix]
    ) -> tuple[Any, Tensor, Tensor, Sequence[Sequence[Visual]], list[int]]:
        """What the language model has read of sequences, what is to be read, the attention mask over both, and for
        `prefill` the images in it and where each sequence begins.
        """
        if not prefixes:
            inputs, attention = self.batch(sequences)
            return None, inputs, attention, visuals, (attention == 0).sum(-1).tolist()
        past, known = self._prefixed(sequences, visuals, prefixes)
        lengths = [prefix.length for prefix in prefixes]
        tails, attention = self.batch([own[length:] for own, length in zip(sequences, lengths, strict=True)])
        padding = (attention == 0).sum(-1).tolist()
        offsets = [pad - length for pad, length in zip(padding, lengths, strict=True)]
        visuals = [() if prefix.images else own for own, prefix in zip(visuals, prefixes, strict=True)]
        return past, tails, torch.cat([known, attention], 1), visuals, offsets

    def _prefixed(
        self, sequences: Sequence[Tensor], visuals: Sequence[Sequence[Visual]], prefixes: Sequence[Prefix]
    ) -> tuple[Any, Tensor]:
        """Keys and values of each sequence's prefix, and the attention mask (batch, longest prefix) over them."""
        rows: list[int] = []  # of the first sequence with each prefix
        place: dict[Hashable, int] = {}
        for row, prefix in enumerate(prefixes):
            if prefix.key not in place:
                place[prefix.key] = len(rows)
                rows.append(row)
        inputs, attention = self.batch([sequences[row][: prefixes[row].length] for row in rows])
        with self.model.prefill(
            [visuals[row] if prefixes[row].images else () for row in rows], (attention == 0).sum(-1).tolist()
        ):
            made = self.model.language_model(
                inputs_embeds=inputs,
                attention_mask=attention,
                position_ids=(attention.cumsum(-1) - 1).clamp_min(0),
                use_cache=True,
                logits_to_keep=1,
            )
        past, index = made[CACHE], torch.tensor([place[prefix.key] for prefix in prefixes])
        past.batch_select_indices(index)
        return past, attention[index.to(attention.device)]

    @torch.inference_mode()
    def loglikelihood(self, batch: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[float, bool]]:
        """For each prompt: natural log-probability of its continuation as the answer, and whether greedy says it."""
        targets, sequences = [], []
        prompted, visuals = self.embed_prompts(batch)
        for sequence, continuation in zip(prompted, continuations, strict=True):
            ids = self.tokenizer(continuation, add_special_tokens=False).input_ids
            if not ids:
                raise DataError("a continuation without tokens has no likelihood")
            targets.append(torch.tensor(ids, device=self.device))
            table = self.model.language_model.get_input_embeddings()
            sequences.append(torch.cat([sequence, table(targets[-1])]))
        logits = self.logits(sequences, visuals, max(len(target) for target in targets) + 1)
        scored = []
        for row, target, prompt in zip(logits, targets, batch, strict=True):
            predicted = row[-len(target) - 1 : -1].float().log_softmax(-1)
            if predicted.isnan().any():
                raise not_numbers(self.called(prompt), self.dtype)
            total = predicted.gather(-1, target[:, None]).sum().item()
            scored.append((total, bool((predicted.argmax(-1) == target).all())))
        return scored
