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
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.vlmevalkit import launch as vlmevalkit_launch
from redundancy_eval.model_wrappers.sweeps.sweep import Question, Sweep


class Route:
    """VLMEvalKit under a sweep: its own arguments, a folder for each mask.

    Args:
        arguments: what was typed, without what is the sweep's own and without a mask.
        batch_size: the sweep's.
    """

    framework = "vlmevalkit"

    def __init__(self, arguments: Sequence[str], batch_size: str = "auto"):
        self.arguments, self.batch_size = list(arguments), batch_size
        self.asked, self.rest = vlmevalkit_launch.read(self.arguments)
        self.given, self.model, self.out = self.asked.model_args, self.asked.model, Path(self.asked.work_dir)
        if self.asked.published and self.asked.published.generation.get("do_sample"):
            raise SetupError(
                f"--as-published draws {self.model}'s answers, each mask by itself: "
                "use `redundancy-eval vlmevalkit` for each mask"
            )
        self.bases: dict[str, Any] = {}  # of `masked`
        self.run = vlmevalkit_launch.load_framework()
        vlmevalkit_launch.check_rest(self.run, self.asked, self.rest)
        vlmevalkit_launch.check_data(self.asked.data)

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

    @property
    def device(self) -> str:
        """Where the model runs."""
        return vlmevalkit_launch.device()

    def load(self) -> Any:
        """The full model, refused where a separate run would be; VLMEvalKit shows each process its own GPUs."""
        from redundancy_eval.model_wrappers.hosts.vlmevalkit import model as kit

        given = {**self.model_arguments, "drop": "none"}
        return kit.MaskedVlm(self.model, given, published=self.asked.published).masked

    def folder(self, label: str) -> Path:
        """Where a mask's results go."""
        return self.out / vlmevalkit_launch.folder_name(self._record(label))

    def together(self) -> AbstractContextManager[None]:
        """Around the evaluations of all masks."""
        return met_once() if run_record.world_size() > 1 else nullcontext()

    def evaluate(self, label: str, sweep: Sweep) -> None:
        """Let VLMEvalKit evaluate a mask.

        Raises:
            SetupError: a data set has no result.
        """
        record = {**self._record(label), "sweep": True}
        given = vlmevalkit_launch.own_arguments(record)
        build: Callable[[], Any] = partial(swept, self.model, label, sweep, given, self.asked.published)
        if self.model == registry.HOOKED[1]:  # each mask is asked by itself, the base model is loaded once
            from redundancy_eval.model_wrappers.hosts.vlmevalkit import hooked as vlmevalkit_hooked

            build = partial(vlmevalkit_hooked.HookedVlm, given, self.bases)
        vlmevalkit_launch.evaluate(self.run, self.asked, self.rest, record, build)

    def _record(self, label: str) -> dict[str, Any]:
        given = ",".join(filter(None, (self.given, f"drop={label}")))
        command = [given if part == self.given and self.given else part for part in self.arguments]
        record = vlmevalkit_launch.describe(replace(self.asked, model_args=given), command)
        return vlmevalkit_launch.resolved(record, self.batch_size)


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


def swept(model_id: str, label: str, sweep: Sweep, given: dict[str, str], published: registry.Published | None) -> Any:
    """What VLMEvalKit takes for the model under a mask: answers from the store."""
    from redundancy_eval.model_wrappers.hosts.vlmevalkit import model as kit

    limit = kit.token_limit(given, published)

    class Swept(kit.Worded):
        def set_dump_image(self, dump_image_func: Any) -> None:
            """Called before each data set: all its questions are answered now."""
            super().set_dump_image(dump_image_func)
            dataset = dump_image_func.__self__
            self.questions = {}
            with kit.fatal_errors(dataset.dataset_name):
                for index, message in kit.coming(self, dataset):
                    text, paths = kit.question(message, published, model_id)
                    show = partial(kit.pictures, paths)
                    asked = Question(dataset.dataset_name, "", index, text, limit, {}, show, kit.reworded(message))
                    self.questions[kit.message_key(message)] = asked
                sweep.fill(list(self.questions.values()), dataset.dataset_name, run_record.rank() == 0)

        def generate_inner(self, message: Any, dataset: str | None = None) -> str:
            """The stored answer."""
            with kit.fatal_errors(str(dataset)):
                return sweep.answer(self.questions[kit.message_key(message)], label).text

    return Swept(published)
