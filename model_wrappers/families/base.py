"""What a native family gives: its encoders, preprocessing, fusion and language model. All else is written once.

The order of a forward pass is preprocess -> encode -> project -> fuse -> language model. Masks go in after `encode`
(site `encoder`) or after `project` (site `projected`, in families with a projector for each encoder). A *unit* is
what an encoder sees at once: an image, or one of its tiles.
"""

from collections.abc import Collection, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from PIL import Image
from torch import Tensor, nn

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.families import language_models, slow_tokens, templates
from redundancy_eval.model_wrappers.families.card import Family
from redundancy_eval.model_wrappers.families.encoder import Encoder as Encoder
from redundancy_eval.model_wrappers.families.routes import Router

Model = TypeVar("Model", bound="FamilyModel")


@dataclass(frozen=True)
class Visual:
    """What stands for one image in the prompt.

    Attributes:
        embeddings: (tokens, hidden).
        extra: what else the language model needs.
        routed: the encoders that its question was routed to, in families that choose; None in the others.
    """

    embeddings: Tensor
    extra: Any = None
    routed: tuple[str, ...] | None = None


class MultiEncoder(Protocol):
    """What masking calls of a family's model; FamilyModel says what each does.

    A torch module lets any misspelt name pass a type checker, a protocol does not.
    """

    encoder_names: tuple[str, ...]
    released_names: dict[str, str]
    language_model: Any
    max_length: int | None
    template: str
    max_images: int | None
    eos: tuple[int, ...]

    @staticmethod
    def needed(names: Sequence[str], mask: Collection[str], site: str, **settings: Any) -> tuple[str, ...]:
        """Encoders that must run under a mask."""

    @staticmethod
    def replaced(mask: Sequence[str], site: str, **settings: Any) -> tuple[str, ...]:
        """Entries that are replaced at a site under a mask."""

    @staticmethod
    def feeds(mask: Sequence[str], **settings: Any) -> tuple[str, ...]:
        """Dropped encoders without which a kept one sees something else."""

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of a unit of each encoder."""

    def place_sides(self) -> dict[str, int]:
        """Of each encoder, the side of its squares of tokens that lie at one place."""

    def layouts(self, images: Sequence[Image.Image]) -> list[Any]:
        """What the fusion must know of each image."""

    def units(self, layout: Any) -> int:
        """How many units an image has."""

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str]) -> dict[str, Tensor]:
        """Pixels that the named encoders need."""

    def join(self, pixels: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Pixels of images that were preprocessed each by itself."""

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders."""

    def project(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The projectors of the encoders that are given."""

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Any]) -> list[Visual]:
        """What stands for each image."""

    def router(self) -> Router | None:
        """The model itself, where it chooses encoders for each question."""

    def check_ids(self, ids: Sequence[int], name: str) -> None:
        """Refuse a prompt that the architecture would misread."""

    def prefill(self, visuals: Sequence[Sequence[Visual]], offsets: Sequence[int]) -> AbstractContextManager[Any]:
        """Context in which the language model runs."""

    def answer(self, tokenizer: Any, ids: Sequence[int]) -> str:
        """The text of an answer."""


class FamilyModel(nn.Module):
    """A multi-encoder model, taken apart where masks go in. Subclasses hold the family's computation.

    A subclass is made of (config, keep, attention, **settings): the checkpoint's config.json; the encoders to build,
    of those that the checkpoint holds, None for all; `attn_implementation`; and the family's own model arguments but
    for card.PLACES, as `Family.settings` names them. The others cannot be run, only replaced.

    Attributes:
        family: what is said of it without its code.
        encoders: the encoders that are built, by name, where they are modules of their own.
        encoder_names: names of all encoders in the checkpoint's order, built or not.
        released_names: name in the checkpoint (or in a recording) -> our name of each encoder.
        language_model: a transformers causal language model.
        max_length: limit of the prompt with its images, in tokens; None where there is none.
        template: name of the conversation template that the checkpoint was trained with; "" to tell it from the
            tokenizer.
        max_images: how many images a prompt may have; None for any number.
        slow_release: release of transformers whose slow tokenizer the original code puts prompts through, where a
            checkpoint has a `tokenizer.model`; None where it takes fast ones.
        eos: token ids that end an answer, where the checkpoint's own configs are not to be trusted with them.
        first_layer: our name of the linear layer that all encoders' channels enter side by side, in their order, with
            nothing before it: a linear guess folds into its weights; "" where there is none.
    """

    family: Family
    encoders: MutableMapping[str, Encoder]
    encoder_names: tuple[str, ...]
    released_names: dict[str, str]
    language_model: Any
    max_length: int | None = None
    template: str = ""
    max_images: int | None = None
    slow_release: slow_tokens.Release | None = None
    eos: tuple[int, ...] = ()
    first_layer: str = ""

    def __init__(
        self,
        config: Mapping[str, Any],
        keep: Collection[str] | None = None,
        attention: str = "sdpa",
        **settings: Any,
    ):
        super().__init__()
        self.encoders = nn.ModuleDict()
        self.encoder_names = self.family.encoders(config)
        self.released_names = {name: name for name in self.encoder_names}

    @classmethod
    def load(
        cls: type[Model],
        folder: Path,
        keep: Collection[str] | None = None,
        dtype: torch.dtype = torch.float32,
        device: weights.Device = "cpu",
        attention: str = "sdpa",
        config: Mapping[str, Any] | None = None,
        encoder_weights: str | Path | None = None,
        tokenizer: str | None = None,
        **settings: Any,
    ) -> tuple[Model, Any, weights.LoadReport]:
        """Load a released checkpoint: the model, its tokenizer, and what loading found in the checkpoint itself.

        Args:
            folder: local checkpoint folder.
            keep: encoders whose weights to load; None for all.
            dtype: of all floating tensors.
            device: of the model; `auto` spreads it over what there is.
            attention: `attn_implementation`.
            config: stands in for the folder's config.json.
            encoder_weights: folder that holds the encoders' own repositories as ORG/NAME, for families whose
                checkpoints do not hold them; the hub when None.
            tokenizer: folder or hub id of the tokenizer, for families whose checkpoints do not hold it.
            settings: the family's own model arguments.

        Raises:
            SetupError: not a checkpoint of the family, an encoder is not found, or tensors are missing.
        """
        config = hub.read_config(folder) if config is None else config
        cls.family.check(config, str(folder / "config.json"))
        words = hub.locate_tokenizer(folder, cls.family.tokenizer_of(config), tokenizer)
        with weights.building(folder):
            model = cls(config, keep, attention, **settings)
        places = {
            name: hub.locate_encoder(repository, encoder_weights)
            for name, repository in cls.family.elsewhere(config).items()
            if keep is None or name in keep
        }
        for name, place in places.items():
            model.add_encoder(name, place, attention)
        device = weights.spread(model, device, dtype, model.whole())
        report = weights.load(
            model, folder, model.rename, dtype, device, release=model.release, tied=model.tied(config),
            expected=lambda own: not own.startswith(tuple(f"encoders.{name}." for name in places)),
            optional=model.optional,
        )  # fmt: skip
        for name, place in places.items():
            fill(model.encoders[name], place, dtype, weights.device_of(device, f"encoders.{name}"))
        model.check_weights(folder, places)
        model.read_files(encoder_weights)
        model.restore_buffers()
        weights.settle(model, device)
        made = model.read_tokenizer(words)
        model.template, model.eos = model.template_for(made), model.ends(made)
        return model, made, report

    @staticmethod
    def needed(names: Sequence[str], mask: Collection[str], site: str, **settings: Any) -> tuple[str, ...]:
        """Encoders that must run under a mask: the kept ones, and dropped ones whose output is used elsewhere."""
        return tuple(name for name in names if name not in mask)

    @staticmethod
    def replaced(mask: Sequence[str], site: str, **settings: Any) -> tuple[str, ...]:
        """Entries that are replaced at a site under a mask: the dropped encoders."""
        return tuple(mask)

    @staticmethod
    def check_ablation(ablation: str, **settings: Any) -> None:
        """Refuse what would stand in for nothing.

        Raises:
            SetupError: and why.
        """

    @staticmethod
    def feeds(mask: Sequence[str], **settings: Any) -> tuple[str, ...]:
        """Dropped encoders without which a kept one sees something else, such as `sam feeds clip`."""
        return ()

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of a unit of each encoder, at a site."""
        raise NotImplementedError

    def place_sides(self) -> dict[str, int]:
        """Of each encoder at site `encoder`, the side of its squares of tokens that lie at one place of the image.

        By it one encoder's output is guessed from others' (masking/predicted.py). 1 everywhere, as here, is one grid
        for all, with a token of each encoder at a place; a family whose grids are parts of each other says how.

        Raises:
            SetupError: encoders' tokens do not lie at the same places.
        """
        counts = {name: tokens for name, (tokens, _) in self.shapes("encoder").items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {tokens}" for name, tokens in counts.items())
            raise SetupError(f"the encoders' tokens do not lie at the same places: {told}")
        return dict.fromkeys(counts, 1)

    def layouts(self, images: Sequence[Image.Image]) -> list[Any]:
        """For each image, what the fusion must know of it (tiles, sizes); cheap."""
        return [None] * len(images)

    def units(self, layout: Any) -> int:
        """How many units an image of this layout has."""
        return 1

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str]) -> dict[str, Tensor]:
        """Pixels that the named encoders need, float32: {key: (units, 3, rows, columns)}; keys are the family's.
        It changes nothing: a thread may call it while the model runs."""
        raise NotImplementedError

    def join(self, pixels: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """What `preprocess` gives for images, of what it gave for each. Keys that tell images apart need their own."""
        one, *more = pixels
        return {key: torch.cat([own[key] for own in pixels]) for key in one} if more else dict(one)

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders: {name: (units, tokens, channels)}, as they enter the projectors or the fusion."""
        raise NotImplementedError

    def project(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The projectors of the encoders that are given; may add entries that the fusion needs besides."""
        return dict(features)

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Any]) -> list[Visual]:
        """Projected features of all encoders -> what stands for each image."""
        raise NotImplementedError

    def router(self) -> Router | None:
        """The model itself in families whose language model chooses encoders for each question (routes.py)."""
        return None

    def check_ids(self, ids: Sequence[int], name: str) -> None:
        """Refuse a prompt (token ids with templates.IMAGE_ID at images) that the architecture would misread.

        Raises:
            DataError: with the prompt's name.
        """

    def prefill(self, visuals: Sequence[Sequence[Visual]], offsets: Sequence[int]) -> AbstractContextManager[Any]:
        """Context in which the language model runs on a left-padded batch.

        Args:
            visuals: of each sequence, of each image.
            offsets: where each sequence begins, in tokens from the pass's first one: its padding, less what was read
                before (a prefix without images that the batch shares).
        """
        return nullcontext()

    def rename(self, released: str) -> weights.Target:
        """Released tensor name -> own name, or several (see weights.load); None for one that is not needed."""
        raise NotImplementedError

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that a released checkpoint gives to one of our tensors."""
        raise NotImplementedError

    def add_encoder(self, name: str, place: Path, attention: str) -> None:
        """Build an encoder with a repository of its own, on the meta device; for families with `repositories`.

        Raises:
            SetupError: the repository is of another encoder or another size.
        """
        raise NotImplementedError

    def check_weights(self, folder: Path, places: Mapping[str, Path]) -> None:
        """Look at what was loaded from a checkpoint, and from repositories of encoders."""

    def read_files(self, encoder_weights: str | Path | None) -> None:
        """Read what is no weight and not in the checkpoint (a vocabulary).

        Args:
            encoder_weights: as given to `load`.

        Raises:
            SetupError: it is not there, or of another model.
        """

    def optional(self, own: str) -> bool:
        """Whether a tensor may be missing from the checkpoint: `restore_buffers` makes it then."""
        return False

    def tied(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        """Tensors that the config ties to others: name -> that of the tensor it takes where the file has none."""
        return language_models.tied(config)

    def read_tokenizer(self, folder: Path) -> Any:
        """The tokenizer in a folder, the checkpoint's or its own.

        Raises:
            SetupError: it cannot be read.
        """
        # With the config at hand AutoTokenizer does not stumble over model types that transformers does not know.
        return slow_tokens.read(folder, self.language_model.config, self.slow_release)

    def template_for(self, tokenizer: Any) -> str:
        """Name of the conversation template that a checkpoint with this tokenizer was trained with; see `template`."""
        return self.template

    def ends(self, tokenizer: Any) -> tuple[int, ...]:
        """Token ids that end an answer; see `eos`."""
        return self.eos

    def answer(self, tokenizer: Any, ids: Sequence[int]) -> str:
        """The text of an answer, of its token ids."""
        return templates.text_of(tokenizer, ids)

    def whole(self) -> set[str]:
        """Names of the classes that a device map must not split: encoders and the language model's layers."""
        parts = {type(encoder).__name__ for encoder in self.encoders.values()}
        return parts | set(self.language_model._no_split_modules or ())

    def restore_buffers(self) -> None:
        """Make the buffers that no checkpoint holds (after building on the meta device)."""
        language = self.language_model.model
        language.rotary_emb = type(language.rotary_emb)(self.language_model.config)
        for encoder in self.encoders.values():
            encoder.restore_buffers()


def fill(encoder: Any, place: Path, dtype: torch.dtype, device: torch.device | str) -> weights.LoadReport:
    """Load an encoder that was built on the meta device from its own repository.

    Args:
        encoder: an Encoder.
        place: folder or weight file.
        dtype: of all floating tensors.
        device: of the encoder.

    Raises:
        SetupError: tensors are missing or have another shape.
    """
    report = weights.load(encoder, place, encoder.rename, dtype, device, release=encoder.release)
    encoder.restore_buffers()
    encoder.to(device).eval()
    return report


def model_class(family: Family) -> type[FamilyModel]:
    """The class that a family's card names."""
    return cast(type[FamilyModel], family.named(family.model))
