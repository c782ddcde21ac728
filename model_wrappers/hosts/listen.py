"""What a sweep will ask, told by the framework itself: its questions are listened to, no model is there to answer.

Images are told apart by what the data set holds of them; none is decoded.
"""

import tempfile
import types
from argparse import Namespace
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from redundancy_eval import model_args
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.sweeps.sweep import Question

_PIECE = 4096


@dataclass(frozen=True)
class Heard:
    """A question; `pictures` stand for its images, equal ones for the same; None where the data set does not tell."""

    question: Question
    pictures: tuple[Hashable, ...] | None


class _Enough(BaseException):
    """Ends an evaluation that is only listened to; nothing catches it on its way."""


def by_lmms_eval(route: Any) -> list[Heard]:
    """What lmms-eval asks.

    Args:
        route: lmms_eval_sweep.Route.

    Raises:
        SetupError: it asks nothing, or what a sweep does not answer.
    """
    from redundancy_eval.model_wrappers.hosts.lmms_eval import launch as lmms_eval_launch
    from redundancy_eval.model_wrappers.hosts.lmms_eval import route as lmms_eval_route
    from redundancy_eval.model_wrappers.hosts.lmms_eval.model import worded

    heard: list[Question] = []
    data: Mapping[str, Any] = {}

    class Listening(lmms_eval_route.Swept):
        def generate_until(self, requests: Any) -> Any:
            """Listen."""
            nonlocal data
            words = worded(requests)
            heard.extend(self.question(request, words)[0] for request in requests)
            data = self.task_dict
            raise _Enough

    # Nothing is to be logged, cached or written where the sweep would.
    quiet = {"wandb_args": "", "swanlab_args": "", "use_cache": None, "log_samples": False}
    args = Namespace(**{**vars(route.args), **quiet})
    stand_in = lmms_eval_route.stand_in(route.model, Listening, {})
    with tempfile.TemporaryDirectory() as out, stand_in, suppress(_Enough):
        lmms_eval_launch.evaluate(args, Path(out), {}, route.arguments)
    once = list({question.key(""): question for question in heard}.values())
    ids: dict[tuple[str, str], list[int]] = {}
    for question in once:
        ids.setdefault((question.task, question.split), []).append(int(question.document))
    told = {place: _pictures(data[place[0]][place[1]], numbers) for place, numbers in ids.items()}
    return [Heard(q, told[q.task, q.split].get(int(q.document))) for q in once]


def by_vlmevalkit(route: Any) -> list[Heard]:
    """What VLMEvalKit asks.

    Args:
        route: vlmevalkit_sweep.Route.

    Raises:
        SetupError: a data set cannot be made.
    """
    from vlmeval.dataset import build_dataset

    from redundancy_eval.model_wrappers.hosts.vlmevalkit import route as vlmevalkit_route

    heard: list[Question] = []

    class Listener:
        def fill(self, questions: Sequence[Question], *_: Any) -> None:
            heard.extend(questions)

    passed = dict(zip(route.asked.passed, route.asked.passed[1:], strict=False))
    given = model_args.parse(route.given, "--model_args")
    listener: Any = Listener()
    with tempfile.TemporaryDirectory() as folder:
        for name in route.asked.data:
            dataset = build_dataset(name)
            if dataset is None:
                raise SetupError(f"VLMEvalKit cannot make the data set {name}")
            if int(passed.get("--limit", 0)):
                dataset.data = dataset.data.iloc[: int(passed["--limit"])]
            dataset.dump_image = types.MethodType(_dump(Path(folder), dataset.dump_image), dataset)
            model = vlmevalkit_route.swept(route.model, "none", listener, given, route.asked.published)
            model.set_dump_image(dataset.dump_image)
        return [Heard(question, tuple(question.images.args[0])) for question in heard]  # type: ignore[attr-defined]


def _dump(folder: Path, original: Any) -> Any:
    """A data set's `dump_image` that names its images' files without writing what is in them."""

    def dump(self: Any, line: Any) -> Any:
        if "image" not in line:
            return original(line)
        parts = line["image"] if isinstance(line["image"], list) else [line["image"]]
        paths = [folder / f"{hash(part):x}.png" for part in parts]
        for path in paths:
            path.touch()  # VLMEvalKit takes a name for an image's where such a file is there
        return list(map(str, paths))

    return dump


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
