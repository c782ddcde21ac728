"""What host work beside the model saves: large photographs, read, tokenised and preprocessed ahead or in their turn."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest import mock

import slow_disk

from gpu.check import Check, equal, swept

_SIDE = 4000  # columns of a photograph of 12 million pixels


def host_work(check: Check) -> Iterator[dict[str, Any]]:
    """A leave-one-out sweep of three windows of photographs; the first window's host work cannot be hidden."""
    size, side = (2, 400) if check.tiny else (16, _SIDE)
    asked = []
    for question in check.questions(3 * size, 1):
        shown = slow_disk.jpeg(question.images()[0], side)
        asked.append(replace(question, images=lambda shown=shown: (shown(),)))
    yield {"images": len(asked), "pixels": side * side * 3 // 4, "masks": len(check.shorter()), "batch_size": size}
    found: dict[str, dict[str, str]] = {}
    for name, way in slow_disk.WAYS.items():
        with ExitStack() as stack:
            for owner, what, stand_in in way:
                stack.enter_context(mock.patch.object(owner, what, stand_in))
            found[name], told = swept(check, check.shorter(), asked, size)
        yield {f"{name.replace(' ', '_')}_seconds": told["seconds"]}
    one, *others = found.values()
    yield {"answers": len(others) * equal(one, one)["answers"], "equal": sum(equal(one, o)["equal"] for o in others)}
