"""What loading costs, and models spread over devices."""

import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from safetensors.torch import save_file

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.helpers import tiny
from tests.helpers.pictures import picture

pytestmark = [pytest.mark.models, pytest.mark.slow]

MEASURE = """
import sys, threading, time
import torch
from pathlib import Path
from redundancy_eval.model_wrappers.families.eagle import model as eagle

def resident():
    for line in open("/proc/self/status"):
        if line.startswith(("RssAnon", "RssShmem")):
            yield int(line.split()[1]) / 1024

peak, done = [0.0], []
def watch():
    while not done:
        peak[0] = max(peak[0], sum(resident()))
        time.sleep(0.002)

eagle.Eagle.load(Path(sys.argv[1]).parent / "small", dtype=torch.bfloat16)  # imports and caches are not the model's
before = sum(resident())
peak[0] = before
watcher = threading.Thread(target=watch)
watcher.start()
model, _, _ = eagle.Eagle.load(Path(sys.argv[1]), dtype=torch.bfloat16)
done.append(True)
watcher.join()
size = sum(v.numel() * v.element_size() for v in model.state_dict().values()) / 2**20
print(size, peak[0] - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_loading_needs_the_model_and_a_shard(tmp_path):
    """A float32 checkpoint in shards, loaded in bfloat16: the model, plus one shard, plus 10 %."""
    tiny.write(tmp_path / "small")
    folder = tiny.write(tmp_path / "large", hidden_size=512, intermediate_size=4096, num_hidden_layers=12)
    (path,) = folder.glob("model.safetensors")
    from safetensors.torch import load_file

    tensors = load_file(path)
    path.unlink()
    shards, sizes = [{}], [0]
    for name, value in tensors.items():
        if sizes[-1] > 64 * 2**20:
            shards.append({})
            sizes.append(0)
        shards[-1][name] = value
        sizes[-1] += value.numel() * value.element_size()
    names = [f"model-{i}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name)
    weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(folder)], capture_output=True, text=True, timeout=300)
    size, peak = map(float, done.stdout.split())
    shard = max(sizes) / 2**20
    assert len(shards) > 3 and size > 150
    assert peak <= size + shard + 0.1 * size, f"{peak:.0f} MiB for a model of {size:.0f} and shards of {shard:.0f}"


def test_a_model_may_be_spread_over_devices(tmp_path):
    folder = str(tiny.write(tmp_path / "eagle"))
    one = loading.load("eagle_masked", folder, "sam", device="cpu")
    spread = loading.load("eagle_masked", folder, "sam", device="cpu", device_map="auto")
    prompt = Prompt("What?", (picture(1),))
    assert spread.generate([prompt], 4) == one.generate([prompt], 4)
    with pytest.raises(SetupError, match="device_map must be auto"):
        loading.load("eagle_masked", folder, device="cpu", device_map="balanced")


def test_tensors_go_where_the_map_says(tmp_path):
    from redundancy_eval.model_wrappers.families.eagle import model as eagle

    folder = tiny.write(tmp_path / "eagle")
    devices = {"encoders": "meta", "mm_projector": "cpu", "language_model": "cpu", "language_model.lm_head": "meta"}
    with torch.device("meta"):
        model = eagle.Eagle(hub.read_config(folder))
    weights.load(model, folder, model.rename, torch.float32, devices)
    where = {name: value.device.type for name, value in model.state_dict().items()}
    assert {where[name] for name in where if name.startswith("encoders.")} == {"meta"}
    assert where["language_model.lm_head.weight"] == "meta" and where["mm_projector.0.weight"] == "cpu"
    with pytest.raises(SetupError, match="the device map holds nothing for mm_projector"):
        weights.device_of({"encoders": "cpu"}, "mm_projector.0.weight")
    assert "LlamaDecoderLayer" in model.whole() and "ClipEncoder" in model.whole()
