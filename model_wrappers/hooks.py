"""Mask encoders of any torch model by hooks: the output of a named module is replaced.

For models that no family here knows. What a zeroed output means depends on the module that is named: behind it may
come layers with biases. A replaced encoder still runs. A hook that never fires, or that changes nothing, is an error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from redundancy_eval.errors import DataError, SetupError

Replace = Callable[[str, int, Tensor], Tensor]  # encoder, number of the tensor within the output, tensor -> stand-in


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


@dataclass
class Seen:
    """What a hook met: calls, whether it changed something, and the first error (callers may swallow it)."""

    calls: int = 0
    changed: bool = False
    error: BaseException | None = None


class Hooks:
    """A context in which the outputs of named modules are replaced; the hooks are gone behind it, also after an error.

    Args:
        modules: encoder -> module.
        replace: makes the stand-in of a tensor.
    """

    def __init__(self, modules: Mapping[str, nn.Module], replace: Replace):
        self.modules, self.replace = dict(modules), replace
        self.seen = {name: Seen() for name in modules}
        self._handles: list[Any] = []

    def __enter__(self) -> "Hooks":
        for name, module in self.modules.items():
            self._handles.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            seen = self.seen[name]
            seen.calls += 1
            try:
                numbers = iter(range(10**9))
                return self._replaced(name, output, numbers, seen)
            except BaseException as error:
                seen.error = seen.error or error
                raise

        return hook

    def _replaced(self, name: str, output: Any, numbers: Any, seen: Seen) -> Any:
        if isinstance(output, Tensor):
            if not output.is_floating_point():
                return output
            stand_in = self.replace(name, next(numbers), output)
            if stand_in.shape != output.shape:
                raise SetupError(f"{name}: the stand-in is {tuple(stand_in.shape)}, the output {tuple(output.shape)}")
            seen.changed = seen.changed or not torch.equal(stand_in, output)
            return stand_in
        if isinstance(output, dict):  # transformers' ModelOutput is one
            for key in list(output):
                output[key] = self._replaced(name, output[key], numbers, seen)
            return output
        if isinstance(output, list | tuple):
            return type(output)(self._replaced(name, value, numbers, seen) for value in output)
        return output

    def check(self) -> None:
        """Fail unless every hook fired and changed something.

        Raises:
            SetupError: a hook never fired, or failed.
            DataError: what was replaced was the same already.
        """
        for name, seen in self.seen.items():
            if seen.error is not None:
                raise SetupError(f"masking {name} failed: {seen.error}") from seen.error
            if not seen.calls:
                raise SetupError(
                    f"the module named for {name} never ran, so nothing was masked; name one that images pass through"
                )
            if not seen.changed:
                raise DataError(f"dropping {name} changed nothing: its output was the same as what replaced it")
