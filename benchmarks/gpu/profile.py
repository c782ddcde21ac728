"""What a sweep cannot avoid, and where its time goes."""

import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import wraps
from typing import Any
from unittest import mock

import subjects
import torch

from gpu.check import NEW, Check, equal, seconds, swept
from redundancy_eval.model_wrappers.costs import operations
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.sweeps import engines
from redundancy_eval.store import Store

BESIDE, CPU = "host_beside", torch.device("cpu")


def bound(check: Check) -> Iterator[dict[str, Any]]:
    """What cannot be avoided: encoders once, every mask's prefill at the matrix rate, decoding at memory's speed."""
    done, basis = check.found["all_masks"], check.found["works"]
    sizes = operations.of(subjects.skeleton(check.subject), "eagle_masked", subjects.config(check.subject))
    flops, bytes_ = basis["matrix_tflops"] * 1e12, basis["copy_gb_per_s"] * 1e9
    asked = [question.prompt() for question in check.questions(done["documents"], 1)]
    lengths = [len(check.full.prompt_ids(prompt)) - 1 + sizes.visual_tokens for prompt in asked]
    length = statistics.mean(lengths)
    encoders = sum(each or 0 for each in sizes.encoders.values()) * done["documents"] / flops
    prefill = (statistics.mean(map(sizes.language.prefill, lengths)) + sizes.fusion) * done["answers"] / flops
    weights = sum(p.numel() * p.element_size() for p in check.full.model.language_model.parameters())
    cache = sizes.language.cache(check.dtype.itemsize) * length
    batches = -(-done["answers"] // max(done["batch_size"], 1))
    decoding = (NEW - 1) * (batches * weights + done["answers"] * cache) / bytes_
    parts = {"encoders": encoders, "prefill": prefill, "decoding": decoding}
    yield {"seconds": round(sum(parts.values()), 3), "of_which": {k: round(v, 3) for k, v in parts.items()}}
    yield {"prompt_tokens": round(length, 1), "sweep_over_bound": round(done["seconds"] / sum(parts.values()), 2)}


def profile(check: Check) -> Iterator[dict[str, Any]]:
    """Where a sweep's time goes; each part waits for the device, so the sum is more than the time without.

    What a thread does beside the model is told, and is no part of the sum.
    """
    spent = dict.fromkeys((BESIDE, "host", "encoders", "fusion", "prefill", "decoding", "writing"), 0.0)
    model = check.full.model
    within = threading.local()

    def timed(owner: Any, name: str, part: Callable[..., str]) -> Any:
        original = getattr(owner, name)

        @wraps(original)  # generate() asks the signature whether to give positions and to leave out logits
        def measured(*args: Any, **settings: Any) -> Any:
            if getattr(within, "another", False):
                return original(*args, **settings)
            beside = threading.current_thread() is not threading.main_thread()
            within.another = True
            try:  # a thread does not wait for the device, which others keep busy
                made, took = seconds(lambda: original(*args, **settings), CPU if beside else check.device)
            finally:
                within.another = False
            spent[BESIDE if beside else part(*args, **settings)] += took
            return made

        return mock.patch.object(owner, name, measured)

    def pass_of(*_: Any, inputs_embeds: Any = None, input_ids: Any = None, **__: Any) -> str:
        given = inputs_embeds if inputs_embeds is not None else input_ids
        return "prefill" if given.shape[1] > 1 else "decoding"

    with ExitStack() as stack:
        for owner, name, part in (
            (engines.Native, "ask", "host"), (model, "preprocess", "host"), (model, "encode", "encoders"),
            (model, "project", "fusion"), (model, "fuse", "fusion"), (MaskedModel, "embed", "fusion"),
            (Store, "flush", "writing"),
        ):  # fmt: skip
            stack.enter_context(timed(owner, name, lambda *_, part=part, **__: part))
        stack.enter_context(timed(model.language_model, "forward", pass_of))
        labels = check.shorter() if check.subject == "midsize" else check.labels  # which a CPU takes minutes for
        count = min(check.documents, max(2, check.documents // 4))
        answers, told = swept(check, labels, check.questions(count, 1))
    known = check.found.get("all_masks", {}).get("_answers", {})
    yield equal(answers, known) if set(answers) <= set(known) else {}  # measuring changes nothing
    rest = told["seconds"] - sum(took for name, took in spent.items() if name != BESIDE)
    yield {
        "seconds": told["seconds"],
        "parts": {name: round(took, 3) for name, took in spent.items()} | {"rest": round(rest, 3)},
    }
