"""An Eagle X of fewer encoders: the columns of the projector's first layer that met zeros are cut out.

The dropped encoders' channels enter the first linear layer as zeros, so its bias stays as it is. Sums of fewer terms
add up in another order: the same answers, not the same bits.

Source: NVlabs/EAGLE at fef95f1, multi_backbone_channel_concatenation_encoder.py (order of channels) and builder.py (a
list of one tower needs a `;`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families.eagle import model

_TOWER = re.compile(re.escape(model.PREFIX) + r"(\d+)(\..+)")
_FIRST = "model.mm_projector.0.weight"


def cut(
    config: Mapping[str, Any], mask: Sequence[str]
) -> tuple[dict[str, Any], Callable[[str, Tensor], tuple[str, Tensor]]]:
    """See prune/slices.py.

    Raises:
        SetupError: no encoder would be left.
    """
    towers = model.towers(config)
    kept = [tower for tower in towers if tower.name not in mask]
    if not kept:
        raise SetupError("--slice: without any encoder there is nothing to make visual tokens of; leave it out")
    stays = torch.cat([torch.full((tower.channels,), tower.name not in mask) for tower in towers])
    index = {tower.index: new for new, tower in enumerate(kept)}
    listed = ";".join(tower.released for tower in kept)
    smaller = {
        **config,
        "mm_vision_tower": listed if len(kept) > 1 else f"{listed};",
        "mm_hidden_size": sum(tower.channels for tower in kept),
    }
    if "encoder_configs" in config:
        gone = {tower.released for tower in towers} - {tower.released for tower in kept}
        smaller["encoder_configs"] = {k: v for k, v in config["encoder_configs"].items() if k not in gone}

    def of(released: str, value: Tensor) -> tuple[str, Tensor]:
        if released == _FIRST:
            return released, value[:, stays]
        found = _TOWER.fullmatch(released)
        return (f"{model.PREFIX}{index[int(found[1])]}{found[2]}" if found else released), value

    return smaller, of
