"""What a sweep needs of a framework: before anything is loaded (`Framework`), and to ask and score (`Route`)."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from redundancy_eval.sample import Sample

if TYPE_CHECKING:  # torch is not needed to name one
    from redundancy_eval.model_wrappers.masking.loading import Model
    from redundancy_eval.model_wrappers.sweeps.question import Heard
    from redundancy_eval.model_wrappers.sweeps.sweep import Sweep


class Framework(Protocol):
    """lmms-eval or VLMEvalKit, as far as it is known without importing it."""

    @property
    def name(self) -> str:
        """`lmms-eval` or `vlmevalkit`; the extra's, too."""

    @property
    def out_flag(self) -> str:
        """Its own name for the output folder, `--output_path` or `--work-dir`."""

    @property
    def some_flags(self) -> str:
        """Some of its own arguments, for help."""

    @property
    def one_may_fail(self) -> bool:
        """Whether a task may fail under a mask and the others go on."""

    def versions(self) -> dict[str, str]:
        """Versions of what answers and scores."""

    def deciding_files(self, arguments: Sequence[str]) -> dict[str, str]:
        """Hashes of files that decide questions and are not named by version, as far as they are here.

        Args:
            arguments: its own.
        """

    def route(self, arguments: Sequence[str], batch_size: str, sample: Sample | None = None) -> "Route":
        """Its side of a sweep.

        Args:
            arguments: its own, with model, model arguments but for the mask, and output folder.
            batch_size: the sweep's, which results and records tell.
            sample: of each task's documents; None for all.

        Raises:
            SetupError: it is not installed, or its arguments make no sense here.
        """


class Route(Protocol):
    """A framework under a sweep: its own arguments, a folder for each mask."""

    @property
    def model(self) -> str:
        """Model id."""

    @property
    def out(self) -> Path:
        """Where everything goes."""

    @property
    def decides(self) -> Mapping[str, Any]:
        """What decides the results of a mask, beside the model."""

    @property
    def model_arguments(self) -> dict[str, str]:
        """What the model is loaded with, but for the mask."""

    @property
    def base(self) -> dict[str, Any]:
        """What is known of the wrapper that `masked` is on, see `base_model.wrapper`; {} for models of ours."""

    def resolved(self) -> dict[str, Any]:
        """How the model runs here: device, number format, attention, batch size.

        Raises:
            SetupError: an unknown number format.
        """

    def listen(self) -> "list[Heard]":
        """What the framework will ask; no model is loaded, and nothing is written where a sweep would.

        Raises:
            SetupError: it asks nothing, or what a sweep does not answer.
        """

    def documents(self) -> dict[str, int]:
        """How many documents each task has, of a route with a sample.

        Raises:
            SetupError: see `listen`, or a task's documents do not tell what belongs together.
        """

    def load(self) -> "Model":
        """The full model; asked for when something is to be answered."""

    def folder(self, label: str) -> Path:
        """Where a mask's results go."""

    def together(self) -> AbstractContextManager[None]:
        """Around the evaluations of all masks."""

    def evaluate(self, label: str, sweep: "Sweep") -> None:
        """Let the framework evaluate a mask.

        Raises:
            SetupError: it wrote no results.
        """
