"""The model that a planned sweep is over, as far as its config tells; no weights are read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from redundancy_eval import masks
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.costs import operations
from redundancy_eval.model_wrappers.costs.operations import Costs
from redundancy_eval.model_wrappers.families import registry, templates
from redundancy_eval.model_wrappers.families.base import FamilyModel
from redundancy_eval.model_wrappers.masking.loading import choose_dtype
from redundancy_eval.model_wrappers.sweeps.route import Route

SAMPLE = 64  # prompts of a task that are tokenised


@dataclass(frozen=True)
class Subject:
    """A model; `skeleton` and `costs` are None for one with hooks.

    `given` are its arguments, `measure` tells how many tokens a text with so many images takes without them, and
    `measured` how that is known.
    """

    model_id: str
    given: Mapping[str, str]
    device: str
    dtype: torch.dtype
    skeleton: FamilyModel | None
    costs: Costs | None
    measure: Callable[[str, int], float] | None
    measured: str

    @classmethod
    def of(cls, route: Route) -> "Subject":
        """The model of a sweep.

        Raises:
            SetupError: an argument makes no sense, or the checkpoint's config is not there.
        """
        model_id, given = route.model, route.model_arguments
        device = route.resolved()["device"]
        dtype = choose_dtype(given.get("dtype", "auto"), torch.device(device))
        if model_id in registry.HOOKED:
            return cls(model_id, given, device, dtype, None, None, None, "")
        folder = folder_of(model_id, given)
        model = operations.skeleton(model_id, folder, given)
        found = operations.of(model, model_id, hub.read_config(folder))
        return cls(model_id, given, device, dtype, model, found, *_measure(model, folder, given))

    def runs(self, encoders: Sequence[str], labels: Sequence[str]) -> dict[str, Sequence[str]]:
        """Mask -> the encoders that run under it. With hooks all do."""
        if self.skeleton is None:
            return {label: encoders for label in labels}
        own = {key: self.given[key] for key in registry.family(self.model_id).settings if key in self.given}
        site, needed = self.given.get("site", "encoder"), self.skeleton.needed
        return {label: needed(encoders, masks.dropped(encoders, label), site, **own) for label in labels}


def folder_of(model_id: str, given: Mapping[str, str]) -> Path:
    """Where a model's checkpoint is, with or without its weights.

    Raises:
        SetupError: its config is not there.
    """
    pretrained = given.get("pretrained") or registry.family(model_id).default
    return hub.locate(pretrained, given.get("revision"), weights=False)


def _measure(model: FamilyModel, folder: Path, given: Mapping[str, str]) -> tuple[Callable[[str, int], float], str]:
    """See Subject."""
    if given.get("conv_template"):
        templates.template(given["conv_template"])
    try:
        tokenizer = model.read_tokenizer(folder)
    except SetupError:
        return lambda words, images: 40 + len(words) / 4, "four characters a token and 40 tokens for the template"
    name = given.get("conv_template") or model.template_for(tokenizer)
    template = templates.template(name or templates.template_for(tokenizer))

    def measure(words: str, images: int) -> float:
        placed, _ = templates.place_images(words, images, template)
        return len(templates.tokenize(tokenizer, template.render([placed]), template)) - images

    return measure, f"about {SAMPLE} of each task are tokenised, in the model's template"
