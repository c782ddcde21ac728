"""What lmms-eval will ask in a sweep: its requests are listened to, no model is there to answer.

Images are told apart by what the data set holds of them; none is decoded.
"""

import tempfile
from argparse import Namespace
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from redundancy_eval.model_wrappers.hosts.lmms_eval import launch, swept
from redundancy_eval.model_wrappers.hosts.lmms_eval.model import worded
from redundancy_eval.model_wrappers.hosts.lmms_eval.sampled import Sampler
from redundancy_eval.model_wrappers.sweeps.question import Heard, Question

_PIECE = 4096


class _Enough(BaseException):
    """Ends an evaluation that is only listened to; nothing catches it on its way."""


def questions(args: Namespace, arguments: Sequence[str], sampler: Sampler | None = None) -> list[Heard]:
    """What lmms-eval asks.

    Args:
        args: as `launch.parse` gives them.
        arguments: as they were typed.
        sampler: draws a sample of each task's documents; None for all.

    Raises:
        SetupError: it asks nothing, or what a sweep does not answer.
    """
    heard: list[Question] = []
    data: Mapping[str, Any] = {}

    class Listening(swept.Swept):
        def generate_until(self, requests: Any) -> Any:
            """Listen."""
            nonlocal data
            words = worded(requests)
            heard.extend(self.question(request, words)[0] for request in requests)
            data = self.task_dict
            raise _Enough

    # Nothing is to be logged, cached or written where the sweep would.
    quiet = {"wandb_args": "", "swanlab_args": "", "use_cache": None, "log_samples": False}
    with tempfile.TemporaryDirectory() as out, swept.stand_in(args.model, Listening, {}), suppress(_Enough):
        launch.evaluate(Namespace(**{**vars(args), **quiet}), Path(out), {}, arguments, sampler)
    once = list({question.key(""): question for question in heard}.values())
    ids: dict[tuple[str, str], list[int]] = {}
    for question in once:
        ids.setdefault((question.task, question.split), []).append(int(question.document))
    told = {place: _pictures(data[place[0]][place[1]], numbers) for place, numbers in ids.items()}
    return [Heard(q, told[q.task, q.split].get(int(q.document))) for q in once]


def _pictures(documents: Any, numbers: Collection[int]) -> dict[int, tuple[Hashable, ...]]:
    """Number -> its images, from a data set's columns of images; {} where it has none."""
    import datasets

    if not isinstance(documents, datasets.Dataset):
        return {}
    columns = [name for name, kind in documents.features.items() if isinstance(kind, datasets.Image)]
    if not columns:
        return {}
    found: dict[int, tuple[Hashable, ...]] = {}
    wanted = sorted(numbers)
    chosen = documents.select_columns(columns).select(wanted).with_format("arrow")
    for table in chosen.iter(batch_size=64):
        for row in zip(*(table.column(name) for name in columns), strict=True):
            found[wanted[len(found)]] = tuple(_picture(cell) for cell in row if cell.is_valid)
    return found


def _picture(cell: Any) -> Hashable:
    """What tells an encoded image from others: its length and three pieces of it, or its path."""
    content = cell["bytes"]
    if not content.is_valid:
        return cell["path"].as_py()
    buffer = content.as_buffer()
    size = buffer.size
    starts = {0, max(size // 2 - _PIECE, 0), max(size - _PIECE, 0)}
    pieces = [buffer.slice(start, min(_PIECE, size - start)).to_pybytes() for start in sorted(starts)]
    return size, blake2b(b"".join(pieces), digest_size=16).digest()
