"""`ablation=predicted`: a dropped encoder's output, guessed linearly from those that stay, place by place.

A *place* is where all encoders have features: a token, or where an encoder has a finer grid, a square of its tokens, as
the family says (FamilyModel.place_sides). Of a square the mean enters the guess, and all its tokens get one guess.
"""

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.masking import linear

PARTS = ("fit", "held")
_STORED = ("weight", "centre", "mean")
_HELD_OUT = 5  # one image in so many


@dataclass(frozen=True)
class Layout:
    """The channels of all encoders at one place: how many of each, in order, and the side of its square of tokens."""

    channels: Mapping[str, int]
    sides: Mapping[str, int]

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, int]], sides: Mapping[str, int]) -> "Layout":
        """From (tokens, channels) of each encoder, and the sides."""
        return cls({name: shapes[name][1] for name in sides}, dict(sides))

    @classmethod
    def read(cls, text: str) -> "Layout":
        """From `text`."""
        told = json.loads(text)
        return cls({name: channels for name, channels, _ in told}, {name: side for name, _, side in told})

    @property
    def text(self) -> str:
        """All of it, for a file."""
        return json.dumps([[name, channels, self.sides[name]] for name, channels in self.channels.items()])

    def index(self, names: Collection[str]) -> Tensor:
        """Which of all channels are those of some encoders."""
        owners = [name for name, channels in self.channels.items() for _ in range(channels)]
        return torch.tensor([number for number, owner in enumerate(owners) if owner in names], dtype=torch.long)

    def others(self, names: Collection[str]) -> tuple[str, ...]:
        """All encoders but some, in order."""
        return tuple(name for name in self.channels if name not in names)

    def gather(self, outputs: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        """Outputs (units, tokens, channels) of encoders -> (units, places, their channels side by side)."""
        return torch.cat([pool(outputs[name], self.sides[name]) for name in names], dim=-1)

    def scatter(self, guessed: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """(units, places, channels of encoders side by side) -> (units, tokens, channels) of each."""
        parts = guessed.split([self.channels[name] for name in names], dim=-1)
        return {name: spread(part, self.sides[name]) for name, part in zip(names, parts, strict=True)}


def pool(tokens: Tensor, side: int) -> Tensor:
    """(units, tokens, channels) of a square grid, row by row -> the means of its squares of `side` tokens a side."""
    if side == 1:
        return tokens
    count = math.isqrt(tokens.shape[1]) // side
    squares = tokens.unflatten(1, (count, side, count, side))
    return squares.float().mean((2, 4)).to(tokens.dtype).flatten(1, 2)


def spread(places: Tensor, side: int) -> Tensor:
    """(units, places, channels) -> each place's value for all tokens of its square: what `pool` gives it back from."""
    if side == 1:
        return places
    count = math.isqrt(places.shape[1])
    grid = places.unflatten(1, (count, count))
    return grid.repeat_interleave(side, 1).repeat_interleave(side, 2).flatten(1, 2)


def held_out(images: Collection[str]) -> frozenset[str]:
    """Which images (by hash) are held out: a fifth, of two to four images one.

    Whole images, since places of one image are alike; by the order of their hashes, since a sample's own order may come
    round in fives and then hold out one kind of picture.
    """
    ordered = sorted(images)
    return frozenset(ordered[_HELD_OUT - 1 :: _HELD_OUT] or ordered[1:2])


@dataclass(frozen=True)
class Sums:
    """What a calibration keeps for all masks: moments of the channels at places of the fitted and held-out images."""

    layout: Layout
    fit: linear.Moments
    held: linear.Moments

    def guess(self, dropped: Collection[str], device: torch.device | None = None) -> linear.Guess:
        """The guess of dropped encoders from all others.

        Raises:
            SetupError: memory does not suffice.
        """
        keep, drop = self.layout.index(self.layout.others(dropped)), self.layout.index(dropped)
        with enough_memory(len(self.fit.mean)):
            fit, held = (part if device is None else part.to(device) for part in (self.fit, self.held))
            return linear.guess(fit, held, keep, drop)

    def check(self) -> None:
        """Refuse a sample that tells nothing of how channels go together.

        Raises:
            SetupError: fewer places than channels, or a single image.
        """
        channels = len(self.fit.mean)
        if not self.held.count:
            raise SetupError("ablation=predicted needs a calibration of at least two different images")
        if self.places < channels:
            raise SetupError(
                f"the calibration has {self.places:,} places for {channels:,} channels, too few to predict by: "
                "make one of more images"
            )

    @property
    def places(self) -> int:
        """Of both parts."""
        return self.fit.count + self.held.count

    @classmethod
    def none(cls, layout: Layout) -> "Sums":
        """Of no images."""
        empty = linear.Moments.none(sum(layout.channels.values()))
        return cls(layout, empty, empty)

    def add(self, outputs: Mapping[str, Tensor], held: Sequence[bool]) -> "Sums":
        """With a batch more.

        Args:
            outputs: (units, tokens, channels) of every encoder.
            held: of each unit, whether its image is held out.

        Raises:
            SetupError: values are not finite, or memory does not suffice.
        """
        for name, output in outputs.items():
            if not output.isfinite().all():
                raise SetupError(f"{name}: its output for a calibration image holds values that are no numbers")
        rows, out = self.layout.gather(outputs, tuple(self.layout.channels)), torch.tensor(held)
        with enough_memory(rows.shape[-1]):
            fit, held_rows = (rows[chosen.to(rows.device)].flatten(0, 1) for chosen in (~out, out))
            return Sums(self.layout, _more(self.fit, fit), _more(self.held, held_rows))

    def tensors(self) -> dict[str, Tensor]:
        """For a file."""
        found: dict[str, Tensor] = {}
        for part, own in zip(PARTS, (self.fit, self.held), strict=True):
            found |= {
                f"places/{part}/count": torch.tensor(own.count),
                f"places/{part}/mean": own.mean,
                f"places/{part}/scatter": own.scatter,
            }
        return found

    @classmethod
    def read(cls, layout: str, tensors: Mapping[str, Tensor]) -> "Sums":
        """The inverse of `Layout.text` and `tensors`."""
        fit, held = (
            linear.Moments(
                int(tensors[f"places/{part}/count"]), tensors[f"places/{part}/mean"], tensors[f"places/{part}/scatter"]
            )
            for part in PARTS
        )
        return cls(Layout.read(layout), fit, held)


def _more(moments: linear.Moments, rows: Tensor) -> linear.Moments:
    return moments + linear.Moments.of(rows) if len(rows) else moments


@contextmanager
def enough_memory(channels: int) -> Iterator[None]:
    """Context that words a lack of memory at a matrix of so many channels.

    Raises:
        SetupError: memory does not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise SetupError(
            f"out of memory: the covariances of all encoders' channels take {8 * channels**2 / 1e9:.2g} GB, and "
            "several such matrices are held at a time; device=cpu holds them in main memory"
        ) from error


@dataclass(frozen=True)
class Predictor:
    """Linear stand-ins of a model's masks, each solved when it is first needed.

    Attributes:
        layout: of the model's encoders.
        solve: (dropped encoders, in order) -> the guess of them from all others.
    """

    layout: Layout
    solve: Callable[[tuple[str, ...]], linear.Guess]
    _ready: dict[tuple[str, ...], tuple[Tensor, ...]] = field(default_factory=dict, repr=False, compare=False)

    def stand_ins(
        self, outputs: Mapping[str, Tensor], mask: Collection[str], units: int, places: int, like: Tensor
    ) -> dict[str, Tensor]:
        """What takes the place of dropped encoders' outputs.

        Args:
            outputs: (units, tokens, channels) of the others.
            mask: the dropped encoders.
            units: how many units there are.
            places: of a unit.
            like: a tensor of the results' type and device.

        Returns:
            (units, tokens, channels) of each dropped encoder; computed in float32.
        """
        dropped = tuple(name for name in self.layout.channels if name in mask)
        if dropped not in self._ready:
            found = self.solve(dropped)
            self._ready[dropped] = tuple(
                part.to(like.device, torch.float32) for part in (found.weight, found.centre, found.mean)
            )
        weight, centre, mean = self._ready[dropped]
        if kept := self.layout.others(dropped):
            guessed = (self.layout.gather(outputs, kept).float() - centre) @ weight + mean
        else:
            guessed = mean.expand(units, places, -1)
        return self.layout.scatter(guessed.to(like.dtype), dropped)


def write(path: Path, layout: Layout, dropped: Sequence[str], guess: linear.Guess) -> None:
    """Write one mask's guess for a checkpoint that was pruned to it; `stored` reads it."""
    tensors = {name: getattr(guess, name).float().contiguous() for name in _STORED}
    save_file(tensors, path, metadata={"layout": layout.text, "dropped": json.dumps(list(dropped))})


def stored(path: Path) -> Predictor:
    """The linear stand-ins of a pruned checkpoint, which has one mask alone.

    Raises:
        SetupError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            told, (weight, centre, mean) = handle.metadata(), (handle.get_tensor(name) for name in _STORED)
        layout, dropped = Layout.read(told["layout"]), tuple(json.loads(told["dropped"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"cannot read {path}: {error}") from error
    nothing = torch.zeros(0)
    guess = linear.Guess(weight, centre, mean, float("nan"), nothing, nothing)

    def solve(asked: tuple[str, ...]) -> linear.Guess:
        if asked != dropped:
            raise SetupError(f"{path} holds the stand-ins of drop={'+'.join(dropped)} alone")
        return guess

    return Predictor(layout, solve)
