"""Other families in full size."""

from collections.abc import Iterator
from typing import Any

import subjects

from gpu.check import ANSWER, NEW, Check, peak, seconds
from redundancy_eval import masks
from redundancy_eval.model_wrappers.masking.prompt import Prompt


def family(check: Check, name: str) -> Iterator[dict[str, Any]]:
    """Another family of random weights in full size: it runs under a mask, in so much time and memory."""
    check.forget()
    full = subjects.other(name, check.tiny, check.device, check.dtype)
    words = subjects.documents(2, 1, full.model.language_model.config.vocab_size)
    prompts = [Prompt(text, (image,)) for text, image in words]
    took = {}
    for label in ("none", full.encoder_names[0], "all"):
        view = full.under(masks.dropped(full.encoder_names, label))
        view.generate(prompts, NEW, **ANSWER)
        answers, took[label] = seconds(lambda view=view: view.generate(prompts, NEW, **ANSWER), check.device)
        if not all(answer.new_tokens == NEW for answer in answers):
            raise RuntimeError(f"drop={label}: an answer ended early")
    parameters = sum(parameter.numel() for parameter in full.model.parameters())
    yield {"parameters": parameters, "seconds_of_two_answers": {k: round(v, 3) for k, v in took.items()}}
    yield {"peak_gib": peak(check.device)}


def cambrian(check: Check) -> Iterator[dict[str, Any]]:
    """Cambrian-8B."""
    yield from family(check, "cambrian")


def deepseek_vl(check: Check) -> Iterator[dict[str, Any]]:
    """DeepSeek-VL-7B."""
    yield from family(check, "deepseek_vl")
