"""Find a checkpoint, by hub id or folder, and read its config; no torch needed."""

import json
from pathlib import Path
from typing import Any

from redundancy_eval.errors import SetupError

DEMO = "demo"
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
OPEN_CLIP_CONFIG = "open_clip_config.json"
# Weights that exist in two releases: hub repository -> the original file's name, without .safetensors or .pth.
_ORIGINALS = {"facebook/dinov2-large": "facebookresearch/dinov2/dinov2_vitl14_pretrain"}
_SMALL_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]


def locate(pretrained: str, revision: str | None = None, weights: bool = True) -> Path:
    """The local folder of a checkpoint, fetched from the hub when `pretrained` is no folder.

    Args:
        pretrained: a folder, a hub id such as NVEagle/Eagle-X5-7B, or `demo` for the bundled checkpoint.
        revision: branch, tag or commit on the hub.
        weights: fetch the weight files too, not only config and tokenizer.

    Raises:
        SetupError: no such folder, or the hub does not have it or can't be reached.
    """
    if pretrained == DEMO:
        return Path(__file__).parent / "demo_checkpoint"
    folder = Path(pretrained).expanduser()
    if folder.is_dir():
        return folder
    if pretrained.startswith((".", "/", "~")) or pretrained.count("/") != 1:
        raise SetupError(f"no such checkpoint folder: {pretrained} (a hub id looks like NVEagle/Eagle-X5-7B)")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise SetupError(f"{pretrained} is no folder here; fetching it needs: pip install huggingface_hub") from None
    try:
        local = Path(snapshot_download(pretrained, revision=revision, allow_patterns=_SMALL_FILES))
        if weights:
            # A repository without an index holds one of these; the first that is there will do.
            for names in [_listed(local)] if _listed(local) else [[name] for name in _singles(local)]:
                snapshot_download(pretrained, revision=revision, allow_patterns=names)
                if (local / names[0]).is_file():
                    break
    except Exception as error:
        # huggingface_hub raises many kinds (offline, gated, not found, HTTP); the user needs one line of any.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SetupError(f"cannot get {pretrained} from the hub: {lines[0]}") from error
    return local


def locate_encoder(hub_id: str, encoder_weights: str | Path | None = None) -> Path:
    """Where an encoder's weights are: a folder, or the weight file of the original DINOv2 release.

    Args:
        hub_id: the encoder's repository on the hub, e.g. `openai/clip-vit-large-patch14-336`.
        encoder_weights: a folder that holds such repositories as ORG/NAME; the hub is asked when None.

    Raises:
        SetupError: it is not there.
    """
    if encoder_weights is None:
        return locate(hub_id)
    root = Path(encoder_weights).expanduser()
    if (root / hub_id).is_dir():
        return root / hub_id
    for suffix in (".safetensors", ".pth"):
        if hub_id in _ORIGINALS and (root / (_ORIGINALS[hub_id] + suffix)).is_file():
            return root / (_ORIGINALS[hub_id] + suffix)
    raise SetupError(f"encoder_weights={encoder_weights} has no folder {hub_id}")


def cached(pretrained: str) -> Path | None:
    """The local folder of a checkpoint if its config is already on this machine; never goes to the network."""
    if pretrained == DEMO or Path(pretrained).expanduser().is_dir():
        return locate(pretrained)
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    path = try_to_load_from_cache(pretrained, "config.json") if pretrained.count("/") == 1 else None
    return Path(path).parent if isinstance(path, str) else None


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A checkpoint's config.json, or another JSON file of it.

    Raises:
        SetupError: the file is absent or is not a JSON object.
    """
    path = folder / name
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SetupError(f"no checkpoint in {folder}: {name} is missing") from None
    except ValueError as error:
        raise SetupError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise SetupError(f"{path} is not a JSON object")
    return config


def read_tokenizer(folder: Path, config: Any = None, **settings: Any) -> Any:
    """A checkpoint's tokenizer, without its remote code.

    Args:
        folder: the checkpoint.
        config: a transformers config, where the checkpoint's model type is unknown to transformers.
        settings: for AutoTokenizer.

    Raises:
        SetupError: it cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False, **settings)
    except Exception as error:
        # Missing files, damaged files and clashing versions of sentencepiece and protobuf all end here.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SetupError(
            f"cannot read the tokenizer in {folder}: {reason} (a tokenizer.model needs sentencepiece below 0.2.3)"
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """A checkpoint's weight files, safetensors first; stale shards that no index lists are left out.

    A folder with an open_clip config is read as open_clip's; for a weight file itself, that file.

    Raises:
        SetupError: there are none, or a listed one is missing.
    """
    if folder.is_file():
        return [folder]
    names = _listed(folder) or [name for name in _singles(folder) if (folder / name).is_file()][:1]
    if not names:
        raise SetupError(
            f"no weights in {folder}: expected {' or '.join(_singles(folder))}, or an index file of shards"
        )
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise SetupError(f"{folder}: weight files listed in the index are missing: {', '.join(absent)}")
    return [folder / name for name in names]


def _singles(folder: Path) -> tuple[str, ...]:
    return _OPEN_CLIP if (folder / OPEN_CLIP_CONFIG).is_file() else _SINGLE


def _listed(folder: Path) -> list[str]:
    for index in _INDEXES:
        if (folder / index).is_file():
            return sorted(set(json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()))
    return []
