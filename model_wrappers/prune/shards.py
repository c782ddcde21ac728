"""Weights from one checkpoint into another, shard by shard: memory of one shard, never of the model."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from redundancy_eval import files
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.families.base import FamilyModel

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Written:
    """The weight files of a checkpoint that was written, the parameters in them, and their bytes."""

    names: tuple[str, ...]
    parameters: int
    size: int


def names(folder: Path) -> list[str]:
    """Released names of all tensors of a checkpoint; nothing is read.

    Raises:
        SetupError: a weight file is missing or damaged.
    """
    return [name for name, _ in weights.tensors(folder)]


def owned(released: Collection[str], full: FamilyModel, without: FamilyModel) -> set[str]:
    """The tensors of one encoder, those that nothing computes with among them.

    Args:
        released: names of all tensors of the checkpoint.
        full: the model with all encoders, on the meta device.
        without: the same without the one.
    """
    used = {name for name in released if full.rename(name) is not None}
    mine = {name for name in used if without.rename(name) is None}
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*(name.split(".") for name in mine), strict=False))
    start = "".join(f"{parts[0]}." for parts in shared)
    if not start or any(name.startswith(start) for name in used - mine):
        return mine
    return mine | {name for name in released if name.startswith(start)}


def write(folder: Path, out: Path, gone: Collection[str], cut: Callable[[str, Tensor], tuple[str, Tensor]]) -> Written:
    """Write a checkpoint's tensors as safetensors into another folder, in shards as it has them.

    Args:
        folder: the checkpoint.
        out: the other folder.
        gone: released names that are left out.
        cut: (released name, tensor) -> what is written.

    Raises:
        SetupError: a weight file is missing or damaged.
    """
    shards = [path for path in hub.weight_files(folder) if set(names(path)) - set(gone)]
    called = [_SINGLE] if len(shards) == 1 else list(_numbered(len(shards)))
    place: dict[str, str] = {}
    parameters = total = 0
    for path, name in zip(shards, called, strict=True):
        kept = dict(_kept(path, gone, cut))
        save_file(kept, out / name, metadata={"format": "pt"})
        place |= dict.fromkeys(kept, name)
        parameters += sum(value.numel() for value in kept.values())
        total += sum(value.numel() * value.element_size() for value in kept.values())
        del kept
    if len(called) > 1:
        files.write_json(out / _INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(place.items()))})
    return Written(tuple(called), parameters, size(out, called))


def size(folder: Path, weight_files: Sequence[str]) -> int:
    """Bytes of files."""
    return sum((folder / name).stat().st_size for name in weight_files)


def _numbered(count: int) -> Iterator[str]:
    return (f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1))


def _kept(
    path: Path, gone: Collection[str], cut: Callable[[str, Tensor], tuple[str, Tensor]]
) -> Iterator[tuple[str, Tensor]]:
    seen = set()
    for released, read in weights.tensors(path):
        if released not in gone:
            name, value = cut(released, read())
            # safetensors refuses tensors that share memory (tied weights of a .bin file) or are views.
            shared = value.untyped_storage().data_ptr() in seen
            value = value.clone() if shared else value.contiguous()
            seen.add(value.untyped_storage().data_ptr())
            yield name, value
