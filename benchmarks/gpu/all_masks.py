"""A sweep of all masks and of leave-one-out."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

from gpu.check import Check, noise, swept
from redundancy_eval.model_wrappers.sweeps import sweep


def all_masks(check: Check) -> Iterator[dict[str, Any]]:
    """A sweep of all masks: time, growth of `auto`, peak memory, and the noise floor in half precision."""
    grown: list[int] = []
    keep = sweep.Sweep._fitting

    def noted(self: sweep.Sweep, jobs: Any) -> Any:
        replies = keep(self, jobs)
        grown.append(self.batch_size)
        return replies

    with mock.patch.object(sweep.Sweep, "_fitting", noted), mock.patch.object(sweep, "FIRST_GUESS", 2):
        _, warm = swept(check, check.labels, check.questions(1))
    yield {"auto_from_2": sorted(set(grown))}
    grown.clear()
    fits = int(check.left * 0.3 / max(warm["seconds"], 1e-3))
    count = max(1, min(check.documents, fits))
    with mock.patch.object(sweep.Sweep, "_fitting", noted):
        answers, told = swept(check, check.labels, check.questions(count, 1))
    yield {"warm_up_seconds": warm["seconds"], "masks": len(check.labels), "documents": count, **told}
    yield {"batch_sizes": sorted(set(grown)), "answers_per_s": round(told["answers"] / told["seconds"], 2)}
    differ, alone = noise(answers)
    yield {"noise_floor_differ": differ, "noise_floor_of": alone, "_answers": answers}


def leave_one_out(check: Check) -> Iterator[dict[str, Any]]:
    """A sweep of the full model, each encoder dropped, and all dropped."""
    _, told = swept(check, check.shorter(), check.questions(check.documents, 1))
    yield {"masks": len(check.shorter()), "documents": check.documents, **told}
