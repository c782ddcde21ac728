"""What VLMEvalKit will ask in a sweep: its data sets are put to a model that only listens.

Images are told apart by what the data set holds of them; none is decoded.
"""

import tempfile
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmeval.dataset import build_dataset

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.hosts.vlmevalkit.arguments import Arguments
from redundancy_eval.model_wrappers.hosts.vlmevalkit.sampled import Sampler
from redundancy_eval.model_wrappers.hosts.vlmevalkit.swept import swept
from redundancy_eval.model_wrappers.sweeps.question import Heard, Question


def questions(asked: Arguments, given: Mapping[str, str], sampler: Sampler | None = None) -> list[Heard]:
    """What VLMEvalKit asks.

    Args:
        asked: what was typed.
        given: the model's arguments.
        sampler: draws a sample of each data set's rows; None for all.

    Raises:
        SetupError: a data set cannot be made.
    """
    heard: list[Question] = []

    class Listener:
        def fill(self, questions: Sequence[Question], *_: Any) -> None:
            heard.extend(questions)

    listener: Any = Listener()
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.data:
            dataset = build_dataset(name)
            if dataset is None:
                raise SetupError(f"VLMEvalKit cannot make the data set {name}")
            if asked.limit is not None:
                dataset.data = dataset.data.iloc[: asked.limit]
            if sampler is not None:
                sampler.restrict(dataset)
            dataset.dump_image = types.MethodType(_dump(Path(folder), dataset.dump_image), dataset)
            swept(asked.model, "none", listener, given, asked.published).set_dump_image(dataset.dump_image)
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
