"""A sweep in lmms-eval: the framework asks under one mask, the answers of all are found, it scores each mask.

The first evaluation puts lmms-eval's requests to the sweep, which answers them under every mask; all evaluations take
their own mask's answers from the store. Of what is there, a few images are looked at.
"""

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.model import lmms

from redundancy_eval import compare, model_args
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.lmms_eval import launch, listen, task_index
from redundancy_eval.model_wrappers.hosts.lmms_eval.hooked import class_of
from redundancy_eval.model_wrappers.hosts.lmms_eval.kept import Kept
from redundancy_eval.model_wrappers.hosts.lmms_eval.swept import Swept, stand_in
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.sweeps import base_model, wrapped
from redundancy_eval.model_wrappers.sweeps.question import Heard
from redundancy_eval.model_wrappers.sweeps.sweep import Sweep
from redundancy_eval.sample import Sample

_ELSEWHERE = (compare.FREE, compare.OWN)  # arguments that decide nothing, or stand with the model


class LmmsEvalRoute:
    """See `sweeps.route.Route`.

    Args:
        arguments: what was typed, without what is the sweep's own and without a mask.
        batch_size: the sweep's; the base of `masked` has its own.
        sample: of each task's documents; None for all.
    """

    def __init__(self, arguments: Sequence[str], batch_size: str = "auto", sample: Sample | None = None):
        self.arguments, self.batch_size = list(arguments), batch_size
        self.args = launch.parse(self.arguments, sample)
        self.sampler = launch.sampler(sample)
        if self.args.model != registry.MASKED:
            self.args.batch_size = batch_size
        self.model, self.given, self.out = self.args.model, self.args.model_args or "", Path(self.args.output_path)
        launch.check_arguments(self.model, self.given)
        self.bases: dict[str, Any] = {}  # of `masked`
        self.answers: wrapped.Answers | None = None  # of `masked`

    @property
    def base(self) -> dict[str, Any]:
        """The wrapper that `masked` is on."""
        name = self.model_arguments.get("base")
        return base_model.wrapper(class_of(name)) if self.model == registry.MASKED and name else {}

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
    def model_arguments(self) -> dict[str, str]:
        """What the model is loaded with, but for the mask."""
        return model_args.parse(self.given, "--model_args")

    def resolved(self) -> dict[str, Any]:
        """How the model runs here."""
        return run_record.resolved(self.model, self.model_arguments, self.args.device, self.batch_size)

    def listen(self) -> list[Heard]:
        """What lmms-eval will ask."""
        return listen.questions(self.args, self.arguments, self.sampler)

    def documents(self) -> dict[str, int]:
        """How many documents each task has, of a route with a sample."""
        self.listen()
        return {} if self.sampler is None else {task: drawn.documents for task, drawn in self.sampler.known.items()}

    def load(self) -> loading.Model:
        """The full model; asked for within an evaluation, as lmms-eval starts the processes."""
        accelerator = Accelerator()
        many = accelerator.num_processes > 1 or not self.args.device
        device = accelerator.device if many else torch.device(str(self.args.device))
        return loading.load(self.model, **{"device": device, **self.model_arguments, "drop": "none"})

    def folder(self, label: str) -> Path:
        """Where a mask's results go."""
        return self.out / f"drop-{label}"

    def together(self) -> AbstractContextManager[None]:
        """Around the evaluations of all masks."""
        return task_index.read_once()

    def evaluate(self, label: str, sweep: Sweep) -> None:
        """Let lmms-eval evaluate a mask.

        Raises:
            SetupError: it wrote no results.
        """
        given = ",".join(filter(None, (self.given, f"drop={label}")))
        args = argparse.Namespace(**{**vars(self.args), "model_args": given})
        command = [given if part == self.given and self.given else part for part in self.arguments]
        record = launch.describe(self.args, given, ["run", *command])
        record["sweep"] = True
        own: tuple[type[lmms], dict[str, Any]] = (Swept, {"sweep": sweep})
        if self.model == registry.MASKED:
            self.answers = self.answers or wrapped.answers(sweep, self.model_arguments)
            own = Kept, {"bases": self.bases, "answers": self.answers}
        with stand_in(self.model, *own):
            launch.evaluate(args, self.folder(label), record, self.arguments, self.sampler)
