"""Make the small recordings of this folder from the full ones.

    python tests/recordings/trim.py ../shared/golden

Of each family one recording, of it the one input that was recorded under every mask (or those that INPUTS names), of
the checkpoint the tensors that the port reads. Recorded tensors of more than a few kilobytes keep every K-th row
(`name/rows_strideK`, as the full ones do). Values are not touched. The manifests of full-size names and shapes are
copied.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.families.recording import recording
from redundancy_eval.model_wrappers.masking import parity

HERE = Path(__file__).parent
CHOSEN = {
    "eagle": "x4plus_tiny", "cambrian": "llama3_tiny", "imof": "vicuna_tiny", "deepseek_vl": "tiny", "eagle2": "tiny",
    "deepseek_ocr": "tiny", "prismatic": "dinosiglip384_tiny",
    "mgm": "vicuna_hd_tiny",
}  # fmt: skip
INPUTS = {  # where it is not the smallest with all conditions
    "deepseek_ocr": ("j", "k"),  # tiles; no image
    "prismatic": ("b",),  # two turns, and an image that is no single pixel
}
BUILDERS = "prompt_builders.json"  # Prismatic's prompts
MOST = 4096  # bytes of a recorded tensor


def read_by_the_port(folder: Path) -> set[str]:
    """Names of the tensors that are read, of whatever file, when a recorded checkpoint is loaded."""
    read: set[str] = set()

    def noted(of: Path) -> Iterator[tuple[str, Callable[[], Tensor]]]:
        for key, get in original(of):
            yield key, lambda key=key, get=get: (read.add(key), get())[1]

    original = weights.tensors
    with mock.patch.object(weights, "tensors", noted):
        recording(parity.family_of(folder / "checkpoint")).load(folder / "checkpoint")
    return read


def only(path: Path, keep: Callable[[str], bool]) -> None:
    """Rewrite a safetensors file with the tensors that are kept."""
    with safe_open(path, framework="pt") as handle:
        metadata = handle.metadata()
    save_file({key: value for key, value in load_file(path).items() if keep(key)}, path, metadata)


def strided(name: str, value: Tensor) -> tuple[str, Tensor]:
    """A recorded tensor and its name, of at most about MOST bytes: every K-th row, where it has all of them."""
    factor = -(-value.numel() * value.element_size() // MOST)
    if factor == 1 or value.ndim < 2 or len(value) < 2 * factor or "rows_stride" in name:
        return name, value
    return f"{name}/rows_stride{factor}", value[::factor].contiguous()


def trim(full: Path, small: Path, inputs: tuple[str, ...] = ()) -> None:
    """Make one small recording, of these inputs; by default of the smallest with all conditions."""
    shutil.rmtree(small, ignore_errors=True)
    for part in ("checkpoint", "towers", "llm"):
        if (full / part).is_dir():
            shutil.copytree(full / part, small / part)
    listed = json.loads((full / "inputs" / "inputs.json").read_text(encoding="utf-8"))
    sizes = {name: (full / "expected" / f"{name}.safetensors").stat().st_size for name in listed["inputs"]}
    read = {name: load_file(full / "expected" / f"{name}.safetensors") for name in sizes}
    conditions = {name: len(parity._by_condition(tensors)) for name, tensors in read.items()}
    chosen = inputs or (max(sizes, key=lambda name: (conditions[name], -sizes[name])),)
    listed["inputs"] = {name: listed["inputs"][name] for name in chosen}
    (small / "inputs").mkdir()
    (small / "expected").mkdir()
    (small / "inputs" / "inputs.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    for entry in listed["inputs"].values():
        if entry["image_file"] is not None:
            shutil.copy(full / "inputs" / entry["image_file"], small / "inputs")
    if (full / "inputs" / BUILDERS).is_file():
        shutil.copy(full / "inputs" / BUILDERS, small / "inputs")
    stats = full / "inputs" / "preprocessed_stats.json"
    if stats.is_file():
        told = json.loads(stats.read_text(encoding="utf-8"))
        mine = {key: value for key, value in told.items() if key.partition("/")[0] in (*chosen, "")}
        (small / "inputs" / stats.name).write_text(json.dumps(mine, indent=1) + "\n", encoding="utf-8")
    for name in chosen:
        save_file(dict(strided(*item) for item in read[name].items()), small / "expected" / f"{name}.safetensors")
    loaded = read_by_the_port(small)
    for path in small.rglob("*.safetensors"):
        if path.parent.name != "expected":
            only(path, loaded.__contains__)


def main() -> None:
    """Make all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, help="folder of the full recordings")
    golden = parser.parse_args().golden
    for family, name in CHOSEN.items():
        trim(golden / family / name, HERE / family / name, INPUTS.get(family, ()))
        shutil.copytree(golden / family / "manifests", HERE / family / "manifests", dirs_exist_ok=True)
        size = sum(path.stat().st_size for path in (HERE / family).rglob("*") if path.is_file())
        print(f"{family:<12} {size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
