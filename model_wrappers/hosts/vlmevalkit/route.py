"""A sweep in VLMEvalKit: each data set's questions are answered under all masks before the first mask's answers go in.

All masks take their answers from the store; of what is there, a few images are looked at.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from redundancy_eval import model_args
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import process
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.vlmevalkit import arguments as own
from redundancy_eval.model_wrappers.hosts.vlmevalkit import launch, record
from redundancy_eval.model_wrappers.sweeps import base_model
from redundancy_eval.model_wrappers.sweeps.question import Heard
from redundancy_eval.model_wrappers.sweeps.sweep import Sweep
from redundancy_eval.sample import Sample, refuse


class VlmEvalKitRoute:
    """See `sweeps.route.Route`.

    Args:
        arguments: what was typed, without what is the sweep's own and without a mask.
        batch_size: the sweep's.
        sample: of each data set's rows; None for all.
    """

    def __init__(self, arguments: Sequence[str], batch_size: str = "auto", sample: Sample | None = None):
        self.arguments, self.batch_size = list(arguments), batch_size
        asked, self.rest = own.parse(self.arguments)
        refuse(sample, "--limit", asked.limit is not None)
        self.asked = replace(asked, sample=sample)
        self.sampler = launch.sampler(self.asked)
        self.given, self.model, self.out = self.asked.model_args, self.asked.model, Path(self.asked.out)
        if self.asked.published and self.asked.published.generation.get("do_sample"):
            raise SetupError(
                f"--as-published draws {self.model}'s answers, each mask by itself: "
                "use `redundancy-eval vlmevalkit` for each mask"
            )
        self.bases: dict[str, Any] = {}  # of `masked`
        self.answers: Any = None  # of `masked`
        self.run = launch.load_framework()
        launch.check_rest(self.run, self.asked, self.rest)
        launch.check_data(self.asked.data)

    @property
    def base(self) -> dict[str, Any]:
        """The wrapper that `masked` is on."""
        from vlmeval.config import supported_VLM

        maker = supported_VLM.get(self.model_arguments.get("base", ""))
        return base_model.wrapper(maker) if self.model == registry.MASKED and maker else {}

    @property
    def decides(self) -> dict[str, Any]:
        """What decides the results of a mask, beside the model."""
        return {
            "data": list(self.asked.data),
            "passed": self.asked.told,
            "published": bool(self.asked.published),
        }

    @property
    def model_arguments(self) -> dict[str, str]:
        """What the model is loaded with, but for the mask."""
        published = self.asked.published.arguments if self.asked.published else {}
        given = {**published, **model_args.parse(self.given, "--model_args")}
        return {key: value for key, value in given.items() if key != "max_new_tokens"}

    def resolved(self) -> dict[str, Any]:
        """How the model runs here."""
        return run_record.resolved(self.model, self.model_arguments, record.device(), self.batch_size)

    def listen(self) -> list[Heard]:
        """What VLMEvalKit will ask."""
        from redundancy_eval.model_wrappers.hosts.vlmevalkit import listen

        return listen.questions(self.asked, model_args.parse(self.given, "--model_args"), self.sampler)

    def documents(self) -> dict[str, int]:
        """How many documents each task has, of a route with a sample."""
        self.listen()
        return {} if self.sampler is None else {task: drawn.documents for task, drawn in self.sampler.known.items()}

    def load(self) -> Any:
        """The full model, refused where a separate run would be; VLMEvalKit shows each process its own GPUs."""
        from redundancy_eval.model_wrappers.hosts.vlmevalkit import model as kit

        given = {**self.model_arguments, "drop": "none"}
        return kit.MaskedVlm(self.model, given, published=self.asked.published).masked

    def folder(self, label: str) -> Path:
        """Where a mask's results go."""
        return self.out / record.folder_name(self._record(label))

    def together(self) -> AbstractContextManager[None]:
        """Around the evaluations of all masks."""
        return met_once() if process.world_size() > 1 else nullcontext()

    def evaluate(self, label: str, sweep: Sweep) -> None:
        """Let VLMEvalKit evaluate a mask.

        Raises:
            SetupError: a data set has no result.
        """
        from redundancy_eval.model_wrappers.hosts.vlmevalkit.swept import swept

        told = self._record(label)
        given = record.own_arguments(told)
        build: Callable[[], Any] = partial(swept, self.model, label, sweep, given, self.asked.published)
        if self.model == registry.MASKED:  # each mask is asked by itself, the base model is loaded once
            from redundancy_eval.model_wrappers.hosts.vlmevalkit.kept import KeptVlm
            from redundancy_eval.model_wrappers.sweeps import wrapped

            self.answers = self.answers or wrapped.answers(sweep, self.model_arguments)
            build = partial(KeptVlm, given, self.bases, self.answers)
        launch.evaluate(self.run, self.asked, self.rest, told, build, self.sampler)

    def _record(self, label: str) -> dict[str, Any]:
        given = ",".join(filter(None, (self.given, f"drop={label}")))
        command = [given if part == self.given and self.given else part for part in self.arguments]
        told = record.describe(replace(self.asked, model_args=given), command)
        return {**record.resolved(told, self.batch_size), "sweep": True}


@contextmanager
def met_once() -> Iterator[None]:
    """Within, the processes meet once; anew for each mask, as VLMEvalKit has it, they would find old addresses."""
    import torch.distributed as dist

    start, end = dist.init_process_group, dist.destroy_process_group

    def start_once(*arguments: Any, **settings: Any) -> None:
        if not dist.is_initialized():
            start(*arguments, **settings)

    dist.init_process_group, dist.destroy_process_group = start_once, lambda *_: None
    try:
        yield
    finally:
        dist.init_process_group, dist.destroy_process_group = start, end
        if dist.is_initialized():
            end()
