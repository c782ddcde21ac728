"""What masks are counted to take, beside what they take."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import subjects

from gpu.check import NEW, Check
from redundancy_eval import masks
from redundancy_eval.model_wrappers.costs import counted, measured


def cost(check: Check) -> Iterator[dict[str, Any]]:
    """`redundancy-eval cost --random`: parameters and FLOPs of a mask, seconds, images a second, peak memory."""
    check.forget()
    dtype = str(check.dtype).removeprefix("torch.")
    load = counted.Load((640, 480), 60, NEW)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        (Path(folder) / "config.json").write_text(json.dumps(subjects.config(check.subject)), encoding="utf-8")
        counter = counted.Counter("eagle_masked", Path(folder), {"dtype": dtype})
        wanted = masks.leave_one_out(counter.encoders)
        if check.tiny:
            wanted = [wanted[0], wanted[-1]]
            stack.enter_context(mock.patch.multiple(measured, WARM_UP=1, LARGEST=2))
        rows, tokens = counter.masks(wanted, load, check.dtype.itemsize)
        own = counter.own
        model = measured.random_weights(counter, {"dtype": dtype, "device": str(check.device)})
        found = measured.measure(model, wanted, load, 1 if check.tiny else 5, own, lambda line: None)
    yield {"visual_tokens": tokens, "batch_size": found.made_with["batch"], "notes": list(found.notes)}
    for row in rows:
        taken = {name: round(value.median, 6) for name, value in found.of_mask[row.mask].items()}
        known = {name: row.counted[name] for name in ("flops", "parameters", "bytes")}
        yield {f"drop={masks.label(row.mask, model.encoder_names)}": {**known, **taken}}
