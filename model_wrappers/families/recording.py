"""What `redundancy-eval parity` asks of a family: how its recorded checkpoints, conditions and tensors are called.

A recording holds tensors of the original code (docs/families.md has the layout). A family's `recording.py` has one
subclass of `Recording`, named by its card; checks, conditions and comparisons that families share are functions here.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, cast

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.families.base import Model, MultiEncoder, Visual, model_class
from redundancy_eval.model_wrappers.families.card import Family


@dataclass(frozen=True)
class Check:
    """One comparison: what, the error (nan where equality is asked), and whether it holds."""

    name: str
    error: float
    ok: bool
    remark: str = ""

    def __str__(self) -> str:
        figure = "        " if self.error != self.error else f"{self.error:8.1e}"
        return f"{'ok  ' if self.ok else 'FAIL'} {figure}  {self.name}{'  ' + self.remark if self.remark else ''}"


@dataclass(frozen=True)
class Condition:
    """What a recorded condition is in our terms: mask, site and settings of the family."""

    mask: tuple[str, ...] = ()
    site: str = "encoder"
    settings: Mapping[str, Any] = field(default_factory=dict)


def same(name: str, got: object, expected: object) -> Check:
    """A check of equality."""
    ok = got == expected
    return Check(name, float("nan"), ok, "" if ok else f"{str(got)[:200]!r} != {str(expected)[:200]!r}")


def by_name(prefix: str, features: Mapping[str, Tensor], model: MultiEncoder) -> dict[str, Tensor]:
    """The first unit of each encoder's features under the names that recordings use."""
    released = {own: name for name, own in model.released_names.items()}
    return {f"{prefix}/{released[name]}": value[0] for name, value in features.items() if name in released}


def zero_condition(text: str, model: MultiEncoder) -> Condition:
    """`nomask`, `all_masked`, `zero:<encoder>+<encoder>`, with encoders as recordings call them.

    Raises:
        SetupError: this port has no such condition.
    """
    if text in ("nomask", "all_masked"):
        return Condition(() if text == "nomask" else model.encoder_names)
    kind, _, names = text.partition(":")
    if kind != "zero" or not set(names.split("+")) <= set(model.released_names):
        raise SetupError(f"this port has no condition {text!r}")
    return Condition(tuple(model.released_names[name] for name in names.split("+")))


def site_condition(text: str, model: MultiEncoder, kinds: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Condition:
    """`nomask`, `<kind>:<encoder>+<encoder>`, `<kind>:all`; a kind stands for a site and settings.

    Raises:
        SetupError: this port has no such condition.
    """
    if text == "nomask":
        return Condition()
    kind, _, names = text.partition(":")
    mask = model.encoder_names if names == "all" else tuple(names.split("+"))
    if kind not in kinds or not set(mask) <= set(model.encoder_names):
        raise SetupError(f"this port has no condition {text!r}")
    return Condition(mask, *kinds[kind])


def same_pixels(name: str, uint8: Any, pixels: Tensor, recorded: Mapping[str, str] | None) -> Iterator[Check]:
    """Checks of an image's pixels by hash: (rows, columns, 3) uint8 and (3, rows, columns) float32."""
    if recorded:
        chw = uint8.transpose(2, 0, 1).tobytes()
        yield same(f"{name} uint8 pixels", hashlib.sha256(chw).hexdigest(), recorded["uint8_sha256_chw"])
        yield same(f"{name} float32 pixels", sha256(pixels), recorded["sha256_le"])


def sha256(value: Tensor) -> str:
    """Hash of a tensor's little-endian bytes."""
    return hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()


def relative_error(got: Tensor, expected: Tensor) -> float:
    """max|a-b| / max(max|b|, 1e-6) over the finite values; infinite where shapes or -inf positions differ."""
    if got.shape != expected.shape:
        return float("inf")
    got, expected = got.float(), expected.float()
    finite = torch.isfinite(expected)
    if not torch.equal(finite, torch.isfinite(got)) or not torch.equal(got[~finite], expected[~finite]):
        return float("inf")
    if not finite.any():
        return 0.0
    return float((got - expected)[finite].abs().max() / expected[finite].abs().max().clamp_min(1e-6))


class Subject(Protocol[Model]):
    """A family's model under a mask, as recordings look at it."""

    model: Model
    mask: tuple[str, ...]

    @property
    def device(self) -> torch.device:
        """Where the language model's embeddings are."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the language model's embeddings."""

    def features(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Output of every encoder as it enters the projectors or the fusion."""

    def projected(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """What enters the fusion."""

    def visuals(self, images: Sequence[Image.Image]) -> list[Visual]:
        """What stands for each image in the prompt."""

    def embed(self, ids: Sequence[int], visuals: Sequence[Visual]) -> Tensor:
        """Input embeddings (length, hidden) of token ids with images."""

    def batch(self, sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Sequences left-padded (batch, length, hidden), and the attention mask."""


class Recording(Generic[Model]):
    """What a family's recordings hold.

    Args:
        family: the family's card.
    """

    def __init__(self, family: Family):
        self.family = family

    def load(self, folder: Path) -> tuple[Model, Any, weights.LoadReport]:
        """The recorded model, with every encoder, in float32; those with repositories are in `towers/` beside it."""
        config, overrides = hub.read_config(folder), folder / "tiny_overrides.json"
        if overrides.is_file():
            config = self.config(config, read_json(overrides))
        loaded = model_class(self.family).load(folder, config=config, encoder_weights=folder.parent / "towers")
        return cast(tuple[Model, Any, weights.LoadReport], loaded)

    def config(self, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a recorded checkpoint whose shrunken encoder sizes stand in tiny_overrides.json."""
        return dict(config)

    def condition(self, text: str, model: Model) -> Condition:
        """What a recorded condition is in our terms.

        Raises:
            SetupError: this port has no such condition.
        """
        return zero_condition(text, model)

    def as_recorded(self, model: Model, entry: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Context in which the model takes an image as an input was recorded, where inputs differ in that."""
        return nullcontext()

    def check_prompt(self, name: str, entry: Mapping[str, Any], model: Model, tokenizer: Any) -> Iterator[Check]:
        """Compare prompt and token ids of an input, with or without an image.

        Args:
            name: of the input.
            entry: its entry in inputs.json.
            model: the recorded model.
            tokenizer: its tokenizer.
        """
        raise NotImplementedError

    def check_pixels(
        self, name: str, entry: Mapping[str, Any], stats: Mapping[str, Any], model: Model, image: Image.Image
    ) -> Iterator[Check]:
        """Compare pixels of an input that has an image.

        Args:
            name: of the input.
            entry: its entry in inputs.json.
            stats: preprocessed_stats.json.
            model: the recorded model.
            image: of the input.
        """
        raise NotImplementedError

    def input_ids(self, entry: Mapping[str, Any]) -> list[int]:
        """Token ids of an input with templates.IMAGE_ID at its image."""
        return list(entry["input_ids"])

    def tensors(self, subject: Subject[Model], image: Image.Image) -> dict[str, Tensor]:
        """What a recording may hold of the encoders and the fusion."""
        raise NotImplementedError

    def prompt_tensors(self, subject: Subject[Model], image: Image.Image, ids: list[int]) -> dict[str, Tensor]:
        """What it may hold besides of a prompt's pass, in families that work inside the language model."""
        return {}


def recording(family: Family) -> Recording[Any]:
    """The recording that a family's card names.

    Raises:
        SetupError: it names none.
    """
    if not family.recording:
        raise SetupError(f"{family.model_id} says nothing of recordings")
    return cast(Recording[Any], family.named(family.recording)(family))


def read_json(path: Path) -> Any:
    """A JSON file of a recording.

    Raises:
        SetupError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SetupError(f"{path} is missing; a recorded folder has checkpoint/, inputs/ and expected/") from None
    except ValueError as error:
        raise SetupError(f"{path} is not valid JSON: {error}") from None
