"""The loop that a sweep is compared with: each mask by itself."""

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch

from gpu.check import ANSWER, NEW, Check, free, peak, seconds
from redundancy_eval import masks
from redundancy_eval.model_wrappers.sweeps.masks import FULL


def one_by_one(check: Check, size: int) -> Iterator[dict[str, Any]]:
    """The naive loop: the model loaded once, each mask by itself; as much of it as fits the time."""
    done = check.found.get("all_masks", {})
    count, known = done.get("documents", check.documents), done.get("_answers", {})
    asked = check.questions(count, 1)
    views = {label: check.full.under(masks.dropped(check.full.encoder_names, label)) for label in check.labels}
    prompts = [question.prompt() for question in asked]
    views[FULL].generate(prompts[:size], NEW, **ANSWER)
    free(check.device)
    spent, given, equal, limit = 0.0, 0, 0, check.left * 0.25
    batches = [(start, label) for start in range(0, len(prompts), size) for label in views]
    random.Random(0).shuffle(batches)  # so that those for which there is time stand for all
    for start, label in batches:
        if spent < limit:
            view, batch = views[label], prompts[start : start + size]
            answers, took = seconds(lambda view=view, batch=batch: view.generate(batch, NEW, **ANSWER), check.device)
            spent, given = spent + took, given + len(answers)
            for question, answer in zip(asked[start : start + size], answers, strict=True):
                equal += known.get(f"{label}|{question.document}") == answer.text
    whole = spent / given * len(prompts) * len(views)
    yield {
        "batch_size": size,
        "measured": given,
        "total": len(prompts) * len(views),
        "measured_seconds": round(spent, 3),
    }
    yield {
        "seconds": round(whole, 3),
        "extrapolated": given < len(prompts) * len(views),
        "peak_gib": peak(check.device),
    }
    if known:
        yield {"sweep_is_faster": round(whole / done["seconds"], 2), "answers_equal_to_sweep": equal}


def naive_single(check: Check) -> Iterator[dict[str, Any]]:
    """The naive loop at batch size 1, the frameworks' default."""
    yield from one_by_one(check, 1)


def naive_best(check: Check) -> Iterator[dict[str, Any]]:
    """The naive loop at the batch size at which the full model alone answers fastest."""
    prompts = [question.prompt() for question in check.questions(check.documents, 1)]
    sizes, rates = [2, 4] if check.tiny else [4, 8, 16], {}
    for size in sizes:
        with suppress(torch.OutOfMemoryError):
            check.full.generate(prompts[:size], NEW, **ANSWER)
            batch = prompts[:size]
            _, took = seconds(lambda batch=batch: check.full.generate(batch, NEW, **ANSWER), check.device)
            rates[size] = len(batch) / took
    yield {"answers_per_s_of_the_full_model": {str(size): round(value, 2) for size, value in rates.items()}}
    yield from one_by_one(check, max(rates, key=lambda size: rates[size]))
