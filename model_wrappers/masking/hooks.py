"""Mask encoders of any torch model by hooks: what goes out of a named module, or into it, is replaced.

For models that no family here knows. What a zeroed output means depends on the module that is named: after it may
come layers with biases. A replaced encoder still runs. A hook that never fires, or that changes nothing, is an error.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.masking.places import Place

Replace = Callable[[str, int, Tensor], Tensor]  # encoder, number of the tensor at its place, its channels -> stand-in


@dataclass
class Seen:
    """What a hook met: calls, whether it changed something, and the first error (callers may swallow it)."""

    calls: int = 0
    changed: bool = False
    error: BaseException | None = None


class Hooks:
    """A context in which what is at named places is replaced; the hooks are gone after it, also after an error.

    Args:
        places: encoder -> where its features are.
        replace: makes the stand-in of a tensor.
    """

    def __init__(self, places: Mapping[str, Place], replace: Replace):
        self.places, self.replace = dict(places), replace
        self.seen = {name: Seen() for name in places}
        self._handles: list[Any] = []

    def __enter__(self) -> "Hooks":
        for name, place in self.places.items():
            if place.side == "input":
                hook: Any = place.module.register_forward_pre_hook(self._before(name), with_kwargs=True)
            else:
                hook = place.module.register_forward_hook(self._after(name))
            self._handles.append(hook)
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _after(self, name: str) -> Callable[[nn.Module, Any, Any], Any]:
        return lambda module, inputs, output: self._noted(name, output)

    def _before(self, name: str) -> Callable[[nn.Module, Any, Any], Any]:
        return lambda module, inputs, named: self._noted(name, (inputs, named))

    def _noted(self, name: str, found: Any) -> Any:
        seen = self.seen[name]
        seen.calls += 1
        try:
            return self._replaced(name, found, iter(range(10**9)), seen)
        except BaseException as error:
            seen.error = seen.error or error
            raise

    def _replaced(self, name: str, output: Any, numbers: Any, seen: Seen) -> Any:
        if isinstance(output, Tensor):
            if not output.is_floating_point():
                return output
            own = self.places[name].of(output)
            stand_in = self.replace(name, next(numbers), own)
            if stand_in.shape != own.shape:
                raise SetupError(f"{name}: the stand-in is {tuple(stand_in.shape)}, the output {tuple(own.shape)}")
            seen.changed = seen.changed or not torch.equal(stand_in, own)
            return self.places[name].put(output, stand_in)
        if isinstance(output, dict):  # transformers' ModelOutput is one
            for key in list(output):
                output[key] = self._replaced(name, output[key], numbers, seen)
            return output
        if isinstance(output, list | tuple):
            return type(output)(self._replaced(name, value, numbers, seen) for value in output)
        return output

    def check_errors(self) -> None:
        """Fail where a hook failed, which whoever called the module may have kept to itself.

        Raises:
            SetupError: one did.
        """
        for name, seen in self.seen.items():
            if seen.error is not None:
                raise SetupError(f"masking {name} failed: {seen.error}") from seen.error

    def check(self, feeds: Mapping[str, Collection[str]]) -> None:
        """Fail unless every hook fired and changed something.

        Args:
            feeds: encoder -> those that see through it (see `feeds`).

        Raises:
            SetupError: a hook never fired, or failed.
            DataError: what was replaced was the same already.
        """
        self.check_errors()
        for name, seen in self.seen.items():
            if not seen.calls:
                raise SetupError(
                    f"the module named for {name} never ran, so nothing was masked; name one that images pass through"
                )
            # One that sees through another dropped one gave no output of its own that its stand-in could differ from.
            fed = [feeder for feeder, others in feeds.items() if name in others and feeder in self.seen]
            if not seen.changed and not any(self.seen[feeder].changed for feeder in fed):
                raise DataError(f"dropping {name} changed nothing: its output was the same as what replaced it")


def feeds(places: Mapping[str, Place], ask: Callable[[], object]) -> dict[str, tuple[str, ...]]:
    """For each encoder that others see through, these others: their outputs change when its own is zeros.

    Args:
        places: encoder -> where its features are.
        ask: puts one prompt with an image to the unmasked model; called once more for each encoder.
    """
    if len(places) < 2:
        return {}
    usual = _outputs(places, "", ask)
    found = {}
    for name in places:
        seen = _outputs(places, name, ask)
        found[name] = tuple(
            other for other in places if other != name and not _alike(usual.get(other, []), seen.get(other, []))
        )
    return {name: others for name, others in found.items() if others}


def told(mask: Collection[str], feeds: Mapping[str, Collection[str]]) -> list[str]:
    """`sam feeds clip` for each dropped encoder and each kept one that sees through it."""
    return [f"{name} feeds {other}" for name in mask for other in feeds.get(name, ()) if other not in mask]


def _outputs(places: Mapping[str, Place], zeroed: str, ask: Callable[[], object]) -> dict[str, list[Tensor]]:
    """What each encoder gives first while one is replaced by zeros, or none."""
    found: dict[str, list[Tensor]] = {}

    def replace(name: str, number: int, output: Tensor) -> Tensor:
        if number == len(found.setdefault(name, [])):
            found[name].append(output.detach().clone())
        return torch.zeros_like(output) if name == zeroed else output

    with Hooks(places, replace):
        ask()
    return found


def _alike(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether outputs are the same but for rounding."""
    if [tensor.shape for tensor in one] != [tensor.shape for tensor in other]:
        return False
    return all(
        torch.allclose(a, b, rtol=0, atol=1e-3 * float(a.abs().max()), equal_nan=True)
        for a, b in zip(one, other, strict=True)
        if a.numel()
    )
