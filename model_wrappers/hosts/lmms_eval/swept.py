"""What lmms-eval takes for a model while a sweep runs: stored answers of one mask, asked for all masks at once."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from lmms_eval.models import MODEL_REGISTRY_V2, get_model, get_model_manifest
from lmms_eval.models.registry_v2 import ModelManifest

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.lmms_eval.model import generation_settings, result, shown, worded
from redundancy_eval.model_wrappers.masking.loading import one_line_errors
from redundancy_eval.model_wrappers.sweeps.question import Question
from redundancy_eval.model_wrappers.sweeps.sweep import Sweep

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
            return [self._answer(question, until) for question, until in questions]

    def _answer(self, question: Question, until: list[str]) -> GenerationResult:
        stored = self.sweep.answer(question, self.label)
        run_record.tell_feeds(stored.notes)
        run_record.tell_counts(stored.notes)
        return result(stored, until)

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
