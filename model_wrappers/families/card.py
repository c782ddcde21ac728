"""What is said of a model family without its code: ids, checkpoints, encoders, settings; no torch needed.

A family's `card.py` holds one `Family`. Ours are in the folders beside this file; a family of another package is named
by an entry point of the group `redundancy_eval.families` (docs/adding_a_family.md).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from redundancy_eval import pruned
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import config_keys

PLACES = ("encoder_weights", "tokenizer")  # arguments that say where files are: of loading, not of the model itself


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint: hub id, encoders in its order, prompt template, licence of the weights."""

    hub_id: str
    encoders: tuple[str, ...]
    template: str
    licence: str


@dataclass(frozen=True)
class Published:
    """How the paper's authors ran a family in VLMEvalKit, as far as their code shows.

    Attributes:
        arguments: model arguments.
        generation: transformers' settings; greedy when empty.
        max_new_tokens: most tokens of an answer.
        joint: stands between the texts of a message; all images stand in front.
        one_image: whether all images but the first are dropped.
        own_choice_wording: whether multiple choice is worded by the wrapper, not by VLMEvalKit.
        impossible: prompt template -> why checkpoints with it cannot be run as published.
    """

    arguments: Mapping[str, str]
    generation: Mapping[str, Any]
    max_new_tokens: int
    joint: str
    one_image: bool
    own_choice_wording: bool
    impossible: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A model family that can be masked.

    Attributes:
        model_id: its id in both frameworks.
        title: one line for tables.
        model: `MODULE:CLASS` of its computation, a FamilyModel (families/base.py).
        default: hub id or folder of the checkpoint that is taken when none is named.
        encoders: reads the encoders' names, in order, from a config; raises SetupError for another family's.
        keys: the keys that its config may have, from the config.
        checkpoints: the public ones.
        sites: where a dropped encoder's output can be replaced: `encoder`, and `projected` where each has a projector.
        checked_with: what the port was compared with.
        costs: of each released encoder, parameters in millions and GFLOPs (2 per multiply-add) for an image or tile,
            counted on the meta device.
        skipped: when a dropped encoder is not run.
        recording: `MODULE:CLASS` of what reads its recorded tensors, a Recording (families/recording.py); "" for none.
        slicing: `MODULE:FUNCTION` of what cuts dropped encoders out of its fusion too, a Slicing (prune/slices.py);
            "" where it cannot be.
        settings: the family's own model arguments, with their meaning.
        published: None where the authors' code for masking the family was not found.
        repositories: reads from a config where the encoders' weights are, if they are not in the checkpoint.
        tokenizer: reads from a config in which hub repository the tokenizer is, where a release leaves it there; "" for
            the checkpoint itself.
        pool: encoders that the language model chooses from for each question (families/routes.py); () for none.
        images_first: whether all images stand before a prompt's text, wherever the framework has them.
    """

    model_id: str
    title: str
    model: str
    default: str
    encoders: Callable[[Mapping[str, Any]], tuple[str, ...]]
    keys: Callable[[Mapping[str, Any]], config_keys.Keys]
    checkpoints: tuple[Checkpoint, ...]
    sites: tuple[str, ...]
    checked_with: str
    costs: Mapping[str, tuple[float, float]]
    skipped: str
    recording: str = ""
    slicing: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    published: Published | None = None
    repositories: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None
    pool: tuple[str, ...] = ()
    images_first: bool = False
    tokenizer: Callable[[Mapping[str, Any]], str] | None = None

    def check(self, config: Mapping[str, Any], where: str = "config.json") -> None:
        """Refuse a config that says anything which is not read here and may decide answers.

        Args:
            config: a checkpoint's config.json.
            where: that file, for messages.

        Raises:
            SetupError: of another family, quantised, or with a key that is not known or not supported.
        """
        self.encoders(config)
        pruned.of_config(config, where)
        released = {key: value for key, value in config.items() if key != pruned.KEY}
        config_keys.check(released, self.keys(config), where)

    def elsewhere(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        """The hub repositories of the encoders whose weights are not in a checkpoint, by its config."""
        return self.repositories(config) if self.repositories else {}

    def tokenizer_of(self, config: Mapping[str, Any]) -> str:
        """The hub repository of a checkpoint's tokenizer, by its config; "" for the checkpoint itself."""
        return self.tokenizer(config) if self.tokenizer else ""

    def named(self, reference: str) -> Any:
        """What `MODULE:NAME` names, imported only here, as it takes torch.

        Raises:
            SetupError: the module has nothing of that name.
        """
        module, _, name = reference.partition(":")
        try:
            return getattr(import_module(module), name)
        except AttributeError as error:
            raise SetupError(f"{self.model_id}: {reference} cannot be imported: {error}") from error
