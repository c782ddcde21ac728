"""What stands in for a dropped encoder's output: zero, mean, noise, another image's features, or a linear guess.

`zero` is the paper's and needs nothing. The others need a calibration: statistics of each encoder's output over a
sample of images, made once by `redundancy-eval calibrate` and kept in a file with the identity of the sample.

- `mean`: the mean over the sample, for each token position and channel.
- `noise`: Gaussian, with the sample's mean and deviation of each channel.
- `shuffle`: the output for another image, drawn from the sample.
- `predicted`: the best linear guess from the encoders that stay (predicted.py).

What is random is seeded by (seed, encoder, image), so batching, order and resumption do not matter.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.masking.predicted import Predictor, Sums

_SCHEMA = "2"  # 1 had no sums, and the outputs of all images
_READ = ("1", _SCHEMA)
BY_IMAGE = ("noise", "shuffle")  # drawn for each image
_OF_SUMS = "places/"  # begins their tensors' names
_ORIENTATION = 0x0112  # of EXIF; 1: as it lies
Unit = tuple[str, int]  # what an encoder sees at once: hash of the image, number of the unit within it


def image_hash(image: Image.Image) -> str:
    """Hash of an image's size and pixels, and of how its EXIF data say it is to be turned, which some families do."""
    turned = image.getexif().get(_ORIENTATION, 1)
    rgb = image.convert("RGB")
    return hashlib.sha256(f"{rgb.size}{turned if turned != 1 else ''}".encode() + rgb.tobytes()).hexdigest()


@dataclass(frozen=True)
class Calibration:
    """Statistics of encoders' outputs over a sample of images.

    Attributes:
        identity: what the file says of itself: model, checkpoint, site, number of images, `sample` (a hash), and where
            there are no sums why (`no_sums`).
        images: hash of each image of the sample.
        tensors: `<encoder>/mean` (tokens, channels), `/channel_mean` and `/channel_std` (channels,), `/samples`
            (units, tokens, channels) of some images and `/owners` (units,), the image that a unit belongs to.
        sums: what `predicted` needs.
    """

    identity: Mapping[str, str]
    images: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    sums: Sums | None = None


def write(calibration: Calibration, path: Path) -> None:
    """Write a calibration as safetensors."""
    told = {key: value for key, value in calibration.identity.items() if key != "layout"}  # the sums' own
    metadata = {**told, "schema": _SCHEMA, "images": json.dumps(calibration.images)}
    tensors, sums = dict(calibration.tensors), calibration.sums
    if sums is not None:
        metadata, tensors = {**metadata, "layout": sums.layout.text}, {**tensors, **sums.tensors()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata=metadata)


def identity(path: Path) -> dict[str, str]:
    """What a calibration file says of itself.

    Raises:
        SetupError: no such file, or it is no calibration.
    """
    if not path.is_file():
        raise SetupError(f"no such calibration: {path} (redundancy-eval calibrate makes one)")
    try:
        with safe_open(path, framework="pt") as handle:
            found = dict(handle.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise SetupError(f"cannot read {path}: {error}") from error
    if found.get("schema") not in _READ:
        raise SetupError(f"{path} is not a calibration of this version")
    return found


def sample(identity: Mapping[str, str]) -> dict[str, str]:
    """What records say of a calibration, of what it says of itself."""
    return {key: identity[key] for key in ("model", "checkpoint", "site", "count", "sample")}


def read(path: Path, sums: bool | None = None) -> Calibration:
    """Read a calibration.

    Args:
        path: the file.
        sums: True for the sums alone, False for all else, None for both.

    Raises:
        SetupError: no such file, or it is no calibration, or has no sums when they are asked for.
    """
    found = identity(path)
    if sums and "layout" not in found:
        reason = found.get("no_sums") or "it is of an earlier version, or of a pruned checkpoint; make it anew"
        raise SetupError(f"{path} holds nothing to predict encoders by: {reason}")
    with safe_open(path, framework="pt") as handle:
        wanted = [key for key in handle.keys() if sums is None or key.startswith(_OF_SUMS) is sums]  # noqa: SIM118
        tensors = {key: handle.get_tensor(key) for key in wanted}
    own = {key: tensors.pop(key) for key in wanted if key.startswith(_OF_SUMS)}
    return Calibration(
        found, tuple(json.loads(found["images"])), tensors, Sums.read(found["layout"], own) if own else None
    )


@dataclass(frozen=True)
class Ablation:
    """How stand-ins are made.

    Attributes:
        kind: one of families.ABLATIONS.
        calibration: needed by `mean`, `noise` and `shuffle`.
        seed: of the random ones.
        predictor: needed by `predicted`.
        images: hashes of the calibration's images.
    """

    kind: str = "zero"
    calibration: Calibration | None = None
    seed: int = 0
    predictor: Predictor | None = None
    images: frozenset[str] = frozenset()
    _moved: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in registry.ABLATIONS:
            raise SetupError(f"ablation must be one of {', '.join(registry.ABLATIONS)}; not {self.kind!r}")
        if self.kind != "zero" and self.calibration is None and self.predictor is None:
            raise SetupError(f"ablation={self.kind} needs calibration=FILE (redundancy-eval calibrate makes one)")

    @property
    def by_image(self) -> bool:
        """Whether it is drawn for each image."""
        return self.kind in BY_IMAGE

    def known(self, images: Sequence[Image.Image]) -> bool:
        """Whether one of the images is of the calibration's sample."""
        return bool(self.images) and any(image_hash(image) in self.images for image in images)

    @property
    def by_output(self) -> bool:
        """Whether it depends on what other encoders give for the image."""
        return self.kind == "predicted"

    def stand_in(
        self, name: str, shape: Sequence[int], units: Sequence[Unit], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """What takes the place of an encoder's output, whatever others give.

        Args:
            name: the encoder.
            shape: (tokens, channels) of a unit.
            units: the image (its hash) and the number within it of each unit.
            dtype: of the result.
            device: of the result.

        Returns:
            (units, tokens, channels).

        Raises:
            SetupError: the calibration lacks the encoder, or is of another shape.
        """
        if self.kind == "zero":
            return torch.zeros(len(units), *shape, dtype=dtype, device=device)
        if self.kind == "mean":
            if name not in self._moved:
                self._moved[name] = self._statistic(name, "mean", shape).to(device, dtype)
            return self._moved[name].expand(len(units), *shape)
        make = self._noise if self.kind == "noise" else self._other
        rows = [make(name, shape, unit) for unit in units]
        return torch.stack(rows).to(device, dtype) if rows else torch.zeros(0, *shape, dtype=dtype, device=device)

    def _statistic(self, name: str, what: str, shape: Sequence[int]) -> Tensor:
        assert self.calibration is not None
        found = self.calibration.tensors.get(f"{name}/{what}")
        if found is None:
            raise SetupError(f"the calibration holds nothing of {name}; make one for this model and site")
        wanted = tuple(shape) if what in ("mean", "samples") else tuple(shape[-1:])
        if wanted and tuple(found.shape[-len(wanted) :]) != wanted:
            raise SetupError(f"the calibration's {name} is {tuple(found.shape)}, the model's output {wanted}")
        return found

    def _seed(self, name: str, unit: Unit) -> int:
        text = f"{self.seed} {name} {unit[0]} {unit[1]}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")

    def _noise(self, name: str, shape: Sequence[int], unit: Unit) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed(name, unit))
        mean, std = (self._statistic(name, f"channel_{what}", shape) for what in ("mean", "std"))
        return mean + std * torch.randn(*shape, generator=generator)

    def _other(self, name: str, shape: Sequence[int], unit: Unit) -> Tensor:
        """The output for a unit of another image of the sample."""
        assert self.calibration is not None
        owners = self._statistic(name, "owners", shape[:0])
        own = [number for number, seen in enumerate(self.calibration.images) if seen == unit[0]]
        others = torch.nonzero(~torch.isin(owners, torch.tensor(own, dtype=owners.dtype))).flatten()
        if not len(others):
            raise SetupError("ablation=shuffle needs a calibration sample of at least two different images")
        chosen = others[self._seed(name, unit) % len(others)]
        return self._statistic(name, "samples", shape)[chosen]
