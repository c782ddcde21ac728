"""From model arguments to what stands in for dropped encoders; a calibration of another model is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from redundancy_eval import model_args, pruned
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import identity
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.families.card import PLACES
from redundancy_eval.model_wrappers.masking import ablations, predicted
from redundancy_eval.model_wrappers.masking.predicted import Layout, Predictor

# Of a pruned checkpoint: means of what is gone, or its guess from what stays.
CONSTANTS, GUESS = "dropped_means.safetensors", "dropped_guess.safetensors"


@dataclass(frozen=True)
class Wanted:
    """What a calibration must be of.

    Attributes:
        model, checkpoint, site: as model arguments say.
        weights: digest of the checkpoint's files.
        settings: see `settings`; None where they are not looked at.
        dtype: number format; "" where none is looked at.
    """

    model: str
    checkpoint: str
    site: str
    weights: str = ""
    settings: str | None = None
    dtype: str = ""


def bound_to(model_id: str, given: Mapping[str, Any], dtype: torch.dtype) -> dict[str, str]:
    """What of `Wanted` follows from a model's files, arguments and number format.

    Raises:
        SetupError: the checkpoint is not there.
    """
    told = {key: value for key, value in given.items() if value is not None}
    return {
        "weights": identity.digest(identity.of(registry.folders(model_id, told))),
        "settings": settings(model_id, told),
        "dtype": str(dtype).removeprefix("torch."),
    }


def settings(model_id: str, given: Mapping[str, Any]) -> str:
    """The model arguments that decide what encoders give, beside the checkpoint."""
    names = ("encoders",) if model_id == registry.HF_MASKED else registry.family(model_id).settings
    deciding = sorted(key for key in names if key in given and key not in PLACES)
    return ",".join(f"{key}={given[key]}" for key in deciding if model_args.kind(key) == "answer")


def read_ablation(
    kind: str, calibration: str | None, seed: int, wanted: Wanted, device: torch.device | None = None
) -> ablations.Ablation:
    """The ablation that model arguments ask for.

    Args:
        kind: one of registry.ABLATIONS.
        calibration: file that it needs.
        seed: of what is random.
        wanted: what the calibration must be of.
        device: of the model, where the maps of `predicted` are solved.

    Raises:
        SetupError: a calibration is missing, or was made for another model, checkpoint or site.
    """
    if not str(seed).lstrip("-").isdigit():
        raise SetupError(f"ablation_seed must be a whole number; not {seed!r}")
    if calibration is None or kind == "zero":
        return ablations.Ablation(kind, None, int(seed))
    path = Path(calibration)
    _check_bound(path, wanted, kind)
    found = ablations.read(path, sums=kind == "predicted")
    seen = frozenset(found.images)
    if found.sums is None:
        return ablations.Ablation(kind, found, int(seed), images=seen)
    if wanted.site != "encoder":
        raise SetupError(f"ablation=predicted is for site=encoder; not site={wanted.site}")
    found.sums.check()
    solver = device if device is not None and device.type == "cuda" else None  # others may lack float64
    predictor = Predictor(found.sums.layout, partial(found.sums.guess, device=solver))
    return ablations.Ablation(kind, None, int(seed), predictor, seen)


def _check_bound(path: Path, wanted: Wanted, kind: str) -> None:
    told = ablations.identity(path)
    same_files = bool(told.get("weights")) and told["weights"] == wanted.weights
    for key in ("model", "site") if same_files else ("model", "checkpoint", "site"):
        want = getattr(wanted, key)
        if told.get(key) != want:
            raise SetupError(f"{path} was made for {key} {told.get(key)!r}, not {want!r}")
    if told.get("weights") and wanted.weights and not same_files:
        raise SetupError(f"{path} was made for other weights than {wanted.checkpoint} has now; make it anew")
    if wanted.settings is not None and told.get("settings", wanted.settings) != wanted.settings:
        had, has = (text or "none of its own arguments" for text in (told["settings"], wanted.settings))
        raise SetupError(f"{path} was made with {had}, the model runs with {has}")
    half = [name in model_args.HALF for name in (told.get("dtype"), wanted.dtype)]
    if wanted.dtype and kind == "predicted" and half[0] != half[1]:
        raise SetupError(
            f"{path} was made in {told.get('dtype')}, the model runs in {wanted.dtype}; make one with dtype="
        )


def linear_redundancy(file: str, wanted: Wanted) -> dict[str, float]:
    """Held-out R2 of each encoder's output from all others', by a calibration; the model is not run.

    Raises:
        SetupError: the file was made for another model, checkpoint or site, or holds nothing to guess from.
    """
    path = Path(file)
    _check_bound(path, wanted, "predicted")
    found = ablations.read(path, sums=True)
    if found.sums is None or not found.sums.held.count:
        raise SetupError(f"{path} holds no sums of encoders' outputs at the same places on held-out images")
    return {name: found.sums.guess([name]).r2 for name in found.sums.layout.channels}


def check_layout(predictor: Predictor, own: Layout) -> None:
    """Refuse linear guesses of other encoders than a model's.

    Raises:
        SetupError: encoders, channels or grids differ.
    """
    if predictor.layout != own:
        raise SetupError(
            f"the calibration is of {predictor.layout.text} (encoder, channels, side of a place), "
            f"the model has {own.text}"
        )


def refitted(folder: Path, own: pruned.Pruned) -> ablations.Ablation:
    """What stands in for what a refitted checkpoint lost: its own linear guess, or zeros where that is in the weights.

    Raises:
        SetupError: the guess is missing or damaged.
    """
    if own.folded:
        return ablations.Ablation()
    return ablations.Ablation(own.ablation, predictor=predicted.stored(folder / GUESS))


def kept_constants(folder: Path, own: pruned.Pruned, calibration: str | None = None) -> str | None:
    """The calibration of a pruned checkpoint: a given one of more encoders, or the means of what is gone.

    Raises:
        SetupError: the given one is of another sample.
    """
    if own.ablation == "zero":
        return None
    if calibration is None:
        return str(folder / CONSTANTS)
    samples = [ablations.identity(path).get("sample") for path in (Path(calibration), folder / CONSTANTS)]
    if samples[0] != samples[1]:
        raise SetupError(f"{calibration} is of another sample than the means that {folder} was pruned to")
    return calibration
