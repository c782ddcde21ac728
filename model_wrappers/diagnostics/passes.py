"""Passes of a masked model along the full model's own answer, the encoders run once for an image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.diagnostics import attention
from redundancy_eval.model_wrappers.diagnostics.attention import Look
from redundancy_eval.model_wrappers.families.templates import IMAGE_ID
from redundancy_eval.model_wrappers.masking import ablations
from redundancy_eval.model_wrappers.masking.hf import HfMaskedModel
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.masking.prompt import Prefix, Prompt, not_numbers

FULL = "none"


@dataclass(frozen=True)
class Document:
    """A document of a task; its prompt is made when it is asked for.

    `limit` is the most new tokens of its answer, `settings` are transformers' generation settings.
    """

    task: str
    document: str
    prompt: Callable[[], Prompt]
    limit: int
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """A document that was read: its prompt (with token ids), hashes of its images, and the full model's answer.

    `features` are the encoders' outputs for its images (units, tokens, channels); `answer` is token ids as they were
    generated, with the end token, and empty where no answer was asked for.
    """

    prompt: Prompt
    ids: tuple[int, ...]
    hashes: tuple[str, ...]
    features: Mapping[str, Tensor]
    answer: tuple[int, ...]

    @property
    def back(self) -> int:
        """How far from the end of a pass the prompt's last token stands, which says the answer's first."""
        return max(1, len(self.answer))


@dataclass(frozen=True)
class Pass:
    """Logits (tokens, vocabulary) that say each token of the answer, and where the prompt's last token looks."""

    logits: Tensor
    look: Look | None = None


class Subject(Protocol):
    """A loaded model under all masks.

    Attributes:
        half: whether the same sequence in another batch gives other digits, as in half precision.
        encoders: names, in its order.
    """

    half: bool
    encoders: tuple[str, ...]

    def read(self, batch: Sequence[Document], answers: bool) -> list[Ready]:
        """Documents of equal limits and settings, with the full model's answers where they are wanted."""

    def passes(self, ready: Ready, labels: Sequence[str], look: bool) -> list[Pass]:
        """A document under masks, along the full model's answer."""


def subject(full: MaskedModel | HfMaskedModel, masks: Mapping[str, Sequence[str]]) -> "Native | Hooked":
    """The subject of a loaded full model.

    Args:
        full: the model.
        masks: label -> dropped encoders.
    """
    if isinstance(full, HfMaskedModel):
        return Hooked(full, {label: full.under(mask) for label, mask in masks.items()})
    return Native(full, {label: full.under(mask) for label, mask in masks.items()})


class Native:
    """A family of ours.

    Args:
        full: the full model.
        views: it under each mask, by label; all share one module.
    """

    def __init__(self, full: MaskedModel, views: Mapping[str, MaskedModel]):
        self.full, self.views = full, dict(views)
        self.half, self.encoders = full.dtype != torch.float32, full.encoder_names

    @torch.inference_mode()
    def read(self, batch: Sequence[Document], answers: bool) -> list[Ready]:
        """See Subject."""
        prompts = [self.full.fitting(each.prompt()) for each in batch]
        ids = [tuple(self.full.prompt_ids(prompt)) for prompt in prompts]
        hashes = [tuple(map(ablations.image_hash, prompt.images)) for prompt in prompts]
        pictures = {
            h: image for p, own in zip(prompts, hashes, strict=True) for h, image in zip(own, p.images, strict=True)
        }
        features = self._features(pictures)
        read = [
            Ready(prompt, own, mine, _joined([features[h] for h in mine]), ())
            for prompt, own, mine in zip(prompts, ids, hashes, strict=True)
        ]
        if not answers:
            return read
        sequences, visuals = zip(*(self._embedded(self.full, each) for each in read), strict=True)
        names = [self.full.called(prompt) for prompt in prompts]
        with _memory(f"{len(batch)} answers"):
            given = self.full.decode(sequences, visuals, batch[0].limit, names=names, **batch[0].settings)
        return [
            Ready(each.prompt, each.ids, each.hashes, each.features, answer.ids)
            for each, answer in zip(read, given, strict=True)
        ]

    def _features(self, pictures: Mapping[str, Image.Image]) -> dict[str, dict[str, Tensor]]:
        """Hash of an image -> output of each encoder for it."""
        images = list(pictures.values())
        outputs = self.full.encode(images, self.encoders)
        counts = [self.full.model.units(layout) for layout in self.full.model.layouts(images)] if images else []
        parts = {name: output.split(counts) for name, output in outputs.items()}
        return {h: {name: part[row] for name, part in parts.items()} for row, h in enumerate(pictures)}

    def _embedded(self, view: MaskedModel, ready: Ready) -> tuple[Tensor, list[Any]]:
        images = ready.prompt.images
        visuals = view.visuals(images, ready.features) if images else []
        return view.embed(ready.ids, visuals, ready.prompt.name), visuals

    @torch.inference_mode()
    def passes(self, ready: Ready, labels: Sequence[str], look: bool) -> list[Pass]:
        """See Subject. All masks in one batch; the text before the first image is read once for it."""
        table = self.full.model.language_model.get_input_embeddings()
        said = table(torch.tensor(ready.answer[:-1], device=self.full.device, dtype=torch.long))
        sequences, visuals = [], []
        for label in labels:
            sequence, mine = self._embedded(self.views[label], ready)
            sequences.append(torch.cat([sequence, said.to(sequence.dtype)]))
            visuals.append(mine)
        if len({len(sequence) for sequence in sequences}) > 1:  # padding would count as text to look at
            return [one for label in labels for one in self.passes(ready, [label], look)]
        recorded = attention.recording(self.full.model.language_model, ready.back) if look else nullcontext()
        with _memory(f"{len(labels)} masks"), recorded as found:
            logits = self.full.logits(sequences, visuals, ready.back, self._prefixes(ready, sequences))
        for label, row in zip(labels, logits, strict=True):
            if row.isnan().any():
                raise not_numbers(self.views[label].called(ready.prompt), self.full.dtype)
        if found is None or not visuals[0]:
            return [Pass(row) for row in logits]
        places = _visual(ready.ids, visuals[0])[: len(sequences[0]) - len(said)]
        return [Pass(*each) for each in zip(logits, attention.looks(found.weights, places), strict=True)]

    def _prefixes(self, ready: Ready, sequences: Sequence[Tensor]) -> list[Prefix]:
        before = ready.ids.index(IMAGE_ID) if IMAGE_ID in ready.ids else 0
        window = getattr(self.full.model.language_model.config, "sliding_window", None)
        if len(sequences) < 2 or not before or (window is not None and len(sequences[0]) > window):
            return []
        return [Prefix(None, before, False)] * len(sequences)


class Hooked:
    """A transformers model with hooks: every mask is a pass of its own, encoders and all.

    Args:
        full: the full model.
        views: it under each mask, by label; all share one module.
    """

    def __init__(self, full: HfMaskedModel, views: Mapping[str, HfMaskedModel]):
        self.full, self.views = full, dict(views)
        self.half, self.encoders = False, full.encoder_names  # every pass is of one sequence, in the same way

    def read(self, batch: Sequence[Document], answers: bool) -> list[Ready]:
        """See Subject."""
        prompts = [each.prompt() for each in batch]
        with _memory(f"{len(batch)} answers"):
            given = self.full.generate(prompts, batch[0].limit, **batch[0].settings)
        return [
            Ready(prompt, (), tuple(map(ablations.image_hash, prompt.images)), {}, answer.ids)
            for prompt, answer in zip(prompts, given, strict=True)
        ]

    def passes(self, ready: Ready, labels: Sequence[str], look: bool) -> list[Pass]:
        """See Subject."""
        return [Pass(self.views[label].along(ready.prompt, ready.answer)[:-1]) for label in labels]


@contextmanager
def _memory(what: str) -> Iterator[None]:
    """What does not fit is told in a line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise SetupError(f"out of memory with {what} at once; try a smaller --batch_size") from None


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _visual(ids: Sequence[int], visuals: Sequence[Any]) -> Tensor:
    """(tokens,) of a prompt: whether each stands for a part of an image."""
    lengths = iter([len(visual.embeddings) for visual in visuals])
    return torch.tensor([flag for token in ids for flag in ([True] * next(lengths) if token == IMAGE_ID else [False])])
