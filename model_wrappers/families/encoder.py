"""A vision encoder as families hold it."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from redundancy_eval.model_wrappers.checkpoints import weights


class Encoder(Protocol):
    """A vision encoder that is loaded by renaming keys: a torch module with these methods.

    Attributes:
        released: the sizes of the released encoder, where no config says them.
    """

    released: dict[str, Any]

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""

    def rename(self, released: str) -> weights.Target:
        """Released tensor name -> own name, or several (see weights.load); None for one that is not needed."""

    def release(self, own: str) -> str:
        """The inverse of `rename`."""

    def restore_buffers(self) -> None:
        """Make the buffers that no checkpoint holds (after building on the meta device)."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Run it; the family knows the shapes."""
