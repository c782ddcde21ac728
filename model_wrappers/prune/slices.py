"""What a family says to have its fusion cut: another config, and what becomes of each tensor that stays."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from torch import Tensor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families.card import Family

# (released name, tensor) -> both in the smaller checkpoint.
Cut = Callable[[str, Tensor], tuple[str, Tensor]]


class Slicing(Protocol):
    """Cuts dropped encoders out of a family's fusion, where they are zeros at site `encoder`."""

    def __call__(self, config: Mapping[str, Any], mask: Sequence[str]) -> tuple[dict[str, Any], Cut]:
        """The config of the smaller model, and the cut.

        Args:
            config: of the checkpoint.
            mask: encoders to cut.

        Raises:
            SetupError: nothing would be left.
        """


def of(family: Family) -> Slicing:
    """The slicing of a family.

    Raises:
        SetupError: it has none.
    """
    if not family.slicing:
        raise SetupError(
            f"--slice: what a dropped encoder leaves in the fusion of {family.model_id} is not only columns of a "
            "matrix; without --slice its tensors go and the fusion stays whole"
        )
    module, _, name = family.slicing.partition(":")
    return cast(Slicing, getattr(importlib.import_module(module), name))
