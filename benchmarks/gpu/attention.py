"""Shared prefixes and padding, with each attention that is there."""

import importlib.util
import math
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch

from gpu.check import ANSWER, NEW, Check, equal, swept
from redundancy_eval.model_wrappers.sweeps import engines
from redundancy_eval.model_wrappers.sweeps.question import Question


def attention(check: Check) -> Iterator[dict[str, Any]]:
    """Shared prefixes with each attention that is there: the same answers, and what they save."""
    questions = [
        Question("t", "", str(n), f"{q.text} w{n + 3}", NEW, ANSWER, check.questions(1)[0].images)
        for n, q in enumerate(check.questions(4))
    ]
    language, before = check.full.model.language_model, check.full.model.language_model.config._attn_implementation
    labels = check.labels[:4]
    flash, cudnn = importlib.util.find_spec("flash_attn") is not None, torch.backends.cuda.cudnn_sdp_enabled()
    try:
        for kind in ("sdpa", "sdpa without cuDNN", *(["flash_attention_2"] * flash)):
            language.set_attn_implementation(kind.split()[0])
            torch.backends.cuda.enable_cudnn_sdp(cudnn and kind == "sdpa")
            swept(check, labels, questions, 16)  # to warm up
            shared, with_ = swept(check, labels, questions, 16)
            with mock.patch.object(engines, "prefixes", lambda *_: []):
                apart, without = swept(check, labels, questions, 16)
            seconds_ = {"shared_seconds": with_["seconds"], "apart_seconds": without["seconds"]}
            yield {kind: {**seconds_, **equal(shared, apart), **padding(check, questions)}}
    finally:
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        language.set_attn_implementation(before)
    yield {"flash_attn": "installed" if flash else "not installed: flash_attention_2 was not tried"}


def padding(check: Check, questions: Sequence[Question]) -> dict[str, Any]:
    """The largest difference that padding makes to the log-probability of an answer of one token, in nats.

    Random weights put many tokens close to the best, so that answers differ where this hardly does. NaN is an error.
    """
    prompts = [question.prompt() for question in questions]
    together = check.full.loglikelihood(prompts, ["w5"] * len(prompts))
    alone = [check.full.loglikelihood([prompt], ["w5"])[0] for prompt in prompts]
    apart = [abs(a - b) for (a, _), (b, _) in zip(together, alone, strict=True)]
    if not all(map(math.isfinite, apart)):
        raise RuntimeError("a log-probability is not finite")
    return {"padding_changes_nats_by": round(max(apart), 5), "nats": round(alone[0][0], 3)}
