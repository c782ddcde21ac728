"""What a native family gives: its encoders, preprocessing, fusion and language model. All else is written once.

The order of a forward pass is preprocess -> encode -> project -> fuse -> language model. Masks go in behind `encode`
(site `encoder`) or behind `project` (site `projected`, in families with a projector for each encoder). A *unit* is
what an encoder sees at once: an image, or one of its tiles.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image
from torch import Tensor, nn

from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.families.slow_tokens import Release


@dataclass(frozen=True)
class Visual:
    """What stands for one image in the prompt: embeddings (tokens, hidden), and what else the language model needs."""

    embeddings: Tensor
    extra: Any = None


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

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of a unit of each encoder."""

    def layouts(self, images: Sequence[Image.Image]) -> list[Any]:
        """What the fusion must know of each image."""

    def units(self, layout: Any) -> int:
        """How many units an image has."""

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str]) -> dict[str, Tensor]:
        """Pixels that the named encoders need."""

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders."""

    def project(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The projectors of the encoders that are given."""

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Any]) -> list[Visual]:
        """What stands for each image."""

    def check_ids(self, ids: Sequence[int], name: str) -> None:
        """Refuse a prompt that the architecture would misread."""

    def prefill(self, visuals: Sequence[Sequence[Visual]], offsets: Sequence[int]) -> AbstractContextManager[Any]:
        """Context in which the language model runs."""


class FamilyModel(nn.Module):
    """A multi-encoder model, taken apart where masks go in. Subclasses hold the family's computation.

    Attributes:
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
    """

    encoder_names: tuple[str, ...]
    released_names: dict[str, str]
    language_model: Any
    max_length: int | None = None
    template: str = ""
    max_images: int | None = None
    slow_release: Release | None = None
    eos: tuple[int, ...] = ()

    @staticmethod
    def needed(names: Sequence[str], mask: Collection[str], site: str, **settings: Any) -> tuple[str, ...]:
        """Encoders that must run under a mask: the kept ones, and dropped ones whose output is used elsewhere."""
        return tuple(name for name in names if name not in mask)

    @staticmethod
    def replaced(mask: Sequence[str], site: str, **settings: Any) -> tuple[str, ...]:
        """Entries that are replaced at a site under a mask: the dropped encoders."""
        return tuple(mask)

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of a unit of each encoder, at a site."""
        raise NotImplementedError

    def layouts(self, images: Sequence[Image.Image]) -> list[Any]:
        """For each image, what the fusion must know of it (tiles, sizes); cheap."""
        return [None] * len(images)

    def units(self, layout: Any) -> int:
        """How many units an image of this layout has."""
        return 1

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str]) -> dict[str, Tensor]:
        """Pixels that the named encoders need, float32: {key: (units, 3, rows, columns)}; keys are the family's."""
        raise NotImplementedError

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders: {name: (units, tokens, channels)}, as they enter the projectors or the fusion."""
        raise NotImplementedError

    def project(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The projectors of the encoders that are given; may add entries that the fusion needs besides."""
        return dict(features)

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Any]) -> list[Visual]:
        """Projected features of all encoders -> what stands for each image."""
        raise NotImplementedError

    def check_ids(self, ids: Sequence[int], name: str) -> None:
        """Refuse a prompt (token ids with prompts.IMAGE_ID at images) that the architecture would misread.

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
        """Released tensor name -> own name, or several (see checkpoint.load); None for one that is not needed."""
        raise NotImplementedError

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that a released checkpoint gives to one of our tensors."""
        raise NotImplementedError

    def whole(self) -> set[str]:
        """Names of the classes that a device map must not split: encoders and the language model's layers."""
        encoders = getattr(self, "encoders", None)
        parts = {type(module).__name__ for module in (encoders.values() if encoders is not None else ())}
        return parts | set(self.language_model._no_split_modules or ())

    def restore_buffers(self) -> None:
        """Make the buffers that no checkpoint holds (after building on the meta device)."""
