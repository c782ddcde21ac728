"""A checkpoint without the encoders that a mask drops, which answers as the mask does.

Only the encoders' tensors go; the fusion stays whole and config.json remembers the mask, so that what answers is the
masked model's own code (exact to the bit). With slicing, the fusion's columns for them go too (prune/slices.py). Under
`predicted` what is gone is guessed from what stays: in the fusion's own weights, or by one more matrix (refit.py).
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from torch import Tensor

from redundancy_eval import __version__, files, masks, model_args, pruned
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, identity, weights
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.families.base import model_class
from redundancy_eval.model_wrappers.families.card import PLACES, Family
from redundancy_eval.model_wrappers.masking import ablations, checked_arguments, stand_ins
from redundancy_eval.model_wrappers.prune import card, refit, shards, slices
from redundancy_eval.pruned import Pruned

SUMMARY = "pruned.json"
PRUNED_TO = ("zero", "mean", pruned.PREDICTED)  # ablations that are constants, or functions of what stays
_COPIED = ("*.json", "*.model", "*.txt", "*.jinja", "LICEN[SC]E*", "NOTICE*")
_NOT_COPIED = ("config.json", "*.index.json", SUMMARY)


@dataclass(frozen=True)
class Asked:
    """What is to be pruned: a checkpoint, read, and the mask of the whole model that the result will be.

    `mask` is of the encoders that the checkpoint's own config names; `own` is what the result says of itself; `guessed`
    is what `predicted` puts in the place of what is gone.
    """

    family: Family
    folder: Path
    config: Mapping[str, Any]
    settings: Mapping[str, str]
    mask: tuple[str, ...]
    own: Pruned
    calibration: ablations.Calibration | None
    guessed: refit.Refit | None = None


def read(model_id: str, given: Mapping[str, str], slicing: bool) -> Asked:
    """Read what is asked for; no weights are loaded.

    Args:
        model_id: of a family.
        given: model arguments, the mask among them.
        slicing: whether the fusion is cut, too.

    Raises:
        SetupError: it cannot be pruned so, and why.
    """
    if model_id in registry.HOOKED:
        raise SetupError(
            f"{model_id}: what its encoders' outputs become is not known here, so nothing can be left out; "
            f"prune takes {', '.join(registry.FAMILIES)}"
        )
    family = registry.family(model_id)
    checked_arguments.check(model_id, given)
    pretrained = given.get("pretrained") or family.default
    folder = hub.locate(pretrained, given.get("revision"))
    config = hub.read_config(folder)
    family.check(config, str(folder / "config.json"))
    names, before = family.encoders(config), pruned.of_config(config, folder / "config.json")
    asked = given.get("drop"), given.get("keep")
    mask = masks.dropped(names, *asked) if before is None else before.mask(*asked)
    fixed: Mapping[str, Any] = given if before is None else before.stand_ins(given)
    if not mask or (before is not None and mask == before.dropped):
        raise SetupError(f"nothing to prune: --model_args drop=... says which of {', '.join(names)} go")
    ablation, site = fixed.get("ablation") or "zero", fixed.get("site") or "encoder"
    if ablation not in PRUNED_TO:
        raise SetupError(f"ablation={ablation} depends on the image: only {', '.join(PRUNED_TO)} can be pruned to")
    if slicing and ablation == "mean":
        raise SetupError("--slice: only what zeros met can be cut out of the fusion; leave ablation= or --slice out")
    refitting = ablation == pruned.PREDICTED
    if refitting and before is not None:
        raise SetupError(f"{pretrained} was pruned of {before.label}: refit the whole model, {before.source}")
    own_settings = {key: str(fixed[key]) for key in family.settings if fixed.get(key) is not None and key not in PLACES}
    kind = model_class(family)
    kind.check_ablation(ablation, **own_settings)
    still = [name for name in kind.needed(names, mask, site, **own_settings) if name in mask]
    if still:
        raise SetupError(
            f"{still[0]} runs although it is dropped (site={site}: what else is made of its output stays), so dropping "
            f"it saves nothing; {model_id} skips a dropped encoder {family.skipped}"
        )
    source = pretrained if before is None else before.source
    own = Pruned(
        encoders=names if before is None else before.encoders,
        dropped=mask,
        source=source,
        checkpoint=_digest(model_id, given) if before is None else before.checkpoint,
        ablation=ablation,
        site=site,
        settings={key: value for key, value in own_settings.items() if model_args.kind(key) == "stand-in"},
        sliced=slicing or (before is not None and before.sliced),
        revision=given.get("revision", "") if before is None else before.revision,
    )
    calibration = given.get("calibration")
    if ablation == pruned.PREDICTED:
        if not calibration:
            raise SetupError("ablation=predicted needs calibration=FILE (redundancy-eval calibrate makes one)")
        told = ablations.sample(ablations.identity(Path(calibration)))
        own = replace(own, calibration={**told, "file": calibration})
    if before is not None:
        calibration = stand_ins.kept_constants(folder, before, calibration)
    wanted = stand_ins.Wanted(model_id, source, site, own.checkpoint, stand_ins.settings(model_id, own_settings))
    instead = stand_ins.read_ablation(ablation, calibration, 0, wanted)
    mine = tuple(name for name in names if name in mask)
    found = Asked(family, folder, config, own_settings, mine, own, instead.calibration)
    if instead.predictor is None:
        return found
    skeleton = _skeleton(found, names)
    stand_ins.check_layout(instead.predictor, refit.layout(skeleton))
    guessed = refit.Refit(instead.predictor.layout, mask, instead.predictor.solve(mask))
    return replace(found, own=replace(own, folded=bool(skeleton.first_layer)), guessed=guessed)


def write(asked: Asked, out: Path, slicing: bool) -> dict[str, Any]:
    """Write the checkpoint; returns what its pruned.json says.

    Args:
        asked: as `read` gave it.
        out: a folder that is not there, or empty.
        slicing: see `read`.

    Raises:
        SetupError: the folder holds something, or weights cannot be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SetupError(f"{out} is there already; name a folder that is not, or an empty one")
    config, cut = slices.of(asked.family)(asked.config, asked.mask) if slicing else (dict(asked.config), _whole)
    gone = _gone(asked)
    elsewhere = set(asked.mask) & set(asked.family.elsewhere(asked.config))
    if not slicing and not gone and asked.calibration is None and asked.guessed is None and not elsewhere:
        raise SetupError(f"{asked.folder} holds no weights of {'+'.join(asked.mask)}: it is pruned already")
    fold = (
        _whole
        if asked.guessed is None or not asked.own.folded
        else asked.guessed.fold(asked.folder, _skeleton(asked, ()))
    )
    out.mkdir(parents=True, exist_ok=True)
    written = shards.write(asked.folder, out, gone, lambda released, value: cut(*fold(released, value)))
    _copy(asked.folder, out)
    kept = list(written.names)
    if asked.calibration is not None:
        _keep_means(asked, out / stand_ins.CONSTANTS)
        kept.append(stand_ins.CONSTANTS)
    if asked.guessed is not None and not asked.own.folded:
        asked.guessed.write(out / stand_ins.GUESS)
        kept.append(stand_ins.GUESS)
    before = sum(path.stat().st_size for path in hub.weight_files(asked.folder))
    summary = {
        **asked.own.as_json(),
        "mask": asked.own.label,
        "redundancy-eval": __version__,
        "source_commit": identity.revisions({"checkpoint": asked.folder}).get("checkpoint", ""),
        "tensors_dropped": len(gone),
        "encoder_weights": "elsewhere" if elsewhere else "in the checkpoint",
        "bytes": {"before": before, "after": written.size},
        "parameters": written.parameters,
        "files": {name: files.sha256(out / name) for name in kept},
        **({} if asked.guessed is None else {"held_out_r2": asked.guessed.r2}),
    }
    files.write_json(out / SUMMARY, summary)
    (out / card.NAME).write_text(card.text(asked.own, asked.family, asked.folder, summary), encoding="utf-8")
    # Last: without it the folder is no checkpoint.
    files.write_json(out / "config.json", {**config, pruned.KEY: asked.own.as_json()})
    return summary


def _digest(model_id: str, given: Mapping[str, str]) -> str:
    return identity.digest(identity.of(registry.folders(model_id, given)))


def _whole(released: str, value: Tensor) -> tuple[str, Tensor]:
    return released, value


def _skeleton(asked: Asked, keep: Sequence[str]) -> Any:
    """The model with some encoders, without weights."""
    with weights.building(asked.folder):
        return model_class(asked.family)(asked.config, keep, **asked.settings)


def _gone(asked: Asked) -> set[str]:
    """Released names of the dropped encoders' tensors, as far as they are in the checkpoint."""
    names = asked.family.encoders(asked.config)
    released, full = shards.names(asked.folder), _skeleton(asked, names)
    gone: set[str] = set()
    for name in asked.mask:
        gone |= shards.owned(released, full, _skeleton(asked, [other for other in names if other != name]))
    return gone


def _copy(folder: Path, out: Path) -> None:
    """Tokenizer, processor, generation settings and licence."""
    for path in sorted(folder.iterdir()):
        fits = any(fnmatch(path.name, pattern) for pattern in _COPIED)
        if path.is_file() and fits and not any(fnmatch(path.name, pattern) for pattern in _NOT_COPIED):
            shutil.copyfile(path, out / path.name)


def _keep_means(asked: Asked, path: Path) -> None:
    """The means of what is gone, as a calibration that has nothing else."""
    assert asked.calibration is not None
    entries = model_class(asked.family).replaced(asked.own.dropped, asked.own.site, **asked.settings)
    means = {f"{name}/mean": asked.calibration.tensors.get(f"{name}/mean") for name in entries}
    absent = [name for name, value in means.items() if value is None]
    if absent:
        raise SetupError(f"the calibration has no {absent[0]}; make one for this model and site")
    found = {name: value for name, value in means.items() if value is not None}
    ablations.write(ablations.Calibration(asked.calibration.identity, asked.calibration.images, found), path)


def described(summary: Mapping[str, Any], out: Path) -> str:
    """A line on what was written."""
    size = summary["bytes"]
    text = (
        f"{out}: {summary['mask']} dropped; {size['before'] / 1e6:,.1f} -> {size['after'] / 1e6:,.1f} MB "
        f"({size['after'] / size['before']:.1%}), {summary['tensors_dropped']} tensors left out"
    )
    if summary["encoder_weights"] == "elsewhere":
        text += " (encoders of this family have repositories of their own: those dropped are not fetched)"
    return text
