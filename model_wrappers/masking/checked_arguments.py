"""Which model arguments a masked model takes: checked before anything is loaded, or any file is made."""

from collections.abc import Mapping, Sequence
from typing import Any

from redundancy_eval import model_args
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import registry

_COMMON = (
    "ablation", "calibration", "ablation_seed", "site", "dtype", "attn_implementation", "conv_template", "revision",
    "long_prompt", "many_images", "device_map",
)  # fmt: skip
_NATIVE_ONLY = ("site", "conv_template", "long_prompt", "many_images")
_CHOICES = {"ablation": registry.ABLATIONS, "long_prompt": ("error", "cut"), "many_images": ("error", "first")}


def allowed(model_id: str) -> tuple[str, ...]:
    """Names of a model's arguments beside pretrained, drop, keep and device."""
    if model_id == registry.HF_MASKED:
        return ("encoders", *(name for name in _COMMON if name not in _NATIVE_ONLY))
    return (*_COMMON, *registry.family(model_id).settings)


def check(model_id: str, given: Mapping[str, Any], more: Sequence[str] = ()) -> None:
    """Refuse arguments that a model does not have, or that say nothing.

    Args:
        model_id: `eagle_masked`, ..., `hf_masked`, `masked`; others' are theirs to check.
        given: its arguments; None where one was not given.
        more: arguments that the framework takes for itself.

    Raises:
        SetupError: with the argument.
    """
    if model_id not in registry.MODELS:
        return
    for name in model_args.ALWAYS_SAID:
        if given.get(name) is not None and not str(given[name]).strip():
            raise SetupError(model_args.empty(name))
    if model_id == registry.MASKED:  # what it does not know is the base model's
        return
    known = allowed(model_id)
    unknown = sorted(set(given) - {"pretrained", "drop", "keep", "device", *known, *more})
    if unknown:
        raise SetupError(
            f"{model_id} has no argument {unknown[0]!r}; it takes pretrained, drop, keep, device, {', '.join(known)}"
        )
    choices = {**_CHOICES, "site": registry.FAMILIES[model_id].sites if model_id in registry.FAMILIES else ()}
    for name, values in choices.items():
        if name in given and name in known and str(given[name]) not in values:
            raise SetupError(f"{name} must be one of {', '.join(values)} for {model_id}; not {given[name]!r}")
