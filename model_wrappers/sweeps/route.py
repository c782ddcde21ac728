"""A framework's side of a sweep, as the sweep and the plan of one see it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # torch is not needed to name one
    from redundancy_eval.model_wrappers.masking.loading import Model
    from redundancy_eval.model_wrappers.sweeps.sweep import Sweep


class Route(Protocol):
    """lmms-eval or VLMEvalKit under a sweep: its own arguments, a folder for each mask."""

    @property
    def framework(self) -> str:
        """`lmms-eval` or `vlmevalkit`."""

    @property
    def model(self) -> str:
        """Model id."""

    @property
    def given(self) -> str:
        """Model arguments as typed."""

    @property
    def out(self) -> Path:
        """Where everything goes."""

    @property
    def arguments(self) -> Sequence[str]:
        """What was typed, without what is the sweep's own."""

    @property
    def decides(self) -> Mapping[str, Any]:
        """What decides the results of a mask, beside the model."""

    @property
    def model_arguments(self) -> dict[str, str]:
        """What the model is loaded with, but for the mask."""

    @property
    def device(self) -> str | None:
        """As the framework was told; None where it chooses."""

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
