"""The model families, ours and those of other packages: found by model id; no torch needed.

Both frameworks' plug-ins, the commands and the readers look families up here. Everything that is known of one stands
in its folder: `card.py` first.
"""

from collections.abc import Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from redundancy_eval import masks, pruned
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, identity
from redundancy_eval.model_wrappers.families.card import Family
from redundancy_eval.pruned import Pruned

GROUP = "redundancy_eval.families"  # of entry points that name a Family each
HF_MASKED, MASKED = HOOKED = ("hf_masked", "masked")  # models whose encoders the argument `encoders` names
ABLATIONS = ("zero", "mean", "noise", "shuffle", "predicted")  # what may stand in for a dropped encoder (ablations.py)
_OURS = (  # folders here, in the order of tables
    "eagle", "cambrian", "imof", "deepseek_vl", "eagle2", "deepseek_ocr", "prismatic", "mgm",
)  # fmt: skip


def collected() -> dict[str, Family]:
    """Model id -> family: ours, then those that installed packages name by entry points.

    Raises:
        SetupError: an entry point is broken, names no Family, or one whose id is taken; with its package.
    """
    ours = (import_module(f"{__package__}.{name}.card").FAMILY for name in _OURS)
    found: dict[str, Family] = {family.model_id: family for family in ours}
    for point in sorted(metadata.entry_points(group=GROUP)):
        source = f"the package {point.dist.name}" if point.dist else point.value
        try:
            family = point.load()
        except Exception as error:  # any kind, as it runs the package's own code
            reason = " ".join(str(error).split()) or type(error).__name__
            raise SetupError(f"{source}: its model family {point.value} cannot be read: {reason}") from error
        if not isinstance(family, Family):
            raise SetupError(f"{source}: {point.value} is a {type(family).__name__}, no Family")
        if family.model_id in (*found, *HOOKED):
            raise SetupError(f"{source}: there is a model {family.model_id!r} already; uninstall one of the two")
        found[family.model_id] = family
    return found


FAMILIES: Mapping[str, Family] = collected()
MODELS = (*FAMILIES, *HOOKED)  # ids of all masked models


def images_first(model_id: str) -> bool:
    """Whether a model's prompts have all images before the text: by its family, or by its own chat template."""
    return model_id == HF_MASKED or (model_id in FAMILIES and FAMILIES[model_id].images_first)


def parse_encoders(text: object) -> dict[str, str]:
    """Read the argument `encoders` of hf_masked and masked: `NAME:MODULE.PATH+NAME:MODULE.PATH` -> {name: path}.

    Raises:
        SetupError: the text has another form, or names one encoder twice.
    """
    found: dict[str, str] = {}
    for part in filter(None, str(text or "").split("+")):
        name, colon, path = (piece.strip() for piece in part.partition(":"))
        if not colon or not name or not path:
            raise SetupError(
                f"encoders must be NAME:MODULE.PATH joined by +, e.g. clip:model.vision_tower; not {text!r}"
            )
        name = masks.check_name(name).lower()
        if name in found:
            raise SetupError(f"encoders names {name!r} twice: {text!r}")
        found[name] = path
    if not found:
        raise SetupError("encoders=NAME:MODULE.PATH+... must say which modules the model's vision encoders are")
    return found


def family(model_id: str) -> Family:
    """The family of a model id.

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


def pruned_of(model_id: str, given: Mapping[str, Any]) -> Pruned | None:
    """What a family's checkpoint was pruned of; None of one that is whole, and of other models.

    Raises:
        SetupError: the checkpoint can't be found.
    """
    if model_id not in FAMILIES:
        return None
    folder = hub.locate(
        str(given.get("pretrained") or FAMILIES[model_id].default), given.get("revision"), weights=False
    )
    return pruned.of_config(hub.read_config(folder), folder / "config.json")


def folders(model_id: str, given: Mapping[str, Any]) -> dict[str, Path]:
    """Where that lies which decides a model's answers: `checkpoint`, and what has repositories of its own.

    These are encoders, by their names, and `tokenizer`.

    Args:
        model_id: of a family, or `hf_masked`.
        given: its model arguments.

    Raises:
        SetupError: none are named, or they are not there and cannot be fetched.
    """
    found = FAMILIES.get(model_id)
    pretrained = given.get("pretrained") or (found.default if found else "")
    if not pretrained:
        raise SetupError(f"{model_id} needs pretrained= (a hub id or folder)")
    places = {"checkpoint": hub.locate(str(pretrained), given.get("revision"))}
    if found and (found.repositories or found.tokenizer):
        config, folder = hub.read_config(places["checkpoint"]), places["checkpoint"]
        for name, repository in found.elsewhere(config).items():
            places[name] = hub.locate_encoder(repository, given.get("encoder_weights"))
        words = hub.locate_tokenizer(folder, found.tokenizer_of(config), given.get("tokenizer"))
        places |= {} if words == folder else {identity.TOKENIZER: words}
    return places


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
        config = hub.read_config(folder)
        own = pruned.of_config(config, folder / "config.json")
        if own is not None:
            raise SetupError(
                f"{pretrained} was pruned of {own.label}, and no record beside its results says so: run it with "
                "redundancy-eval, which writes one"
            )
        return found.encoders(config)
    return next((c.encoders for c in found.checkpoints if c.hub_id == pretrained), ())
