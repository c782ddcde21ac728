"""Run a module once for the same input: what masks of one model have in common is computed for the first of them.

Nothing is assumed of what lies between the encoders: a module's output is taken from memory where every tensor that
goes in is equal, number by number, to that of an earlier call. An encoder that sees through another one is given other
numbers when that one is dropped, and so runs again.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_CALLS = 4  # of each module that are kept: the images of a batch, and of its neighbours


@dataclass(frozen=True)
class Call:
    """What went into a module, and what came out; `number` says when, `size` how many bytes both are."""

    given: Any
    made: Any
    number: int
    size: int


class Remembered:
    """A context in which modules answer from memory what they were asked before; what is kept outlives it.

    Args:
        modules: stateless modules in evaluation mode; none may hold one on which a hook is put.
        limit: bytes that are kept at most, where the modules' tensors are; the oldest calls go first.
    """

    def __init__(self, modules: Iterable[nn.Module], limit: int = 2**62):
        self.modules = [module for module in dict.fromkeys(modules)]
        self.limit, self.used = limit, 0
        self.ran = self.spared = 0  # calls that were computed, and that were not
        self._calls: dict[nn.Module, deque[Call]] = {module: deque() for module in self.modules}
        self._own: dict[nn.Module, Any] = {}  # what `forward` was set to on the object, as accelerate does

    def __enter__(self) -> "Remembered":
        for module in self.modules:
            if not module.training:
                if "forward" in vars(module):
                    self._own[module] = vars(module)["forward"]
                # An attribute of the object comes before its class's method, and hooks run around it as before.
                vars(module)["forward"] = self._forward(module, module.forward)
        return self

    def __exit__(self, *_: object) -> None:
        for module in self.modules:
            vars(module).pop("forward", None)
            if module in self._own:
                vars(module)["forward"] = self._own.pop(module)

    def forget(self) -> None:
        """Let go of what is kept."""
        for calls in self._calls.values():
            calls.clear()
        self.used = 0

    def _keep(self, module: nn.Module, call: Call) -> None:
        self._calls[module].append(call)
        self.used += call.size
        if len(self._calls[module]) > _CALLS:
            self._drop(module)
        while self.used > self.limit:
            self._drop(
                min((one for one, calls in self._calls.items() if calls), key=lambda one: self._calls[one][0].number)
            )

    def _drop(self, module: nn.Module) -> None:
        self.used -= self._calls[module].popleft().size

    def _forward(self, module: nn.Module, compute: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **named: Any) -> Any:
            if not _can_be_told((args, named)):
                return compute(*args, **named)
            known = self._calls[module]
            call = next((call for call in known if _equal(call.given, (args, named))), None)
            if call is None:
                self.ran += 1
                given = _copy((args, named))  # copies, as what goes in and comes out may be changed in place
                made = compute(*args, **named)
                if not _can_be_told(made):  # it may have a state of its own, which no copy here would part
                    return made
                call = Call(given, _copy(made), self.ran, _bytes(given) + _bytes(made))
                self._keep(module, call)
            else:
                self.spared += 1
            return _copy(call.made)

        return forward


def sharable(model: Any, hooked: Collection[nn.Module]) -> list[nn.Module]:
    """Modules of a model to remember: those on which hooks are put and their neighbours, down from the model.

    What images pass before and after a named module is often its neighbour (DeepSeek-VL's SAM before its projection).
    The language model and its head are none, nor is what holds a module with a hook.

    Args:
        model: a transformers model.
        hooked: the modules.
    """
    names = {module: name for name, module in model.named_modules()}
    speaking = [model.get_decoder(), model.get_output_embeddings(), model.get_input_embeddings()]
    unfit = {id(above) for module in (*hooked, *filter(None, speaking)) for above in _above(model, names.get(module))}
    unfit |= {id(module) for module in speaking}
    found: dict[nn.Module, None] = {}
    for module in hooked:
        if module not in names:
            continue  # of no name within the model, so nothing is known of its neighbours
        found |= dict.fromkeys(child for parent in _above(model, names[module]) for child in parent.children())
    return [module for module in found if id(module) not in unfit]


def _above(model: nn.Module, name: str | None) -> list[nn.Module]:
    """The modules that hold the one of a dotted name, the model first."""
    parts = (name or "").split(".")[:-1] if name else []
    return [model, *(model.get_submodule(".".join(parts[: depth + 1])) for depth in range(len(parts)))]


def _can_be_told(value: Any) -> bool:
    """Whether values are of kinds whose equality is known, and of which a copy is one."""
    if isinstance(value, dict):
        return all(map(_can_be_told, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_can_be_told, value))
    return isinstance(value, Tensor | bool | int | float | str | type(None) | torch.dtype | torch.device)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):  # transformers' ModelOutput is one, and made of its fields
        parts = {key: _copy(part) for key, part in value.items()}
        return parts if type(value) is dict else type(value)(**parts)
    if isinstance(value, list | tuple):
        listed = [_copy(part) for part in value]
        return type(value)(*listed) if hasattr(value, "_fields") else type(value)(listed)
    return value


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_bytes, parts))


def _equal(one: Any, other: Any) -> bool:
    """Whether two calls' arguments are the same."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        same = (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
        return same and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
