"""Where in any torch model an encoder's features are: a module's output or input, whole or some of its channels.

`model.vision_tower.encoder` is that module's output; `model.projector@input` what goes into it;
`model.projector@input[1024:]` the channels from 1024 on (`[..., 1024:]` says the same, where commas may stand). Models
that concatenate their encoders by channel are masked exactly so: each encoder's channels of what enters the projector.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from redundancy_eval.errors import SetupError

_FORM = re.compile(
    r"(?P<module>[^@\[\]]+?)(?:@(?P<side>input|output))?(?:\[(?:\.\.\.,?)? *(?P<start>\d*):(?P<stop>\d*)\])?"
)


@dataclass(frozen=True)
class Place:
    """A module's output or input, from channel `start` to before `stop` (of the last axis; None: to its end)."""

    module: nn.Module
    side: str = "output"
    start: int = 0
    stop: int | None = None

    def of(self, whole: Tensor) -> Tensor:
        """The encoder's channels of a tensor (..., channels).

        Raises:
            SetupError: it has not so many.
        """
        channels = whole.shape[-1] if whole.ndim else 0
        stop = channels if self.stop is None else self.stop
        if not self.whole and not self.start < stop <= channels:
            shown = f"[{self.start}:{'' if self.stop is None else self.stop}]"
            raise SetupError(f"channels {shown} of {channels} were named for an encoder")
        return whole[..., self.start : stop] if not self.whole else whole

    def put(self, whole: Tensor, part: Tensor) -> Tensor:
        """The tensor with other values in the encoder's channels; the given one is not changed."""
        if self.whole:
            return part
        changed = whole.clone()
        self.of(changed).copy_(part)
        return changed

    @property
    def whole(self) -> bool:
        """Whether all channels are meant."""
        return self.start == 0 and self.stop is None

    def overlaps(self, other: "Place") -> bool:
        """Whether both mean the same numbers, or some of them."""
        if self.module is not other.module or self.side != other.side:
            return False
        ends = [place.stop if place.stop is not None else 1 << 62 for place in (self, other)]
        return max(self.start, other.start) < min(ends)


def find(root: Any, path: str) -> nn.Module:
    """The module at a dotted path below an object (attributes, and numbers within lists).

    Raises:
        SetupError: there is none; with what is there.
    """
    here = root
    for depth, part in enumerate(path.split(".")):
        if part.isdigit() and hasattr(here, "__getitem__") and int(part) < len(here):
            here = here[int(part)]
            continue
        if not hasattr(here, part):
            children = [name for name, _ in here.named_children()] if isinstance(here, nn.Module) else []
            where = ".".join(path.split(".")[:depth]) or type(root).__name__
            raise SetupError(
                f"no module {path!r}: {where} has no {part!r}; it has {', '.join(children) or 'no modules'}"
            )
        here = getattr(here, part)
    if not isinstance(here, nn.Module):
        raise SetupError(f"{path!r} is no module but a {type(here).__name__}")
    return here


def place(root: Any, text: str) -> Place:
    """The place that a text names below an object: `MODULE.PATH`, `MODULE.PATH@input`, `MODULE.PATH@input[16:32]`.

    Raises:
        SetupError: the text has another form, or there is no such module.
    """
    form = _FORM.fullmatch(text)
    if not form:
        raise SetupError(f"{text!r} is no place: MODULE.PATH, with @input or @output, with [FROM:TO] for channels")
    start, stop = int(form["start"] or 0), int(form["stop"]) if form["stop"] else None
    if stop is not None and stop <= start:
        raise SetupError(f"{text!r} names no channel")
    return Place(find(root, form["module"]), form["side"] or "output", start, stop)


def places_at(root: Any, texts: Mapping[str, str]) -> dict[str, Place]:
    """The places below an object, by encoder.

    Raises:
        SetupError: there is no such module, or two encoders have the same numbers.
    """
    found = {name: place(root, text) for name, text in texts.items()}
    for name, one in found.items():
        twin = next((other for other in found if other != name and one.overlaps(found[other])), None)
        if twin is not None:
            raise SetupError(f"encoders: {name} and {twin} name the same module, {texts[name]} and {texts[twin]}")
    return found
