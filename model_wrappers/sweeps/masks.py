"""Which masks a sweep is over, as `--masks` tells them; no torch needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from redundancy_eval import masks, store
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import registry

PRESETS = {"every": masks.every, "leave-one-out": masks.leave_one_out, "keep-one": masks.keep_one}
FULL = "none"
# The full model once more, in batches of its own: how far half precision alone makes answers differ.
ALONE = store.ALONE


def encoders_of(model: str, given: Mapping[str, str]) -> tuple[str, ...]:
    """Names of a model's encoders, in order.

    Args:
        model: model id.
        given: its model arguments.

    Raises:
        SetupError: the checkpoint can't be found, or is of another family.
    """
    if model in registry.HOOKED:
        return tuple(registry.parse_encoders(given.get("encoders")))
    own = registry.pruned_of(model, given)
    if own is not None:
        raise SetupError(
            f"{given.get('pretrained')} was pruned of {own.label}: a sweep is over the masks of the whole model; "
            "sweep that, or answer with this one by `redundancy-eval run`"
        )
    return registry.encoders_of(model, given.get("pretrained"), given.get("revision"))


def read(text: str, encoders: Sequence[str]) -> list[str]:
    """`--masks` -> canonical labels of the masks, each once.

    Args:
        text: one of PRESETS, `MASK;MASK;...`, or `@FILE` with a mask in each line.
        encoders: the model's, in order.

    Raises:
        SetupError: an unknown encoder, an unreadable file, or no mask at all.
    """
    if text in PRESETS:
        return [masks.label(mask, encoders) for mask in PRESETS[text](encoders)]
    parts = masks.read_list(Path(text[1:])) if text.startswith("@") else text.split(";")
    named = [part.strip() for part in parts if part.strip() and not part.strip().startswith("#")]
    if not named:
        raise SetupError(f"--masks must be {', '.join(PRESETS)}, 'MASK;MASK;...' or @FILE; not {text!r}")
    return list(dict.fromkeys(masks.label(masks.dropped(encoders, part), encoders) for part in named))
