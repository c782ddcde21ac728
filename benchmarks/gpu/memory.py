"""Batches that do not fit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch

from gpu.check import Check, equal, free, swept
from redundancy_eval.model_wrappers.sweeps import engines


def memory_runs_out(check: Check) -> Iterator[dict[str, Any]]:
    """Batches that do not fit: the sweep goes on with smaller ones, and answers as before."""
    questions = check.questions(2, 1)
    labels = check.labels[:8]
    with ExitStack() as stack:
        if check.device.type == "cuda":
            free(check.device)
            room, _ = torch.cuda.mem_get_info()
            ballast = torch.empty(max(0, room - 6 * 2**30), dtype=torch.uint8, device=check.device)
            stack.callback(lambda: ballast.set_())
        else:
            stack.enter_context(mock.patch.object(engines.Native, "answer", _small_only(engines.Native.answer)))
        tight, told = swept(check, labels, questions, 16)
    wide, _ = swept(check, labels, questions, 16)
    stepped = told["batch_size"] < 16
    yield {
        "began_with": 16,
        "ended_with": told["batch_size"],
        "stepped_down": stepped,
        **equal(tight, wide),
    }
    if not stepped:
        raise RuntimeError("memory did not run out: nothing was shown")


def _small_only(answer: Callable[..., Any]) -> Callable[..., Any]:
    def limited(self: Any, batch: Sequence[Any], *args: Any, **settings: Any) -> Any:
        if len(batch) > 4:
            raise torch.OutOfMemoryError("simulated")
        return answer(self, batch, *args, **settings)

    return limited
