"""The model families: what they are called, which encoders a checkpoint has, and what is published; no torch needed.

This is the one table that the framework plug-ins, `redundancy-eval models` and the readers look into. A family's
computation lives in the module named by `module`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import hub


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint: hub id, encoders in its order, prompt template, licence of the weights."""

    hub_id: str
    encoders: tuple[str, ...]
    template: str
    licence: str


@dataclass(frozen=True)
class Family:
    """A model family that can be masked.

    `encoders` reads the encoder names, in order, from a checkpoint's config; it raises SetupError for a config of
    another family.
    """

    model_id: str
    title: str
    module: str
    default: str
    encoders: Callable[[Mapping[str, Any]], tuple[str, ...]]
    checkpoints: tuple[Checkpoint, ...]
    sites: tuple[str, ...]
    ablations: tuple[str, ...]
    checked_with: str


# Kind of tower in Eagle's `mm_vision_tower` -> name of the encoder.
EAGLE_TOWERS = {"clip": "clip", "convnext": "convnext", "sam": "sam", "det": "eva02", "pix2struct": "pix2struct"}


def eagle_encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of an Eagle X checkpoint, in the order of its `mm_vision_tower`.

    Raises:
        SetupError: no Eagle X config, an unknown tower, or one encoder named twice.
    """
    listed = config.get("mm_vision_tower")
    if config.get("model_type") != "eagle_llama" or not isinstance(listed, str):
        raise SetupError(
            f"not an Eagle X checkpoint: model_type is {config.get('model_type')!r} (expected 'eagle_llama') "
            f"and mm_vision_tower is {listed!r}"
        )
    kinds = [tower.partition("-")[0] for tower in listed.split(";")]
    unknown = [kind for kind in kinds if kind not in EAGLE_TOWERS]
    if unknown:
        raise SetupError(
            f"unknown tower {unknown[0]!r} in mm_vision_tower {listed!r}; known: {', '.join(EAGLE_TOWERS)}"
        )
    if len(set(kinds)) != len(kinds):
        raise SetupError(f"mm_vision_tower names an encoder twice: {listed!r}")
    return tuple(EAGLE_TOWERS[kind] for kind in kinds)


_X4 = ("clip", "convnext", "pix2struct", "eva02")
_X5_7B = ("clip", "convnext", "sam", "eva02", "pix2struct")
_X5_13B = ("clip", "convnext", "sam", "pix2struct", "eva02")
_NON_COMMERCIAL = "CC-BY-NC(-SA)-4.0"
FAMILIES = {
    "eagle_masked": Family(
        model_id="eagle_masked",
        title="Eagle X (channel concatenation)",
        module="redundancy_eval.model_wrappers.eagle",
        default="NVEagle/Eagle-X5-7B",
        encoders=eagle_encoders,
        # Orders: the released configs of X4-8B-Plus and X5-13B were read; X5-7B's and X4-13B-Plus's follow NVIDIA's
        # scripts and the 8B release, and are read from the config when it is at hand.
        checkpoints=(
            Checkpoint("NVEagle/Eagle-X5-7B", _X5_7B, "vicuna_v1", _NON_COMMERCIAL),
            Checkpoint("NVEagle/Eagle-X5-13B", _X5_13B, "vicuna_v1", _NON_COMMERCIAL),
            Checkpoint("NVEagle/Eagle-X5-13B-Chat", _X5_13B, "vicuna_v1", _NON_COMMERCIAL),
            Checkpoint("NVEagle/Eagle-X4-8B-Plus", _X4, "llama3", _NON_COMMERCIAL),
            Checkpoint("NVEagle/Eagle-X4-13B-Plus", _X4, "vicuna_v1", _NON_COMMERCIAL),
            Checkpoint(hub.DEMO, _X4, "vicuna_v1", "Apache-2.0"),
        ),
        sites=("encoder",),
        ablations=("zero",),
        checked_with="recorded tensors",
    ),
}  # fmt: skip


def family(model_id: str) -> Family:
    """The family behind a model id.

    Raises:
        SetupError: no such family.
    """
    if model_id not in FAMILIES:
        raise SetupError(f"model must be one of {', '.join(FAMILIES)}; not {model_id!r}")
    return FAMILIES[model_id]


def encoders_of(model_id: str, pretrained: str | None = None, revision: str | None = None) -> tuple[str, ...]:
    """Names of a checkpoint's encoders in its own order, from its config.

    Raises:
        SetupError: the checkpoint can't be found or is of another family.
    """
    found = family(model_id)
    folder = hub.locate(pretrained or found.default, revision, weights=False)
    return found.encoders(hub.read_config(folder))


def known_encoders(model_id: str, pretrained: str) -> tuple[str, ...]:
    """Names of a checkpoint's encoders as far as they are known without a network; () when they are not.

    From the checkpoint's own config where the folder (or the hub's cache) is on this machine, else from the table.
    """
    if model_id not in FAMILIES:
        return ()
    found = FAMILIES[model_id]
    if pretrained == model_id:  # a run that left `pretrained=` out
        pretrained = found.default
    folder = hub.cached(pretrained)
    if folder is not None:
        return found.encoders(hub.read_config(folder))
    return next((c.encoders for c in found.checkpoints if c.hub_id == pretrained), ())
