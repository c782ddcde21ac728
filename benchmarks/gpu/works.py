"""Rates of the device, and that the bundled model answers on it as on a CPU."""

import statistics
from collections.abc import Iterator
from typing import Any

import subjects
import torch

from gpu.check import NEW, WORDS, Check, equal, noise, nvidia_smi, seconds, swept
from redundancy_eval import masks
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from redundancy_eval.model_wrappers.sweeps.question import Question


def rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Operations a second of a large matrix product: the median of twenty, after three to warm up."""
    square = torch.randn(side, side, device=device).to(dtype)
    times = [seconds(lambda: torch.mm(square, square), device)[1] for _ in range(23)][3:]
    return float(2 * side**3 / statistics.median(times))


def bandwidth(device: torch.device, size: int) -> float:
    """Bytes a second that are read and written by a copy within the device's memory: the median of ten."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = [seconds(lambda: target.copy_(source), device)[1] for _ in range(12)][2:]
    return float(2 * size / statistics.median(times))


def works(check: Check) -> Iterator[dict[str, Any]]:
    """Rates of the device; the bundled model answers as on a CPU under every mask; skipping is running and zeroing."""
    yield {"matrix_tflops": round(rate(check.device, check.dtype, 512 if check.tiny else 8192) / 1e12, 4)}
    yield {"clocks_then": nvidia_smi("clocks.sm,clocks.mem,power.draw")} if check.device.type == "cuda" else {}
    yield {"copy_gb_per_s": round(bandwidth(check.device, 2**24 if check.tiny else 2**32) / 1e9, 1)}
    here = loading.load("eagle_masked", "demo", device=check.device, dtype="float32")
    there = loading.load("eagle_masked", "demo", device="cpu", dtype="float32")
    asked = subjects.documents(2 if check.tiny else 8, 1, words=WORDS)
    prompts = [Prompt(text, (image,)) for text, image in asked]
    mine: dict[str, str] = {}
    other: dict[str, str] = {}
    for mask in masks.every(here.encoder_names):
        label = masks.label(mask, here.encoder_names)
        for view, told in ((here.under(mask), mine), (there.under(mask), other)):
            told |= {f"{label}|{n}": answer.text for n, answer in enumerate(view.generate(prompts, NEW))}
    same = equal(mine, other)
    yield {"demo_answers_equal_to_cpu": same["equal"], "demo_answers": same["answers"]}
    labels = [masks.label(mask, here.encoder_names) for mask in masks.every(here.encoder_names)]
    questions = [
        Question("t", "", str(n), text, NEW, {}, lambda image=image: [image]) for n, (text, image) in enumerate(asked)
    ]
    yield {"demo_sweep_equal_to_one_by_one": equal(mine, swept(check, labels, questions, model=here)[0])["equal"]}
    half = loading.load("eagle_masked", "demo", device=check.device, dtype=str(check.dtype).removeprefix("torch."))
    answers, _ = swept(check, labels, questions, model=half)
    yield {"demo_half_equal_to_float32": equal(mine, answers)["equal"], "demo_half_noise_floor": noise(answers)[0]}
    images = [prompt.images[0] for prompt in prompts]
    worst = 0.0
    for name in here.encoder_names:
        skipped = here.under((name,)).visuals(images)
        features = here.features(images)
        features[name] = torch.zeros_like(features[name])
        zeroed = here.model.fuse(here.model.project(features), here.model.layouts(images))
        for a, b in zip(skipped, zeroed, strict=True):
            worst = max(worst, float((a.embeddings - b.embeddings).abs().max()))
    yield {"largest_difference_of_skipping_and_zeroing": worst}
