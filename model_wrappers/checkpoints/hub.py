"""Find a checkpoint, by hub id or folder, its weight files and its config; no torch needed."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from redundancy_eval.errors import SetupError

DEMO = "demo"
# Where weights are looked for, first to last: transformers' own order (modeling_utils.py), then Prismatic's place.
_WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "checkpoints/latest-checkpoint.pt",
)  # fmt: skip
_OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_INDEX = ".index.json"
OPEN_CLIP_CONFIG = "open_clip_config.json"
# Where weights also lie in `encoder_weights`: hub repository -> a folder, as an original code has users call it, or a
# file of another release, without .safetensors or .pth.
_ORIGINALS = {
    "facebook/dinov2-large": "facebookresearch/dinov2/dinov2_vitl14_pretrain",
    "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup": (
        "OpenAI/openclip-convnext-large-d-320-laion2B-s29B-b131K-ft-soup"
    ),
}
_SMALL_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json")  # one of them is in a folder that holds a tokenizer
# What changes a model beside its weights, or says that they are not what they seem.
_ADAPTER = "adapter_config.json"
_QUANTISED = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
_UNMERGED = ("mm_projector.bin", "dino_mm_projector.bin", "non_lora_trainables.bin")


@dataclass(frozen=True)
class Weights:
    """A complete set of weight files in a folder: their names, and that of the index that lists them ("": none)."""

    names: tuple[str, ...]
    index: str = ""

    def __str__(self) -> str:
        return self.index or self.names[0]


def locate(pretrained: str, revision: str | None = None, weights: bool = True) -> Path:
    """The local folder of a checkpoint, fetched from the hub when `pretrained` is no folder.

    Args:
        pretrained: a folder, a hub id such as NVEagle/Eagle-X5-7B, a folder of a hub repository (ORG/NAME/FOLDER), or
            `demo` for the bundled checkpoint.
        revision: branch, tag or commit on the hub.
        weights: fetch the weight files too, not only config and tokenizer.

    Raises:
        SetupError: no such folder, or the hub does not have it or can't be reached.
    """
    if pretrained == DEMO:
        return Path(__file__).parents[1] / "demo_checkpoint"
    folder = Path(pretrained).expanduser()
    if folder.is_dir():
        return folder
    if pretrained.startswith((".", "/", "~")) or pretrained.count("/") not in (1, 2):
        raise SetupError(f"no such checkpoint folder: {pretrained} (a hub id looks like NVEagle/Eagle-X5-7B)")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise SetupError(f"{pretrained} is no folder here; fetching it needs: pip install huggingface_hub") from None
    repository, inside = _on_hub(pretrained)

    def get(names: Iterable[str]) -> Path:
        patterns = [f"{inside}{name}" for name in names]
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns)) / inside

    try:
        local = get(_SMALL_FILES)
        if not local.is_dir():
            raise SetupError(f"the hub's {repository} has no folder {inside.rstrip('/')}")
        if weights:
            # The first set that is there will do. Indexes came with the small files.
            for name in _order(local):
                if name.endswith(_INDEX) and not (local / name).is_file():
                    continue
                get(_shards(local / name) if name.endswith(_INDEX) else [name])
                if name.endswith(_INDEX) or (local / name).is_file():
                    break
    except SetupError:
        raise
    except Exception as error:
        # huggingface_hub raises many kinds (offline, gated, not found, HTTP); the user needs one line of any.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SetupError(f"cannot get {pretrained} from the hub: {lines[0]}") from error
    return local


def _on_hub(pretrained: str) -> tuple[str, str]:
    """The repository of ORG/NAME or ORG/NAME/FOLDER, and how the names of what is asked for begin in it."""
    organisation, name, *folder = pretrained.split("/")
    return f"{organisation}/{name}", "".join(f"{part}/" for part in folder)


def locate_tokenizer(folder: Path, repository: str = "", given: str | None = None) -> Path:
    """The folder of a checkpoint's tokenizer: the checkpoint itself, where it holds one.

    Args:
        folder: the checkpoint.
        repository: on the hub, of a release that leaves the tokenizer to its language model's repository; "" for none.
        given: a folder or hub id that is to be taken instead.

    Raises:
        SetupError: it is not there.
    """
    if given:
        return locate(given, weights=False)
    if not repository or any((folder / name).is_file() for name in _TOKENIZER):
        return folder
    try:
        return locate(repository, weights=False)
    except SetupError as error:
        raise SetupError(f"{error} (the tokenizer; tokenizer=FOLDER says where it is on this machine)") from error


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
    for name in filter(None, (hub_id, _ORIGINALS.get(hub_id))):
        if (root / name).is_dir():
            return root / name
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
    if pretrained.count("/") not in (1, 2):
        return None
    repository, inside = _on_hub(pretrained)
    path = try_to_load_from_cache(repository, f"{inside}config.json")
    return Path(path).parent if isinstance(path, str) else None


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A checkpoint's config.json, or another JSON file of it.

    Raises:
        SetupError: the file is absent, cannot be read or is not a JSON object.
    """
    path = folder / name
    if not path.is_file():
        there = "is no regular file" if path.exists() else "is missing"
        raise SetupError(f"no checkpoint in {folder}: {name} {there}{hint(folder)}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise SetupError(f"{path} is not valid JSON: {reason}") from None
    if not isinstance(config, dict):
        raise SetupError(f"{path} is not a JSON object")
    return config


def hint(folder: Path) -> str:
    """What lies in a folder that may explain what is missing there, in brackets; "" for nothing."""
    if (folder / _ADAPTER).is_file():
        return " (the folder holds an adapter: merge it into its base model first)"
    beside = [name for name in _UNMERGED if (folder / name).is_file()]
    return f" ({' and '.join(beside)} beside: merge what it holds into the weights first)" if beside else ""


def refuse_additions(folder: Path) -> None:
    """Refuse a folder whose weights are not the whole model, or not what they seem.

    Raises:
        SetupError: an adapter lies beside the weights, or a description of quantised ones.
    """
    if (folder / _ADAPTER).is_file():
        raise SetupError(
            f"{folder} holds an adapter ({_ADAPTER}), which is not read: merge it into its base model first"
        )
    for name in _QUANTISED:
        if (folder / name).is_file():
            raise SetupError(f"{folder / name}: quantised checkpoints are not supported")


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
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False, **settings)
    except Exception as error:
        # Missing files, damaged files and clashing versions of sentencepiece and protobuf all end here.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SetupError(
            f"cannot read the tokenizer in {folder}: {reason} (a tokenizer.model needs sentencepiece below 0.2.3)"
        ) from error
    check_tokenizer(tokenizer, folder)
    return tokenizer


def check_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Refuse a tokenizer that knows no words, or that puts other tokens around a text than the beginning one.

    A token after each text, left over from training (`add_eos_token`), would stand before images and at the end of
    prompts.

    Raises:
        SetupError: what it does.
    """
    plain = tokenizer("a picture", add_special_tokens=False).input_ids
    if not [token for token in plain if token != tokenizer.unk_token_id]:
        raise SetupError(f"the tokenizer in {folder} has no vocabulary: a file of it is missing")
    whole = tokenizer("a picture").input_ids
    if whole in (plain, [tokenizer.bos_token_id, *plain]):
        return
    if whole[-1] == tokenizer.eos_token_id:
        given = tokenizer.init_kwargs.get("add_eos_token")
        cause = "tokenizer_config.json: add_eos_token" if given else f"the tokenizer in {folder}"
        raise SetupError(f"{folder}: {cause} puts {tokenizer.eos_token} into prompts; switch it off")
    around = tokenizer.convert_ids_to_tokens([token for token in whole if token not in plain])
    raise SetupError(f"the tokenizer in {folder} puts {', '.join(map(str, around))} around a text")


def weight_sets(folder: Path) -> list[Weights]:
    """The sets of weights in a folder, in transformers' order: the first is the one that is read.

    A folder with an open_clip config is read as open_clip's.

    Raises:
        SetupError: an index is damaged, or names a file outside of the folder.
    """
    found: list[Weights] = []
    for name in _order(folder):
        if (folder / name).is_file():
            own = Weights(_shards(folder / name), name) if name.endswith(_INDEX) else Weights((name,))
            if all(own.names != other.names for other in found):  # an index may list the single file
                found.append(own)
    return found


def weight_files(folder: Path) -> list[Path]:
    """A checkpoint's weight files, of the set that transformers would take; for a weight file itself, that file.

    Raises:
        SetupError: there are none, an index is damaged, or a file that it lists is missing.
    """
    if folder.is_file():
        return [folder]
    sets = weight_sets(folder)
    if not sets:
        singles = " or ".join(name for name in _order(folder) if not name.endswith(_INDEX))
        raise SetupError(f"no weights in {folder}: expected {singles}, or an index file of shards{hint(folder)}")
    absent = [name for name in sets[0].names if not (folder / name).is_file()]
    if absent:
        raise SetupError(f"{folder}: weight files listed in the index are missing: {', '.join(absent)}")
    return [folder / name for name in sets[0].names]


def _order(folder: Path) -> tuple[str, ...]:
    return _OPEN_CLIP if (folder / OPEN_CLIP_CONFIG).is_file() else (*_WEIGHTS, *_OPEN_CLIP)


def _shards(index: Path) -> tuple[str, ...]:
    """Names of the files that an index lists."""
    listed = read_config(index.parent, index.name).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise SetupError(f"{index}: weight_map names no weight files")
    suffix = PurePosixPath(index.name.removesuffix(_INDEX)).suffix
    for tensor, name in listed.items():
        if not isinstance(name, str):
            raise SetupError(f"{index}: weight_map has {name!r} for {tensor!r}, no file's name")
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or parts[:1] == ("/",) or ":" in name:
            raise SetupError(f"{index} names a file outside of its folder: {name!r}")
        if not name.endswith(suffix):
            raise SetupError(f"{index} names {name!r}, which is no {suffix} file")
    return tuple(sorted(set(listed.values())))
