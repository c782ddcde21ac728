"""A sweep in lmms-eval: the framework asks under one mask, the answers of all are found, it scores each mask.

The first evaluation puts lmms-eval's requests to the sweep, which answers them under every mask; all evaluations take
their own mask's answers from the store. Of what is there, a few images are looked at.
"""

import argparse
import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from lmms_eval.models import MODEL_REGISTRY_V2, get_model, get_model_manifest
from lmms_eval.models.registry_v2 import ModelManifest
from lmms_eval.tasks import TaskManager

from redundancy_eval import compare, model_args
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import registry, templates
from redundancy_eval.model_wrappers.hosts.lmms_eval import launch as lmms_eval_launch
from redundancy_eval.model_wrappers.hosts.lmms_eval.hooked import Hooked
from redundancy_eval.model_wrappers.hosts.lmms_eval.model import generation_settings, result, shown, worded
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.loading import one_line_errors
from redundancy_eval.model_wrappers.sweeps.sweep import Question, Sweep

_ELSEWHERE = (compare.FREE, compare.OWN)  # arguments that decide nothing, or stand with the model

_Standing: type[lmms]  # what lmms-eval makes, by this name


class Swept(lmms):
    """A model id's stand-in while a sweep runs: answers of one mask, asked for all masks."""

    is_simple = True
    sweep: Sweep

    def __init__(self, drop: object = "", batch_size: Any = None, max_batch_size: Any = None, **settings: Any):
        super().__init__()
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.label = str(drop)

    @property
    def device(self) -> torch.device:
        """Where the model runs, for lmms-eval's own tensors."""
        return self.accelerator.device

    def clean(self) -> None:
        """Nothing: the next mask uses the model too."""

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """The mask's answers; those that are missing are asked for first, under every mask."""
        words = worded(requests)
        questions = [self.question(request, words) for request in requests]
        with one_line_errors():
            self.sweep.fill([question for question, _ in questions], show=self.rank == 0)
            return [result(self.sweep.answer(question, self.label), until) for question, until in questions]

    def question(self, request: Instance, worded: Collection[str]) -> tuple[Question, list[str]]:
        """What a request asks, and the texts that end its answer; image tags are words in tasks of `worded`."""
        context, settings, doc_to_visual, doc_id, task, split = request.args
        limit, settings, until = generation_settings(settings)
        show = partial(self._images, doc_to_visual, doc_id, task, split)
        text = templates.as_words(context) if task in worded else context
        return Question(task, split, str(doc_id), text, limit, settings, show, text != context), until

    def _images(self, doc_to_visual: Any, doc_id: int, task: str, split: str) -> tuple[Any, ...]:
        return shown(self.task_dict[task][split], doc_to_visual, doc_id, task, "sweep")

    def loglikelihood(self, requests: list[Instance]) -> Any:
        """Not offered: the benchmarks of the paper are answered in words."""
        with one_line_errors():
            raise SetupError("sweep answers generation tasks only; evaluate likelihood tasks mask by mask with `run`")

    def generate_until_multi_round(self, requests: list[Instance]) -> Any:
        """Not offered: the benchmarks of the paper are single-turn."""
        with one_line_errors():
            raise SetupError("sweep answers single-turn tasks only")


class Kept(Hooked):
    """`masked` while a sweep runs: each mask is asked by itself, the base model is loaded once."""

    bases: dict[str, Any]

    def _build(self, base: str, settings: dict[str, Any]) -> Any:
        key = repr((base, settings))
        if key not in self.bases:
            self.bases[key] = super()._build(base, settings)
        return self.bases[key]

    def clean(self) -> None:
        """Nothing of the base: the next mask uses it too."""
        self.modules.clear()


class Route:
    """lmms-eval under a sweep: its own arguments, a folder for each mask.

    Args:
        arguments: what was typed, without what is the sweep's own and without a mask.
        batch_size: the sweep's; the base of `masked` has its own.
    """

    framework = "lmms-eval"

    def __init__(self, arguments: Sequence[str], batch_size: str = "auto"):
        self.arguments = list(arguments)
        self.args = lmms_eval_launch.parse(self.arguments)
        if self.args.model != registry.HOOKED[1]:
            self.args.batch_size = batch_size
        self.model, self.given, self.out = self.args.model, self.args.model_args or "", Path(self.args.output_path)
        lmms_eval_launch.check_arguments(self.model, self.given)
        self.bases: dict[str, Any] = {}  # of `masked`

    @property
    def decides(self) -> dict[str, Any]:
        """What decides the results of a mask, beside the model."""
        asked = {
            key: value
            for key, value in vars(self.args).items()
            if key in ("tasks", "predict_only") or compare.CONFIG.get(key) not in _ELSEWHERE
        }
        return {key: str(value) for key, value in sorted(asked.items()) if value not in (None, False, "", [])}

    @property
    def device(self) -> str | None:
        """As lmms-eval was told; None where it chooses."""
        return self.args.device

    @property
    def model_arguments(self) -> dict[str, str]:
        """What the model is loaded with, but for the mask."""
        return model_args.parse(self.given, "--model_args")

    def load(self) -> loading.Model:
        """The full model; asked for within an evaluation, as lmms-eval starts the processes."""
        accelerator = Accelerator()
        many = accelerator.num_processes > 1 or not self.args.device
        device = accelerator.device if many else torch.device(str(self.args.device))
        return loading.load(self.model, {**self.model_arguments, "drop": "none"}, device)

    def folder(self, label: str) -> Path:
        """Where a mask's results go."""
        return self.out / f"drop-{label}"

    def together(self) -> AbstractContextManager[None]:
        """Around the evaluations of all masks."""
        return tasks_indexed_once()

    def evaluate(self, label: str, sweep: Sweep) -> None:
        """Let lmms-eval evaluate a mask.

        Raises:
            SetupError: it wrote no results.
        """
        given = ",".join(filter(None, (self.given, f"drop={label}")))
        args = argparse.Namespace(**{**vars(self.args), "model_args": given})
        command = [given if part == self.given and self.given else part for part in self.arguments]
        record = lmms_eval_launch.describe(self.args, given, ["run", *command])
        record["sweep"] = True
        own: tuple[type[lmms], dict[str, Any]] = (Swept, {"sweep": sweep})
        if self.model == registry.HOOKED[1]:
            own = Kept, {"bases": self.bases}
        with stand_in(self.model, *own):
            lmms_eval_launch.evaluate(args, self.folder(label), record, self.arguments)


@contextmanager
def stand_in(model_id: str, kind: type[lmms], holds: Mapping[str, Any]) -> Iterator[None]:
    """Within, lmms-eval takes another class for a model id."""
    global _Standing
    kept, real = get_model_manifest(model_id), get_model(model_id)
    # The results name the class that answered.
    _Standing = type(real.__name__, (kind,), {"__module__": real.__module__, **holds})
    here = ModelManifest(model_id, simple_class_path=f"{__name__}._Standing")
    MODEL_REGISTRY_V2.register_manifest(here, overwrite=True)
    try:
        yield
    finally:
        MODEL_REGISTRY_V2.register_manifest(kept, overwrite=True)


@contextmanager
def tasks_indexed_once() -> Iterator[None]:
    """Within, lmms-eval reads its some 2,000 task files once; anew for each mask they would take most of the time."""
    original: Any = TaskManager.initialize_tasks
    known: dict[str, Any] = {}

    def initialize_tasks(self: TaskManager, include_path: Any = None, include_defaults: bool = True) -> Any:
        key = repr((include_path, include_defaults))
        if key not in known:
            known[key] = original(self, include_path, include_defaults)
        return copy.deepcopy(known[key])

    TaskManager.initialize_tasks = initialize_tasks
    try:
        yield
    finally:
        TaskManager.initialize_tasks = original
