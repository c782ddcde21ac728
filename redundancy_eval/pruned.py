"""What a pruned checkpoint says of itself: it is another model under a mask, and its results are that mask's.

`redundancy-eval prune` writes it into the checkpoint's config.json under KEY; a run copies it into its record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from redundancy_eval import masks
from redundancy_eval.errors import DataError, SetupError

KEY = "redundancy_eval"
PREDICTED = "predicted"


@dataclass(frozen=True)
class Pruned:
    """A model and the mask that its checkpoint was pruned to.

    Attributes:
        encoders: of the source, in its order.
        dropped: those that are gone, in the same order.
        source: what `pretrained=` said of the model that it was made from.
        checkpoint: digest of that model's files (checkpoints/identity.py).
        ablation: what stands in for what is gone: a constant, or `predicted`.
        site: where.
        settings: the family's own arguments that decide what stands in.
        sliced: whether the fusion was cut too, so that the checkpoint's own config knows only the encoders that stay.
        revision: what `revision=` said beside `source`.
        weights: digest of the pruned files, in a run's record; "" in a config.
        calibration: of `predicted`: what the calibration says of itself (model, checkpoint, site, count, sample), and
            the `file` as it was named.
        folded: of `predicted`: whether the guess is in the weights, so that zeros stand in for what is gone.
    """

    encoders: tuple[str, ...]
    dropped: tuple[str, ...]
    source: str
    checkpoint: str
    ablation: str = "zero"
    site: str = "encoder"
    settings: Mapping[str, str] = field(default_factory=dict)
    sliced: bool = False
    revision: str = ""
    weights: str = ""
    calibration: Mapping[str, str] = field(default_factory=dict)
    folded: bool = False

    @property
    def refitted(self) -> bool:
        """Whether what is gone is guessed from what stays: such a checkpoint has this one mask alone."""
        return self.ablation == PREDICTED

    @property
    def sample(self) -> dict[str, str]:
        """What a run's record says of the calibration."""
        return {name: value for name, value in self.calibration.items() if name != "file"}

    @property
    def label(self) -> str:
        """Canonical text of what is gone."""
        return masks.label(self.dropped, self.encoders)

    def mask(self, drop: object = None, keep: object = None) -> tuple[str, ...]:
        """The mask of the source that this checkpoint under `drop=` or `keep=` is.

        Raises:
            SetupError: an encoder is unknown, or `keep=` names one that is gone, or it is refitted to another mask.
        """
        more = masks.dropped(self.encoders, drop, keep)
        if self.refitted and set(more) - set(self.dropped):
            raise SetupError(
                f"this checkpoint was refitted without {self.label}; other masks are of the whole model, {self.source}"
            )
        back = [name for name in self.dropped if name not in more]
        if str(keep or "").strip() and back:
            raise SetupError(f"keep={keep}: this checkpoint was pruned of {self.label}, so {back[0]} cannot be kept")
        return tuple(name for name in self.encoders if name in more or name in self.dropped)

    def stand_ins(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Model arguments with what this checkpoint fixes put in.

        Args:
            given: model arguments; None where one was not given.

        Raises:
            SetupError: one contradicts it.
        """
        fixed = {"ablation": self.ablation, "site": self.site, **self.settings}
        for name, value in fixed.items():
            if given.get(name) not in (None, value):
                raise SetupError(
                    f"{name}={given[name]}: this checkpoint was pruned of {self.label} with {name}={value}, which holds"
                )
        return {**given, **fixed}

    def as_mask(self, arguments: Mapping[str, str]) -> dict[str, str]:
        """A run's model arguments as they would be for the same mask of the source."""
        mask = self.mask(arguments.get("drop"), arguments.get("keep"))
        own = {"pretrained": self.source, "drop": masks.label(mask, self.encoders), **self.settings}
        own |= {"revision": self.revision} if self.revision else {}
        own |= {"calibration": self.calibration["file"]} if self.refitted else {}
        defaults = {"ablation": "zero", "site": "encoder"}  # left out, as who masks the source leaves them
        own |= {name: value for name in defaults if (value := getattr(self, name)) != defaults[name]}
        return {name: value for name, value in arguments.items() if name not in ("keep", "revision")} | own

    def as_json(self) -> dict[str, Any]:
        """What is written down; `of` reads it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def of(told: Any, where: object) -> Pruned:
    """What was written down.

    Args:
        told: JSON, as `as_json` makes it.
        where: the file, for messages.

    Raises:
        DataError: it is nothing of the kind.
    """
    names = ("encoders", "dropped")
    texts = ("source", "checkpoint", "ablation", "site", "revision", "weights")
    own = {} if not isinstance(told, dict) else told
    mappings, flags = ("settings", "calibration"), ("sliced", "folded")
    fits = (
        set(own) <= {*names, *texts, *mappings, *flags}
        and all(_texts(own.get(name)) for name in names)
        and all(isinstance(own.get(name, ""), str) for name in texts)
        and all(isinstance(own.get(name, {}), dict) and _texts(list(own.get(name, {}).values())) for name in mappings)
        and all(isinstance(own.get(name, False), bool) for name in flags)
        and (own.get("ablation") != PREDICTED or "file" in own.get("calibration", {}))
    )
    if not fits or not own["dropped"] or not set(own["dropped"]) <= set(own["encoders"]):
        raise DataError(f"{where}: {KEY} does not say what the checkpoint was pruned of, as redundancy-eval prune does")
    missing = [name for name in ("source", "checkpoint") if name not in own]
    if missing:
        raise DataError(f"{where}: {KEY} lacks {missing[0]}")
    return Pruned(**{**own, **{name: tuple(own[name]) for name in names}})


def of_config(config: Mapping[str, Any], where: object = "config.json") -> Pruned | None:
    """What a checkpoint's config says of it; None of one that is whole.

    Raises:
        SetupError: it is damaged.
    """
    if KEY not in config:
        return None
    try:
        return of(config[KEY], where)
    except DataError as error:
        raise SetupError(str(error)) from None


def _texts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(text, str) for text in value)
