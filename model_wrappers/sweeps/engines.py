"""How a sweep puts questions under many masks to a model: sharing encoders where the family allows, else one by one."""

import ctypes
import os
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval import masks
from redundancy_eval.model_wrappers.costs import operations
from redundancy_eval.model_wrappers.families.templates import IMAGE_ID
from redundancy_eval.model_wrappers.masking import ablations, hf, remembered
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.masking.prompt import Answer, Prefix, Prompt
from redundancy_eval.model_wrappers.sweeps.masks import ALONE, FULL
from redundancy_eval.store import KNOWN

Outputs = Mapping[str, Tensor]
_MALLOC = {-4: 0, -1: 2**31 - 1}  # malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD


@dataclass(frozen=True)
class Asked:
    """A prompt made ready: hashes of its images, token ids, and what had to be done to it (`first`, `moved`).

    `question` is its text where that decides what stands for its images, else "".
    """

    prompt: Prompt
    hashes: tuple[str, ...]
    ids: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    question: str = ""

    @property
    def pictures(self) -> list[tuple[str, Image.Image]]:
        """Hash and picture of each image that the model is shown."""
        return list(zip(self.hashes, self.prompt.images, strict=False))  # `first` leaves images out at the end


@dataclass(frozen=True)
class Reply:
    """An answer, and what else had to be done to its prompt (`cut`)."""

    answer: Answer
    notes: tuple[str, ...] = ()


def start(full: MaskedModel | hf.HfMaskedModel, labels: Iterable[str], memory: int | None) -> "Native | Looped":
    """The engine for a loaded full model.

    Args:
        full: the model.
        labels: canonical labels of the masks.
        memory: bytes for encoders' outputs; by default a tenth of this machine's memory.
    """
    wanted = {label: masks.dropped(full.encoder_names, label) for label in labels}
    memory = _physical_memory() // 10 if memory is None else memory
    if isinstance(full, hf.HfMaskedModel):
        made: Native | Looped = Looped(full, {label: full.under(mask) for label, mask in wanted.items()}, memory)
    else:
        made = Native(full, {label: full.under(mask) for label, mask in wanted.items()}, Features(memory))
    if made.device == "cpu":
        keep_freed_memory()
    return made


class Features:
    """What encoders gave for images, by content, as much as fits; what was not used for longest goes first.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int):
        self.limit, self.used = limit, 0
        self._kept: OrderedDict[str, Outputs] = OrderedDict()

    def __contains__(self, image: str) -> bool:
        return image in self._kept

    def get(self, image: str) -> Outputs | None:
        """Outputs of an image by encoder: (units, tokens, channels), in main memory."""
        if image in self._kept:
            self._kept.move_to_end(image)
        return self._kept.get(image)

    def put(self, image: str, outputs: Outputs) -> None:
        """Keep the outputs of an image that is not there."""
        self._kept[image] = outputs
        self.used += _bytes(outputs)
        while self.used > self.limit:
            self.used -= _bytes(self._kept.popitem(last=False)[1])


class Native:
    """A family of ours: each encoder runs once for an image, whatever the number of masks.

    Args:
        full: the full model.
        views: it under each mask, by label; all share one module.
        features: where encoders' outputs are kept.
    """

    def __init__(self, full: MaskedModel, views: Mapping[str, MaskedModel], features: Features):
        self.full, self.views, self.features = full, dict(views), features
        self.half, self.device = full.dtype != torch.float32, full.device.type
        self.cache = operations.language(full.model.language_model).cache(full.dtype.itemsize)  # bytes a token
        runs = {name for view in self.views.values() for name in view.needed()}
        self.encoders = tuple(name for name in self.full.encoder_names if name in runs)
        self.encoded = 0  # images that went through the encoders
        self._near: dict[str, Outputs] = {}  # of the last batch, on the device
        self._pixels: dict[str, Mapping[str, Tensor]] = {}  # of images that were prepared and not encoded yet

    def prepare(self, asked: Asked, labels: Iterable[str]) -> int:
        """Preprocess a prompt's images before their turn, where a mask will ask for it; a thread may.

        Args:
            asked: the prompt.
            labels: the masks it is to be answered under.

        Returns:
            Bytes of what was made.

        Raises:
            DataError: an image cannot be shown to the model.
        """
        made = 0
        if any(self.views[FULL if label == ALONE else label].needed() for label in labels):
            for image, picture in asked.pictures:
                if image not in self._pixels and image not in self.features:
                    self._pixels[image] = self.full.pixels([picture], self.encoders)
                    made += _bytes(self._pixels[image])
        return made

    def forget(self, images: Iterable[str] | None = None) -> None:
        """Let go of what was prepared of images; of all by default."""
        for image in list(self._pixels) if images is None else images:
            self._pixels.pop(image, None)

    def ask(self, prompt: Prompt, hashes: Sequence[str] | None = None) -> Asked:
        """Make a prompt ready.

        Args:
            prompt: the prompt.
            hashes: of its images, where they are known.

        Raises:
            DataError: it cannot be put to the model.
        """
        first, moved, whole = len(self.full.first), len(self.full.moved), prompt
        prompt = self.full.fitting(prompt)
        ids = self.full.prompt_ids(prompt)
        notes = ("first",) * (len(self.full.first) > first) + ("moved",) * (len(self.full.moved) > moved)
        shown = _hashes(whole, hashes)
        told = notes + _known(self.full, shown)
        return Asked(prompt, shown, tuple(ids), told, self.full.question(prompt))

    def seen_blindly(self, asked: Asked, label: str) -> Hashable | None:
        """All that decides the answer under a mask that lets no pixel through; None for another mask."""
        view = self.views.get(label)
        if view is None or view.needed() or view.ablation.by_image:
            return None
        return asked.ids, str(view.model.layouts(asked.prompt.images))

    @torch.inference_mode()
    def answer(
        self, batch: Sequence[tuple[Asked, str]], limit: int, share: bool = True, **settings: Any
    ) -> list[Reply]:
        """Answer prompts, each under its mask, together; what they begin with in common may be computed once."""
        made: dict[int, tuple[Tensor, list[Any], bool]] = {}
        for label in dict.fromkeys(label for _, label in batch):
            view, places = self.views[label], [i for i, (_, mine) in enumerate(batch) if mine == label]
            looks = {  # image and question -> picture
                (image, batch[i][0].question): picture for i in places for image, picture in batch[i][0].pictures
            }
            fused = {}
            if looks:
                images, asks = zip(*looks, strict=True)
                outputs = self._outputs(dict(zip(images, looks.values(), strict=True)), images) if view.needed() else {}
                fused = dict(zip(looks, view.visuals(list(looks.values()), outputs, asks), strict=True))
            for place in places:
                asked, cut = batch[place][0], len(view.cut)
                mine = [fused[image, asked.question] for image, _ in asked.pictures]
                made[place] = view.embed(asked.ids, mine, asked.prompt.name), mine, len(view.cut) > cut
        sequences, visuals, cuts = zip(*(made[place] for place in range(len(batch))), strict=True)
        share = share and not any(cuts) and settings.get("num_beams", 1) == 1  # beams multiply what is given
        shared = prefixes(batch, list(map(len, sequences))) if share else []
        config = self.full.model.language_model.config
        window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None) or ()
        if "reference_sliding_attention" in kinds:
            shared = []  # Unlimited-OCR's cache takes what it read first for the whole prompt
        elif window is not None and 2 * max(map(len, sequences)) + limit > window:
            shared = []  # a window counts the padding between a prefix and the rest
        names = [self.views[label].called(asked.prompt) for asked, label in batch]
        answers = self.full.decode(sequences, visuals, limit, shared, names=names, **settings)
        said = zip(answers, cuts, batch, strict=True)
        return [
            Reply(answer, (*("cut",) * cut, *self.views[label].feeds(), *answer.notes))
            for answer, cut, (_, label) in said
        ]

    def _outputs(self, pictures: Mapping[str, Image.Image], order: Sequence[str]) -> dict[str, Tensor]:
        """Outputs of all encoders for images, one after the other in an order in which some may come again."""
        near: dict[str, Outputs] = {}
        for image in pictures:
            kept = self._near.get(image) or self.features.get(image)
            if kept is not None:
                near[image] = {name: output.to(self.full.device) for name, output in kept.items()}
        new = {image: picture for image, picture in pictures.items() if image not in near}
        if new:
            ready = [
                self._pixels.pop(image, None) or self.full.pixels([picture], self.encoders)
                for image, picture in new.items()
            ]
            outputs = self.full.encode(list(new.values()), self.encoders, ready)
            counts = [self.full.model.units(layout) for layout in self.full.model.layouts(list(new.values()))]
            parts = {name: output.split(counts) for name, output in outputs.items()}
            for row, image in enumerate(new):
                near[image] = {name: part[row] for name, part in parts.items()}
                # Copies: a part of a batch's output would keep all of it in memory.
                self.features.put(image, {name: part[row].to("cpu", copy=True) for name, part in parts.items()})
            self.encoded += len(new)
        self._near = near
        return {name: torch.cat([near[image][name] for image in order]) for name in self.encoders}


class Looped:
    """A model with hooks: each mask is a pass of its own; what its modules are given anew, they compute once.

    Args:
        full: the full model.
        views: it under each mask, by label; all share one module.
        memory: bytes of modules' inputs and outputs that are kept, where the model is; on a GPU a tenth of it at most.
    """

    def __init__(self, full: hf.HfMaskedModel, views: Mapping[str, hf.HfMaskedModel], memory: int = 2**62):
        self.full = full
        self.views, self.half, self.device = dict(views), full.model.dtype != torch.float32, full.model.device.type
        self.cache = 0  # not known
        hooked = [place.module for place in full.places.values()]
        if self.device == "cuda":
            memory = min(memory, torch.cuda.get_device_properties(full.model.device).total_memory // 10)
        self.remembered = remembered.Remembered(remembered.sharable(full.model, hooked), memory)

    def prepare(self, asked: Asked, labels: Iterable[str]) -> int:
        """Nothing: a processor takes the prompts of a batch together."""
        return 0

    def forget(self, images: Iterable[str] | None = None) -> None:
        """Nothing was prepared."""

    def ask(self, prompt: Prompt, hashes: Sequence[str] | None = None) -> Asked:
        """Make a prompt ready; see `Native.ask`."""
        moved = prompt.reworded or self.full.worded(prompt.text) != prompt.text
        shown = _hashes(prompt, hashes)
        return Asked(prompt, shown, notes=("moved",) * moved + _known(self.full, shown))

    def seen_blindly(self, asked: Asked, label: str) -> Hashable | None:
        """Nothing is known of the model that a hook is on."""
        return None

    def answer(
        self, batch: Sequence[tuple[Asked, str]], limit: int, share: bool = True, **settings: Any
    ) -> list[Reply]:
        """Answer prompts, each under its mask."""
        replies: dict[int, Reply] = {}
        for label in dict.fromkeys(label for _, label in batch):
            places = [i for i, (_, mine) in enumerate(batch) if mine == label]
            try:
                with self.remembered:
                    answers = self.views[label].generate([batch[i][0].prompt for i in places], limit, **settings)
            except torch.OutOfMemoryError:
                # Smaller batches have other inputs: what is kept would only take their room.
                self.remembered.forget()
                self.full.latest.prompts, self.full.latest.made = (), {}
                raise
            fed = tuple(self.views[label].feeds())
            replies |= {place: Reply(answer, fed) for place, answer in zip(places, answers, strict=True)}
        return [replies[place] for place in range(len(batch))]


def _hashes(prompt: Prompt, known: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(map(ablations.image_hash, prompt.images) if known is None else known)


def _known(full: MaskedModel | hf.HfMaskedModel, images: Sequence[str]) -> tuple[str, ...]:
    """A note on a prompt with images of the calibration."""
    return (KNOWN,) * any(image in full.ablation.images for image in images)


def prefixes(batch: Sequence[tuple[Asked, str]], lengths: Sequence[int]) -> list[Prefix]:
    """What the prompts of a batch begin with in common, where that saves a tenth of its tokens; else [].

    That is all up to the last image, in questions on the same images under one mask, or the template's text before the
    first image, in all of them.

    Args:
        batch: the prompts and their masks.
        lengths: of their sequences, in tokens.
    """
    longest = max(lengths)
    offers = []
    columns = zip(*(asked.ids for asked, _ in batch), strict=False)
    common = list(takewhile(lambda column: len(set(column)) == 1 and IMAGE_ID not in column, columns))
    before = min(len(common), min(lengths) - 1)
    if before > 0:
        offers.append((before + len(batch) * (longest - before), [Prefix(None, before, False)] * len(batch)))
    ends = [_last(asked.ids, IMAGE_ID) for asked, _ in batch]
    rest = [len(asked.ids) - 1 - end for (asked, _), end in zip(batch, ends, strict=True)]  # tokens after the images
    if min(ends) >= 0 and min(rest) > 0:
        found = [
            Prefix((label, asked.hashes, asked.question, asked.ids[: end + 1]), length - behind, True)
            for (asked, label), end, length, behind in zip(batch, ends, lengths, rest, strict=True)
        ]
        count, most = len({prefix.key for prefix in found}), max(prefix.length for prefix in found)
        offers.append((count * most + len(batch) * max(rest), found))
    tokens, chosen = min(offers, key=lambda offer: offer[0], default=(0, []))
    return chosen if tokens < 0.9 * len(batch) * longest else []


def _last(ids: Sequence[int], wanted: int) -> int:
    return max((place for place, token in enumerate(ids) if token == wanted), default=-1)


def keep_freed_memory() -> None:
    """Let the C library keep what large tensors on the CPU leave, for the next ones.

    glibc else maps and zeroes each anew, a fifth of the time of a small language model (benchmarks/sweep.py).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in _MALLOC.items():
            mallopt(option, value)


def room_for_twice() -> bool:
    """Whether memory of no GPU was used to more than two fifths so far; the model may lie on any, or on several."""
    return all(
        torch.cuda.max_memory_reserved(number) < 0.4 * torch.cuda.get_device_properties(number).total_memory
        for number in range(torch.cuda.device_count())
    )


def _bytes(outputs: Outputs) -> int:
    return sum(output.numel() * output.element_size() for output in outputs.values())


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
