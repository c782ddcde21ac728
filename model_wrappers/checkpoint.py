"""Load a released checkpoint into a module, tensor by tensor under other names.

Nothing here executes code from a checkpoint: weights are safetensors or, where a release has only
`pytorch_model*.bin`, read with `weights_only=True`.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import hub

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What loading did: tensors loaded, tensors skipped on purpose, and unexpected ones (names as released)."""

    loaded: int
    skipped: int
    unexpected: tuple[str, ...]


def tensors(folder: Path) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Yield (released name, function that reads the tensor) for every tensor of a checkpoint, file by file.

    Raises:
        SetupError: a weight file is missing or damaged.
    """
    for path in hub.weight_files(folder):
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt") as handle:
                    for key in handle.keys():  # noqa: SIM118 (a safetensors handle is no dict)
                        yield key, partial(handle.get_tensor, key)
            else:
                shard = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                for key in shard:
                    yield key, partial(shard.__getitem__, key)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise SetupError(f"cannot read {path}: {error}") from error


def assign(module: nn.Module, name: str, value: Tensor) -> None:
    """Replace one parameter (no gradient) or buffer of a module by its dotted name."""
    path, _, leaf = name.rpartition(".")
    parent = module.get_submodule(path)
    if leaf in parent._parameters:
        parent._parameters[leaf] = nn.Parameter(value, requires_grad=False)
    else:
        parent._buffers[leaf] = value


def load(
    module: nn.Module,
    folder: Path,
    rename: Callable[[str], str | None],
    dtype: torch.dtype,
    device: torch.device | str,
) -> LoadReport:
    """Fill a module that was built on the meta device from a released checkpoint.

    Args:
        module: the model; every parameter and persistent buffer must be found in the checkpoint.
        folder: the checkpoint.
        rename: released name -> name in `module`; None for a tensor to skip on purpose.
        dtype: floating tensors are cast to it.
        device: where the tensors go.

    Raises:
        SetupError: tensors are missing or have another shape.
    """
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    missing = set(shapes)
    unexpected: list[str] = []
    skipped = 0
    for released, read in tensors(folder):
        own = rename(released)
        if own is None:
            skipped += 1
            continue
        if own not in missing:
            unexpected.append(released)
            continue
        value = read()
        if tuple(value.shape) != shapes[own]:
            raise SetupError(f"{folder}: {released} has shape {tuple(value.shape)}, the model expects {shapes[own]}")
        if value.is_floating_point():
            value = value.to(dtype)
        assign(module, own, value.to(device))
        missing.discard(own)
    if missing:
        names = ", ".join(sorted(missing)[:20]) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
        raise SetupError(f"{folder}: {len(missing)} tensors are missing from the checkpoint: {names}")
    if unexpected:
        log.warning("%s: %d unexpected tensors ignored, e.g. %s", folder, len(unexpected), unexpected[0])
    return LoadReport(len(shapes), skipped, tuple(unexpected))
