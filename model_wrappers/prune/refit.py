"""A pruned checkpoint in which what is gone is guessed from what stays (masking/predicted.py).

Where all encoders' channels enter one linear layer, the guess is in that layer's weights: with W_K and W_D its columns
for kept and dropped channels, W_K + W_D A^T, and b + W_D (mean_D - A^T mean_K). Elsewhere it is one more matrix.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.families.base import FamilyModel
from redundancy_eval.model_wrappers.masking import linear, predicted
from redundancy_eval.model_wrappers.masking.predicted import Layout
from redundancy_eval.model_wrappers.prune import shards


def layout(skeleton: FamilyModel) -> Layout:
    """The channels and places of a model without weights.

    Raises:
        SetupError: its encoders' tokens do not lie at the same places.
    """
    return Layout.of(skeleton.shapes("encoder"), skeleton.place_sides())


@dataclass(frozen=True)
class Refit:
    """The guess of the encoders that go, from the others."""

    layout: Layout
    dropped: tuple[str, ...]
    guess: linear.Guess

    @property
    def r2(self) -> dict[str, float | None]:
        """Held-out R2 of each dropped encoder, and of several together under `all`; None where one is constant."""
        sizes = [self.layout.channels[name] for name in self.dropped]
        parts = zip(self.dropped, self.guess.missed.split(sizes), self.guess.varies.split(sizes), strict=True)
        found = {name: linear.explained(missed, varies) for name, missed, varies in parts}
        found |= {"all": self.guess.r2} if len(found) > 1 else {}
        return {name: value if value == value else None for name, value in found.items()}

    def write(self, path: Path) -> None:
        """Write the guess as a file of its own."""
        predicted.write(path, self.layout, self.dropped, self.guess)

    def fold(self, folder: Path, skeleton: FamilyModel) -> Callable[[str, Tensor], tuple[str, Tensor]]:
        """(released name, tensor) -> the same with the guess in the weights of the model's first layer.

        Args:
            folder: the checkpoint.
            skeleton: the model without weights, whose `first_layer` it is.

        Raises:
            SetupError: the layer is not in the checkpoint, or of another size.
        """
        own = f"{skeleton.first_layer}.weight", f"{skeleton.first_layer}.bias"
        names = {skeleton.rename(name): name for name in shards.names(folder) if skeleton.rename(name) in own}
        found = {name: read().double() for name, read in weights.tensors(folder) if name in names.values()}
        channels = sum(self.layout.channels.values())
        if len(names) < len(own) or found[names[own[0]]].shape[1] != channels:
            raise SetupError(f"{folder} has no {skeleton.first_layer} with a bias that {channels} channels enter")
        weight, bias = (found[names[name]] for name in own)
        keep, drop = self.layout.index(self.layout.others(self.dropped)), self.layout.index(self.dropped)
        guess, columns = self.guess, weight[:, drop]
        folded = torch.zeros_like(weight)
        folded[:, keep] = weight[:, keep] + columns @ guess.weight.T.cpu()
        new = {names[own[0]]: folded, names[own[1]]: bias + columns @ guess.bias.cpu()}
        return lambda released, value: (released, new[released].to(value.dtype) if released in new else value)
