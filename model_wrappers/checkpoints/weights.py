"""Load a released checkpoint into a module, tensor by tensor under other names.

Nothing here executes code from a checkpoint: weights are safetensors or, where a release has only
`pytorch_model*.bin`, read with `weights_only=True`. Every tensor of a file is used, or skipped on purpose, or refused.
"""

import logging
import pickle
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub

log = logging.getLogger(__name__)

# Where a released tensor goes: an own name; several, each with the function that makes its tensor of the released
# one; or nowhere.
Target = str | Mapping[str, Callable[[Tensor], Tensor]] | None


PARTS = ".pt"  # files of training runs: dictionaries of the tensors of each part of a model
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# What quantised checkpoints hold beside their weights: scales, zero points, packed weights.
_SCALES = re.compile(
    r".*[._](weight_scale(_inv|_2)?|scale_inv|scales?|(input|output|k|v)_scale|SCB|weight_format|qweight|qzeros|zeros|"
    r"g_idx|(nested_)?absmax|(nested_)?quant_map|quant_state(\..*)?|weight_(packed|shape|zero_point|g_idx))"
)


@dataclass(frozen=True)
class LoadReport:
    """What loading did: tensors loaded, and tensors of the file skipped on purpose."""

    loaded: int
    skipped: int


def tensors(folder: Path) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Yield (released name, function that reads the tensor) for every tensor of a checkpoint, file by file.

    Raises:
        SetupError: a weight file is missing or damaged.
    """
    for path in hub.weight_files(folder):
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt") as handle:
                    for key in handle.keys():  # noqa: SIM118 (a safetensors handle is no dict)
                        yield key, partial(_tensor, path, key, handle.get_tensor)
            except (SafetensorError, OSError) as error:
                raise SetupError(f"cannot read {path}: {_line(error)}") from error
        else:
            shard = _unpickled(path)
            for key in shard:
                yield key, partial(shard.__getitem__, key)


def _tensor(path: Path, key: str, get: Callable[[str], Tensor]) -> Tensor:
    try:
        return get(key)
    except Exception as error:  # damaged, or of a type that this torch has not
        raise SetupError(f"cannot read {key} in {path}: {_line(error)}") from error


def _unpickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that torch wrote.

    Raises:
        SetupError: it is damaged, or holds anything but tensors by name.
    """
    try:
        # torch before 1.6 wrote no zip; such a file can only be read whole.
        shard = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named:
            raise SetupError(f"{path} holds more than tensors ({named[1]}); only tensors are read") from None
        raise SetupError(f"cannot read {path}: it is damaged, or holds more than tensors") from None
    except Exception as error:  # damaged pickles end in any kind
        raise SetupError(f"cannot read {path}: {_line(error)}") from error
    if not isinstance(shard, dict):
        raise SetupError(f"{path} holds a {type(shard).__name__}, not tensors by name")
    if path.suffix == PARTS:
        shard = dict(_flat(shard))
    others = [str(key) for key, value in shard.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise SetupError(f"{path} holds {', '.join(map(repr, others[:3]))}{more}, not tensors: save the weights alone")
    return shard


def _flat(parts: Mapping[Any, Any], start: str = "") -> Iterator[tuple[Any, Any]]:
    """What the parts of a `.pt` file hold, parts of parts too, by PART/NAME."""
    for key, value in parts.items():
        name = f"{start}{key}" if isinstance(key, str) else key
        if isinstance(value, dict):
            yield from _flat(value, f"{name}/")
        else:
            yield name, value


def _line(error: Exception) -> str:
    """The first line of an error, without codes for a terminal."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def assign(module: nn.Module, name: str, value: Tensor) -> None:
    """Replace one parameter (no gradient) or buffer of a module by its dotted name."""
    path, _, leaf = name.rpartition(".")
    parent = module.get_submodule(path)
    if leaf in parent._parameters:
        parent._parameters[leaf] = nn.Parameter(value, requires_grad=False)
    else:
        parent._buffers[leaf] = value


def inside(prefix: str, target: Target) -> Target:
    """Where a released tensor goes in a module, of where it goes in a part of it whose names begin with a prefix."""
    if isinstance(target, Mapping):
        return {prefix + own: part for own, part in target.items()}
    return None if target is None else prefix + target


def restore_position_ids(embeddings: Any) -> None:
    """Make the position indices of a CLIP's or SigLIP's embeddings, which no checkpoint holds."""
    embeddings.position_ids = torch.arange(embeddings.num_positions).expand((1, -1))


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


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """The meta device, on which models are built; sizes of which none can be built are an error in one line."""
    try:
        with torch.device("meta"):
            yield
    except SetupError:
        raise
    except Exception as error:  # modules refuse sizes that do not fit each other in any way
        reason = _line(error) if str(error) else type(error).__name__
        raise SetupError(f"{folder / 'config.json'}: no model can be built of it: {reason}") from error


def _whole(value: Tensor) -> Tensor:
    return value


def load(
    module: nn.Module,
    folder: Path,
    rename: Callable[[str], Target],
    dtype: torch.dtype,
    device: Device,
    expected: Callable[[str], bool] | None = None,
    release: Callable[[str], str] = str,
    tied: Mapping[str, str] | None = None,
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
        release: the inverse of `rename`, for messages.
        tied: name -> another whose tensor it takes where the file has none of its own.

    Raises:
        SetupError: tensors are missing, have another shape, are quantised, or are none of this model's.
    """
    if folder.is_dir():
        hub.refuse_additions(folder)
        _tell_of_others(folder)
    wanted = {name: value for name, value in module.state_dict().items() if expected is None or expected(name)}
    shapes = {name: tuple(value.shape) for name, value in wanted.items()}
    missing, seen, unexpected, skipped = set(shapes), set[str](), list[str](), 0
    for released, read in tensors(folder):
        if released in seen:
            raise SetupError(f"{folder}: {released} stands in two weight files")
        seen.add(released)
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
            if wanted[name].is_floating_point() and whole.dtype not in _FLOATS:
                kind = str(whole.dtype).removeprefix("torch.")
                raise SetupError(f"{folder}: {released} is {kind}: quantised checkpoints are not supported")
            value = part(whole)
            if tuple(value.shape) != shapes[name]:
                shape = tuple(value.shape)
                raise SetupError(f"{folder}: {released} has shape {shape}, the model expects {shapes[name]}")
            if value.is_floating_point():
                value = value.to(dtype)
            assign(module, name, value.to(device_of(device, name)))
            missing.discard(name)
    for name, source in (tied or {}).items():
        if name in missing and source not in missing:
            assign(module, name, module.get_parameter(source).data.to(device_of(device, name)))
            missing.discard(name)
    _check(folder, sorted({release(name) for name in missing}), unexpected)
    return LoadReport(len(shapes), skipped)


def _check(folder: Path, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    scales = [name for name in unexpected if _SCALES.fullmatch(name)]
    if scales:
        raise SetupError(f"{folder}: {scales[0]}: quantised checkpoints are not supported")
    if missing:
        also = f"; {len(unexpected)} are of another model, e.g. {unexpected[0]}" if unexpected else ""
        raise SetupError(
            f"{folder}: {len(missing)} tensors are missing from the checkpoint: {_listed(missing)}{also}"
            f"{hub.hint(folder) if folder.is_dir() else ''}"
        )
    if unexpected:
        raise SetupError(
            f"{folder}: {len(unexpected)} tensors of the checkpoint are none of this model's: {_listed(unexpected)}"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _tell_of_others(folder: Path) -> None:
    """Name a second set of weights, which is not read."""
    sets = hub.weight_sets(folder)
    if len(sets) > 1:
        log.warning("%s: %s is read; not read: %s", folder, sets[0], ", ".join(map(str, sets[1:])))


def differing(folder: Path, prefix: str, weights: Path, rename: Callable[[str], Target]) -> str:
    """A tensor under a prefix of one checkpoint that another has with other values; "" where all agree.

    Args:
        folder: holds copies, under released names after `prefix`.
        prefix: of the copies.
        weights: holds the originals.
        rename: released name -> own name, of both.
    """
    copies: dict[str, tuple[str, Tensor]] = {}
    for released, read in tensors(folder):
        if released.startswith(prefix):
            for own, value in _parts(rename(released.removeprefix(prefix)), read):
                copies[own] = released, value
    for released, read in tensors(weights) if copies else ():
        for own, value in _parts(rename(released), read):
            name, copy = copies.get(own, ("", value))
            if copy.shape != value.shape or not torch.equal(copy, value.to(copy.dtype)):
                return name
    return ""


def _parts(target: Target, read: Callable[[], Tensor]) -> Iterator[tuple[str, Tensor]]:
    if target is not None:
        whole = read()
        for own, part in ({target: _whole} if isinstance(target, str) else target).items():
            yield own, part(whole)
