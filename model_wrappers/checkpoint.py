"""Load a released checkpoint into a module, tensor by tensor under other names.

Nothing here executes code from a checkpoint: weights are safetensors or, where a release has only
`pytorch_model*.bin`, read with `weights_only=True`.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import hub

log = logging.getLogger(__name__)

# Where a released tensor goes: an own name; several, each with the function that makes its tensor of the released
# one; or nowhere.
Target = str | Mapping[str, Callable[[Tensor], Tensor]] | None


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


# Where tensors go: one device, or a device for each module by the beginning of its name (accelerate's device map).
Device: TypeAlias = torch.device | str | Mapping[str, Any]


def spread(module: nn.Module, device: Device, dtype: torch.dtype, whole: Collection[str] = ()) -> Device:
    """Turn `auto` into a map of modules to devices, by accelerate's rule; any other device is left as it is.

    Args:
        module: the model, on the meta device.
        device: of the model, or `auto`.
        dtype: that the tensors will have.
        whole: names of classes that must not be split over devices.
    """
    if device != "auto":
        return device
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    classes = sorted(whole)
    memory = get_balanced_memory(module, dtype=dtype, no_split_module_classes=classes)
    return dict(infer_auto_device_map(module, memory, no_split_module_classes=classes, dtype=dtype))


def device_of(device: Device, name: str) -> Any:
    """The device of a module or tensor by its name.

    Raises:
        SetupError: the map does not hold it.
    """
    if not isinstance(device, Mapping):
        return device
    fitting = [start for start in device if not start or name == start or name.startswith(f"{start}.")]
    if not fitting:
        raise SetupError(f"the device map holds nothing for {name}")
    return device[max(fitting, key=len)]


def settle(module: nn.Module, device: Device) -> None:
    """Move what is not there yet, and connect the parts of a model that is spread over devices."""
    if isinstance(device, Mapping):
        from accelerate import dispatch_model

        dispatch_model(module, dict(device))
    else:
        module.to(device)
    module.eval()


def _whole(value: Tensor) -> Tensor:
    return value


def load(
    module: nn.Module,
    folder: Path,
    rename: Callable[[str], Target],
    dtype: torch.dtype,
    device: Device,
    expected: Callable[[str], bool] | None = None,
) -> LoadReport:
    """Fill a module that was built on the meta device from a released checkpoint.

    Args:
        module: the model; every parameter and persistent buffer must be found in the checkpoint.
        folder: the checkpoint.
        rename: released name -> name in `module`, or {name: function of the released tensor} for a tensor that is
            split or reshaped; None for a tensor to skip on purpose.
        dtype: floating tensors are cast to it.
        device: where the tensors go; not `auto`, which `spread` resolves.
        expected: which names in `module` this checkpoint is to fill; by default all. The others, such as encoders
            that come from elsewhere, are left as they are.

    Raises:
        SetupError: tensors are missing or have another shape.
    """
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if expected is not None:
        shapes = {name: shape for name, shape in shapes.items() if expected(name)}
    missing = set(shapes)
    unexpected: list[str] = []
    skipped = 0
    for released, read in tensors(folder):
        own = rename(released)
        if own is None:
            skipped += 1
            continue
        parts = {own: _whole} if isinstance(own, str) else own
        if not missing.issuperset(parts):
            unexpected.append(released)
            continue
        whole = read()
        for name, part in parts.items():
            value = part(whole)
            if tuple(value.shape) != shapes[name]:
                shape = tuple(value.shape)
                raise SetupError(f"{folder}: {released} has shape {shape}, the model expects {shapes[name]}")
            if value.is_floating_point():
                value = value.to(dtype)
            assign(module, name, value.to(device_of(device, name)))
            missing.discard(name)
    if missing:
        names = ", ".join(sorted(missing)[:20]) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
        raise SetupError(f"{folder}: {len(missing)} tensors are missing from the checkpoint: {names}")
    if unexpected:
        log.warning("%s: %d unexpected tensors ignored, e.g. %s", folder, len(unexpected), unexpected[0])
    return LoadReport(len(shapes), skipped, tuple(unexpected))
