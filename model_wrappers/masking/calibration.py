"""Statistics of every encoder's output over a sample of images, as a file for the ablations that need them."""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.masking import ablations, loading, stand_ins
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.masking.predicted import Layout, Sums, held_out
from redundancy_eval.model_wrappers.masking.prompt import Masked

FEW_IMAGES, FEW_PLACES = 100, 10  # below so many images, or places for each channel, a linear guess is told as unsure
_SAMPLES = 64  # images whose outputs are kept for `shuffle`

Batch = tuple[Sequence[ablations.Unit], Mapping[str, Tensor]]


def make(model: str, arguments: Mapping[str, Any], images: Sequence[Image.Image], batch_size: int, out: Path) -> str:
    """Make a calibration file; returns lines on it, and prints warnings.

    Args:
        model: model id.
        arguments: its model arguments, without a mask.
        images: the sample.
        batch_size: images that go through the encoders at once.
        out: the file; see `check_out`.

    Raises:
        SetupError: the model can't be loaded, or is not whole.
    """
    own = registry.pruned_of(model, arguments)
    if own is not None:
        raise SetupError(
            f"{arguments.get('pretrained')} was pruned of {own.label}: a calibration is made of the whole model, "
            f"{own.source}"
        )
    subject = loading.load(model, **arguments)
    distinct = {ablations.image_hash(image): image for image in images}  # one that comes twice counts once
    pretrained = str(arguments.get("pretrained") or registry.family(model).default)
    made = statistics(
        batches(subject, distinct, batch_size), distinct, sides(subject), model=model, checkpoint=pretrained,
        site=subject.site, **stand_ins.bound_to(model, arguments, subject.dtype),
    )  # fmt: skip
    ablations.write(made, out)
    for warning in warnings(made):
        print(f"redundancy-eval: warning: {warning}", file=sys.stderr)
    return "\n".join(described(made, out, subject.encoder_names))


def check_out(out: Path) -> None:
    """Refuse to replace what no calibration wrote.

    Raises:
        SetupError: the file is there and is something else, or can't be written there.
    """
    if not out.name or out.is_dir():
        raise SetupError(f"-o {out} is no file name")
    if out.exists():
        try:
            ablations.identity(out)
        except SetupError:
            raise SetupError(f"-o {out} would write over a file that no calibration wrote; choose another") from None


def batches(subject: Masked, images: Mapping[str, Image.Image], size: int) -> Iterator[Batch]:
    """Units and outputs of images by their hashes, some at a time."""
    listed = list(images.items())
    step = size if isinstance(subject, MaskedModel) else 1
    for start in tqdm(range(0, len(listed), step), desc="calibration"):
        part = listed[start : start + step]
        outputs = subject.outputs([image for _, image in part])
        if isinstance(subject, MaskedModel):
            layouts = subject.model.layouts([image for _, image in part])
            counts = [subject.model.units(layout) for layout in layouts]
        else:
            counts = [len(next(iter(outputs.values())))]
        yield [(h, unit) for (h, _), count in zip(part, counts, strict=True) for unit in range(count)], outputs


def sides(subject: Masked) -> Mapping[str, int] | str | None:
    """The sides of encoders' squares of tokens at one place; why there are none; None where outputs show it (hooks)."""
    if subject.site != "encoder":
        return f"encoders are predicted at site=encoder; this is of site={subject.site}"
    if not isinstance(subject, MaskedModel):
        return None
    try:
        return subject.model.place_sides()
    except SetupError as refusal:
        return str(refusal)


@dataclass(frozen=True)
class Spread:
    """Mean and sum of squared deviations over units, for each token position and channel, float64."""

    units: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, output: Tensor) -> "Spread":
        """Of a batch (units, ..., channels)."""
        wide = output.cpu().double()
        mean = wide.mean(0)
        return cls(len(wide), mean, (wide - mean).square().sum(0))

    def __add__(self, other: "Spread") -> "Spread":
        """Of both batches; see linear.Moments."""
        units, apart = self.units + other.units, other.mean - self.mean
        squares = self.squares + other.squares + apart.square() * (self.units * other.units / units)
        return Spread(units, self.mean + apart * (other.units / units), squares)

    def tensors(self) -> dict[str, Tensor]:
        """What the file holds of it."""
        mean, squares = (value.reshape(-1, value.shape[-1]) for value in (self.mean, self.squares))
        centre = mean.mean(0)
        total = squares.sum(0) + self.units * (mean - centre).square().sum(0)
        deviation = (total / (self.units * len(mean) - 1)).sqrt()  # of one value: not a number
        return {"mean": self.mean.float(), "channel_mean": centre.float(), "channel_std": deviation.float()}


def statistics(
    batches: Iterable[Batch], images: Iterable[str], sides: Mapping[str, int] | str | None, **identity: str
) -> ablations.Calibration:
    """Statistics over batches of (units, outputs of each encoder).

    Args:
        batches: nothing is kept of one but sums, and the outputs of some images.
        images: hashes of all images that will come.
        sides: of each encoder's squares of tokens at one place; or why there are no places; or None, to take tokens
            for places where all outputs have equally many.
        identity: what the file says of itself.

    Raises:
        SetupError: there are no images, an encoder's output has several shapes, or holds values that are no numbers.
    """
    listed = tuple(images)
    if not listed:
        raise SetupError("the calibration sample holds no images")
    number = {image: place for place, image in enumerate(listed)}
    whole, held = listed[:: -(-len(listed) // _SAMPLES)], held_out(listed)
    spreads: dict[str, Spread] = {}
    samples: dict[str, list[Tensor]] = {}
    owners: list[int] = []
    sums: Sums | None = None
    for units, outputs in batches:
        kept = [row for row, (image, _) in enumerate(units) if image in whole]
        owners += [number[units[row][0]] for row in kept]
        for name, output in outputs.items():
            new, old = Spread.of(output), spreads.get(name)
            if old is not None and old.mean.shape != new.mean.shape:
                raise SetupError(
                    f"{name}: its output is {tuple(old.mean.shape)} for one image and {tuple(new.mean.shape)} for "
                    "another, so no statistics can be made of a sample"
                )
            spreads[name] = new if old is None else old + new
            samples.setdefault(name, []).append(output.detach().cpu()[kept])
        sides = alike(outputs) if sides is None else sides
        if not isinstance(sides, str):
            if sums is None:
                shapes = {name: (output.shape[1], output.shape[2]) for name, output in outputs.items()}
                sums = Sums.none(Layout.of(shapes, sides))
            sums = sums.add(outputs, [image in held for image, _ in units])
    tensors = {f"{name}/{what}": value for name, own in spreads.items() for what, value in own.tensors().items()}
    tensors |= {f"{name}/samples": torch.cat(parts).contiguous() for name, parts in samples.items()}
    tensors |= {f"{name}/owners": torch.tensor(owners) for name in samples}
    sample = hashlib.sha256("".join(sorted(listed)).encode()).hexdigest()[:16]
    told = {**identity, "count": str(len(listed)), "sample": sample}
    told |= {"no_sums": sides} if isinstance(sides, str) else {}
    return ablations.Calibration(told, listed, tensors, sums)


def alike(outputs: Mapping[str, Tensor]) -> Mapping[str, int] | str:
    """Sides of 1 where hooked modules give (units, tokens, channels) with equally many tokens; else why not."""
    shapes = {name: tuple(output.shape) for name, output in outputs.items()}
    if all(len(shape) == 3 for shape in shapes.values()) and len({shape[:2] for shape in shapes.values()}) == 1:
        return dict.fromkeys(outputs, 1)
    told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    return f"outputs must be (units, tokens, channels), alike but for channels; they are {told}"


def told_r2(made: ablations.Calibration) -> dict[str, float]:
    """Held-out R2 of each encoder from all others; {} where there are no sums."""
    if made.sums is None or not made.sums.held.count:
        return {}
    return {name: made.sums.guess([name]).r2 for name in made.sums.layout.channels}


def warnings(made: ablations.Calibration) -> list[str]:
    """What makes a linear guess from this sample unsure."""
    if made.sums is None:
        return [f"nothing for ablation=predicted: {made.identity['no_sums']}"]
    channels, places, count = sum(made.sums.layout.channels.values()), made.sums.places, len(made.images)
    found = []
    if count < FEW_IMAGES:
        found.append(f"{count} images are few for ablation=predicted; {FEW_IMAGES} or more are better")
    if places < FEW_PLACES * channels:
        found.append(
            f"{places:,} places are few for {channels:,} channels in ablation=predicted; {FEW_PLACES} times as many "
            "are better"
        )
    return found


def described(made: ablations.Calibration, out: Path, names: Sequence[str]) -> list[str]:
    """Lines on what was made."""
    told = f"{out}: {', '.join(names)} over {made.identity['count']} different images"
    if made.sums is None:
        return [f"{told}, sample {made.identity['sample']}"]
    each = ", ".join(f"{name} {value:.2f}" for name, value in told_r2(made).items())
    lines = [f"{told} ({made.sums.places:,} places), sample {made.identity['sample']}"]
    return lines + [f"held-out R2 of each encoder from all others: {each}"] * bool(each)
