"""A checkpoint without an encoder, written and compared with the mask."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import subjects

from gpu.check import Check, free, seconds
from redundancy_eval.model_wrappers.prune import checking, writing

_ROOM = 2.2  # of the checkpoint's size: it and the smaller one


def prune(check: Check) -> Iterator[dict[str, Any]]:
    """`redundancy-eval prune --check 2` of the first encoder: seconds to write, and equal embeddings to the bit."""
    check.forget()
    skeleton = subjects.skeleton(check.subject)
    size = sum(parameter.numel() for parameter in skeleton.parameters()) * check.dtype.itemsize
    with tempfile.TemporaryDirectory() as folder:
        room = shutil.disk_usage(folder).free
        if room < _ROOM * size:
            yield {"skipped": f"{room / 2**30:.0f} GiB of room on the disk; {_ROOM * size / 2**30:.0f} are needed"}
            return
        whole, out = Path(folder) / "whole", Path(folder) / "pruned"
        _, took = seconds(lambda: subjects.write(check.subject, whole), check.device)
        free(check.device)
        yield {"gib": round(size / 2**30, 2), "seconds_to_write_it_whole": round(took, 2)}
        where = {"device": str(check.device), "dtype": str(check.dtype).removeprefix("torch.")}
        given = {"pretrained": str(whole), "drop": skeleton.encoder_names[0], **where}
        asked = writing.read("eagle_masked", given, False)
        _, took = seconds(lambda: writing.write(asked, out, False), check.device)
        yield {"drop": given["drop"], "seconds_to_prune": round(took, 2)}
        found, took = seconds(lambda: checking.compare("eagle_masked", given, out, checking.pictures(2)), check.device)
    yield {"images": found.images, "equal_embeddings": found.equal_embeddings, "equal_answers": found.equal_answers}
    yield {"seconds_to_compare": round(took, 2)}
    if not found.passed(exact=True):
        raise RuntimeError(found.described())
