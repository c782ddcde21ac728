"""Who is this checkpoint: hashes that tell whether two folders hold the same model; no torch needed.

Tens of gigabytes are not read. Of a weight file count its size, its table of tensors, blocks spread evenly over it,
and a piece from the middle of every tensor (safetensors) or the checksum that the file itself gives every tensor
(PyTorch's zip). So another training, or an adapter merged into a few layers, shows. **Not noticed**: a change that
keeps the size and touches none of these bytes, such as single values edited in place or a damaged sector. No path is
part of an identity: a copy of a folder is the same model, wherever it lies and however its files are linked.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.store import canonical

# What decides answers beside the weights: configs, tokenizer, processor, chat template.
_SMALL_FILES = ("*.json", "*.model", "*.txt", "*.jinja")
TOKENIZER = "tokenizer"  # a folder of which only the tokenizer counts
_OF_TOKENIZER = (
    "tokenizer*.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
)  # fmt: skip
_BLOCKS, _BLOCK, _PIECE = 16, 64 * 1024, 4096
# Raise this when a change to the code makes a model answer otherwise, so that kept answers are not taken for its:
# 2 by the slow tokenizers' pieces, pictures of 16 bits, and image tags that are words.
EPOCH = 2


def of(folders: Mapping[str, Path]) -> dict[str, Any]:
    """The identity of a model: of every folder, hashes of its small files and of its weight files.

    Args:
        folders: `checkpoint` and, where encoders come from repositories of their own, the folder (or weight file) of
            each by its name; `tokenizer`, where that lies elsewhere.

    Returns:
        {name: {"files": {file: hash}, "weights": {file: {"size", "tensors", "blocks"}}}}, JSON values only.

    Raises:
        SetupError: weights are missing or damaged, or the config is no JSON.
    """
    return {
        name: _tokenizer(folder) if name == TOKENIZER else _folder(folder) for name, folder in sorted(folders.items())
    }


def digest(identity: Mapping[str, Any]) -> str:
    """Sixteen hex digits that stand for an identity."""
    return _hash(canonical(identity).encode())[:16]


def revisions(folders: Mapping[str, Path]) -> dict[str, str]:
    """The commits of those folders that are the hub's snapshots.

    For information, beside the identity and not in it: the same files copied elsewhere, or another commit that
    changed only a model card, are the same model.
    """
    found = {}
    for name, folder in sorted(folders.items()):
        # Not resolved: a weight file's link leads out of the snapshot, to the hub's blobs.
        commit = re.search(r"/snapshots/([0-9a-f]{40})(/|$)", folder.absolute().as_posix())
        if commit:
            found[name] = commit[1]
    return found


def _folder(folder: Path) -> dict[str, Any]:
    root = folder.parent if folder.is_file() else folder
    weights = {path.relative_to(root).as_posix(): _weights(path) for path in sorted(hub.weight_files(folder))}
    there = {path for pattern in _SMALL_FILES for path in folder.glob(pattern) if path.is_file()}
    small = {path for path in there if not path.name.startswith(".")}
    # A second set of weights is not read, so its index is no part either.
    unread = {folder / other.index for other in hub.weight_sets(folder)[1:]} if folder.is_dir() else set()
    return {"files": {path.name: _small(path) for path in sorted(small - unread)}, "weights": weights}


def _tokenizer(folder: Path) -> dict[str, Any]:
    there = sorted({path for pattern in _OF_TOKENIZER for path in folder.glob(pattern) if path.is_file()})
    return {"files": {path.name: _small(path) for path in there}, "weights": {}}


def _small(path: Path) -> str:
    # A config written anew by another version of a library may differ in layout only.
    content = canonical(hub.read_config(path.parent)).encode() if path.name == "config.json" else path.read_bytes()
    return _hash(content)


def _weights(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    try:
        tensors, middles = _safetensors(path, size) if path.suffix == ".safetensors" else (_zip(path), [])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zipfile.BadZipFile) as error:
        raise SetupError(f"{path} is damaged: {error}") from None
    # Evenly spread, the first and the last bytes among them; of a small file, all of it.
    count = _BLOCKS if size > _BLOCKS * _BLOCK else 1
    length = _BLOCK if count > 1 else size
    starts = [number * (size - length) // max(count - 1, 1) for number in range(count)]
    blocks = _read(path, [*((start, length) for start in starts), *((middle, _PIECE) for middle in middles)])
    return {"size": size, "tensors": tensors, "blocks": blocks}


def _safetensors(path: Path, size: int) -> tuple[str, list[int]]:
    """Hash of the header, and where the middle of each tensor lies."""
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if length > size - 8:
            raise ValueError(f"its header would end at byte {length + 8}, the file at {size}")
        header = handle.read(length)
    tensors = [tensor["data_offsets"] for name, tensor in json.loads(header).items() if name != "__metadata__"]
    if any(not 0 <= start <= end <= size - 8 - length for start, end in tensors):
        raise ValueError("a tensor would end outside of the file")
    return _hash(header), sorted(8 + length + (start + end) // 2 for start, end in tensors)


def _zip(path: Path) -> str:
    """Hash of the records of a file that PyTorch wrote: names, sizes, checksums; "" for one of before 2020."""
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        return _hash(canonical([[r.filename, r.file_size, r.CRC] for r in archive.infolist()]).encode())


def _read(path: Path, spans: Iterable[tuple[int, int]]) -> str:
    """Hash of (start, length) pieces of a file."""
    found = hashlib.sha256()
    with path.open("rb") as handle:
        for start, length in spans:
            handle.seek(start)
            found.update(handle.read(length))
    return found.hexdigest()[:32]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
