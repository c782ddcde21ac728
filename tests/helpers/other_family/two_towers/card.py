"""What is said of Two Towers without its code; imports no torch."""

from collections.abc import Mapping
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints.config_keys import OBJECT, SIZE, Keys, each
from redundancy_eval.model_wrappers.families.card import Checkpoint, Family
from redundancy_eval.model_wrappers.families.language_keys import LLAMA

ENCODERS = ("vit", "convnext")


def encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of a checkpoint, in its own order.

    Raises:
        SetupError: of another family.
    """
    if config.get("model_type") != "two_towers":
        raise SetupError(f"not a Two Towers checkpoint: model_type is {config.get('model_type')!r}")
    return ENCODERS


_KEYS = LLAMA | Keys(read={**each(SIZE, "image_size"), **each(OBJECT, "vit convnext")}, required=("image_size",))

FAMILY = Family(
    model_id="two_towers_masked",
    title="Two Towers (added)",
    model="two_towers.model:TwoTowers",
    default="example/two-towers",
    encoders=encoders,
    keys=lambda config: _KEYS,
    checkpoints=(Checkpoint("example/two-towers", ENCODERS, "vicuna_v1", "none"),),
    sites=("encoder", "projected"),
    checked_with="recorded tensors",
    costs={"vit": (0.01, 0), "convnext": (0.01, 0)},
    skipped="always",
    recording="two_towers.recording:TwoTowersRecording",
)
