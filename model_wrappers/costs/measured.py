"""What every mask of a model takes, measured: time to the first token and for further ones, images a second, memory.

Masks take turns in random order, so that a machine that warms up or is shared slows all of them alike. Times are those
of whole answers: resizing the image, encoders, fusion, language model.
"""

import math
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import GenerationConfig

from redundancy_eval.costs_file import MEASURED, Measured
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.costs.counted import Counter, Load
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.native import MaskedModel

WARM_UP, LARGEST, GAIN = 3, 64, 1.05


@dataclass(frozen=True)
class Measurements:
    """Measurements of each mask, what they were made with, and what is to be said of them."""

    of_mask: Mapping[tuple[str, ...], Mapping[str, Measured]]
    made_with: Mapping[str, Any]
    notes: tuple[str, ...]


def loaded(model_id: str, given: Mapping[str, str]) -> MaskedModel:
    """A family's model with all encoders and the checkpoint's weights, as `masking.loading.load` has it."""
    model = loading.load(model_id, **given)
    assert isinstance(model, MaskedModel)
    return model


def random_weights(counter: Counter, given: Mapping[str, str]) -> MaskedModel:
    """The model that is counted, filled with random weights: they take the time of real ones and answer nonsense.

    Args:
        counter: holds the model, which is taken.
        given: model arguments, a `dtype` among them.

    Raises:
        SetupError: the sizes of its encoders are not known.
    """
    model = counter.model
    if counter.family.elsewhere(counter.config) and not model.encoders:
        raise SetupError(
            f"--random: the sizes of the encoders of {counter.model_id} are in their own repositories; "
            "encoder_weights= says where these are"
        )
    device = torch.device(given.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.to(loading.choose_dtype(given["dtype"], device)).to_empty(device=device)
    draw = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():
                value.normal_(0, 0.02, generator=draw) if value.ndim > 1 else value.fill_(1)
    model.restore_buffers()
    weights.settle(model, device)
    template = templates.template("vicuna_v1")  # no prompt is worded
    return MaskedModel(model, None, template=template, eos=[0], site=counter.site, settings=counter.settings)


def measure(
    model: MaskedModel,
    masks: Sequence[tuple[str, ...]],
    load: Load,
    repeats: int,
    own: Mapping[str, float],
    say: Callable[[str], None],
) -> Measurements:
    """Measure masks.

    Args:
        model: loaded with all encoders.
        masks: dropped encoders, of each.
        load: image, prompt and answer.
        repeats: of each measurement, after WARM_UP that do not count.
        own: parameters of each encoder.
        say: takes a line on how it goes.

    Raises:
        SetupError: the text is shorter than what stands before the image.
    """
    before = int(getattr(model.model, "image_position", 0))
    if load.text_tokens < before:
        raise SetupError(f"--text_tokens must be at least {before}: so many stand before this model's image")
    asking = _Asking(model, load, before, own)
    size = _batch(asking, say)
    times: dict[tuple[str, ...], dict[str, list[float]]] = {mask: {} for mask in masks}
    order, draw = list(masks), random.Random(0)
    for turn in range(WARM_UP + repeats):
        draw.shuffle(order)
        for mask in order:
            found = asking.once(mask, size)
            if turn >= WARM_UP:
                for name, value in found.items():
                    times[mask].setdefault(name, []).append(value)
        say(f"turn {turn + 1} of {WARM_UP + repeats}")
    made = {mask: {name: _spread(values) for name, values in own.items()} for mask, own in times.items()}
    device = model.device
    made_with = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "repeats": repeats,
        "warm_up": WARM_UP,
        "batch": size,
    }
    return Measurements(made, made_with, tuple(_notes(made, device, size)))


class _Asking:
    """A model and what is put to it."""

    def __init__(self, model: MaskedModel, load: Load, before: int, own: Mapping[str, float]):
        self.model, self.load, self.before, self.own = model, load, before, own
        draw = random.Random(0)
        self.image = Image.effect_noise(load.picture, 64).convert("RGB")
        most = model.model.language_model.get_input_embeddings().num_embeddings
        self.ids = [draw.randrange(1, most) for _ in range(load.text_tokens)]

    @torch.inference_mode()
    def answer(self, mask: Sequence[str], count: int, new: int) -> float:
        """Seconds for the answers to some images at once, each of so many tokens."""
        masked, inner = self.model.under(mask), self.model.model
        self._wait()
        start = time.perf_counter()
        visuals = masked.visuals([self.image] * count)
        text = inner.language_model.get_input_embeddings()(torch.tensor(self.ids, device=masked.device))
        rows = [
            torch.cat([text[: self.before], visual.embeddings.to(masked.dtype), text[self.before :]])
            for visual in visuals
        ]
        inputs, attention = masked.batch(rows)
        config = GenerationConfig(
            max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0, eos_token_id=masked.eos,
            use_cache=True,
        )  # fmt: skip
        with inner.prefill([[visual] for visual in visuals], [0] * count):
            inner.language_model.generate(inputs_embeds=inputs, attention_mask=attention, generation_config=config)
        self._wait()
        return time.perf_counter() - start

    def once(self, mask: Sequence[str], size: int) -> dict[str, float]:
        """Each of MEASURED once."""
        cuda, device = self.model.device.type == "cuda", self.model.device
        first = self.answer(mask, 1, 1)
        if cuda:
            torch.cuda.reset_peak_memory_stats(device)
        whole = self.answer(mask, 1, self.load.new_tokens)
        found = {"first_token": first, "images_per_second": 1 / whole}
        if cuda:
            found["peak_bytes"] = torch.cuda.max_memory_allocated(device) - self._idle(mask)
        if self.load.new_tokens > 1:
            found["next_token"] = max(whole - first, 0.0) / (self.load.new_tokens - 1)
        if size > 1:
            found["images_per_second_batch"] = size / self.answer(mask, size, self.load.new_tokens)
        return {name: found[name] for name in MEASURED if not math.isnan(found.get(name, math.nan))}

    def _idle(self, mask: Sequence[str]) -> float:
        """Bytes of encoders that are loaded here and would not be under the mask."""
        run = self.model.under(mask).needed()
        return self.model.dtype.itemsize * sum(size for name, size in self.own.items() if name not in run)

    def _wait(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)


def _batch(asking: _Asking, say: Callable[[str], None]) -> int:
    """A batch size at which the whole model answers most images a second; 1 where more bring nothing."""
    best, rate, size = 1, 0.0, 1
    while size <= LARGEST:
        try:
            asking.answer((), size, asking.load.new_tokens)
            found = size / asking.answer((), size, asking.load.new_tokens)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        say(f"batch of {size}: {found:.3g} images a second")
        if found < rate * GAIN:
            break
        best, rate, size = size, found, size * 2
    return best


def _spread(values: Sequence[float]) -> Measured:
    if len(values) < 2:
        return Measured(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Measured(middle, low, high)


def _notes(made: Mapping[tuple[str, ...], Mapping[str, Measured]], device: torch.device, size: int) -> list[str]:
    """What is to be said of measurements: which contradict each other, and what was not made."""
    worse = [
        (mask, other)
        for mask, own in made.items()
        for other in made
        if set(mask) < set(other) and made[other]["first_token"].median > own["first_token"].median
    ]
    notes = []
    if worse:
        apart = sum(made[other]["first_token"].low > made[mask]["first_token"].high for mask, other in worse)
        notes.append(
            f"noisy: in {len(worse)} pairs of masks the one that drops more took longer to the first token "
            f"({apart} beyond their quartiles)"
        )
    if device.type != "cuda":
        notes.append("peak memory is known on a GPU only")
    if size == 1:
        notes.append("batches brought no more images a second than one by one")
    return notes
