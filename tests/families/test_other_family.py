"""A family of another package (tests/helpers/other_family), installed as its users would, works everywhere."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval import records, taxonomy
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families import base, recording, registry
from redundancy_eval.readers import find
from tests.helpers import vlmevalkit_data
from tests.helpers.outcomes import Outcomes

pytestmark = [pytest.mark.framework, pytest.mark.models]
ROOT = Path(__file__).resolve().parents[2]
MODEL = "two_towers_masked"
DEMO = ("--tasks", "redundancy_demo_ocr", "--limit", 2, "--batch_size", 2, "--device", "cpu")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Run a module with the package installed; the recording that its "original code" wrote."""
    root = tmp_path_factory.mktemp("other")
    shutil.copytree(ROOT / "tests" / "helpers" / "other_family", root / "source")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation",
            "--target", root / "site", root / "source",
        ],
        check=True, timeout=300,
    )  # fmt: skip

    def python(*arguments):
        environment = {
            **os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "LMUData": str(root / "data"),
            "PYTHONPATH": os.pathsep.join((str(root / "site"), str(ROOT))),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", *map(str, arguments)], cwd=root, env=environment, capture_output=True, text=True,
            timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    recording = root / "recording"
    python("two_towers.original", recording, hub.locate("demo"))
    given = ("--model", MODEL, "--model_args", f"pretrained={recording / 'checkpoint'}")
    return SimpleNamespace(root=root, python=python, recording=recording, given=given)


def test_it_is_listed_and_agrees_with_its_original_code(other):
    assert f"## {MODEL}: Two Towers (added)" in other.python("redundancy_eval", "models")
    printed = other.python("redundancy_eval", "parity", other.recording)
    assert "28 of 28 checks hold" in printed and "a zero:vit tokens" in printed


def test_it_runs_in_lmms_eval_and_a_sweep_gives_the_same(other):
    pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")
    model, name, key, checkpoint = other.given
    demo = [*map(str, DEMO), "--log_samples", "--output_path"]
    lines = ["run", model, name, key, f"{checkpoint},drop=vit", *demo, "run"], ["sweep", *other.given, *demo, "sweep"]
    jobs = Outcomes(other.root / "jobs")
    jobs.jobs.joinpath("lanes.json").write_text(json.dumps([[{"name": "both", "commands": lines}]]))
    other.python("tests.helpers.offline_sweep", "lmms-eval", jobs.jobs / "lanes.json")
    jobs.done("both")
    assert records.read([other.root / "run" / "drop-vit"])["encoders"] == ["vit", "convnext"]
    folders = {path.name for path in (other.root / "sweep").iterdir()}
    assert {"drop-none", "drop-vit", "drop-convnext", "drop-all"} <= folders
    one, swept = (answers(other.root / folder / "drop-vit") for folder in ("run", "sweep"))
    assert one == swept and len(one) == 2
    assert one != answers(other.root / "sweep" / "drop-none")


def answers(folder):
    (path,) = folder.rglob("*_samples_*.jsonl")
    return [json.loads(line)["filtered_resps"] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vlmeval") is None, reason="needs the extra vlmevalkit")
def test_it_runs_in_vlmevalkit(other):
    (other.root / "data").mkdir()
    frame = vlmevalkit_data.write(other.root / "data", vlmevalkit_data.noise)["MME"]
    frame.head(4).to_csv(other.root / "data" / "MME.tsv", sep="\t", index=False)
    model, name, key, checkpoint = other.given
    other.python(
        "tests.helpers.offline_vlmevalkit", model, name, key, f"{checkpoint},drop=convnext,max_new_tokens=3", "--data",
        "MME", "--work-dir", "kit",
    )  # fmt: skip
    (run,) = find.read([other.root / "kit"], taxonomy.load())
    assert run.model == MODEL and run.encoders == ("vit", "convnext") and run.mask[0] == "convnext"


def installed(folder, name, value):
    """A package on the path that names a family."""
    info = folder / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\nmine = {value}\n")


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("no_such_module:FAMILY", "the package odd: its model family no_such_module:FAMILY cannot be read: No module"),
        ("redundancy_eval.masks:dropped", "the package odd: redundancy_eval.masks:dropped is a function, no Family"),
        (
            "redundancy_eval.model_wrappers.families.eagle.card:FAMILY",
            "the package odd: there is a model 'eagle_masked' already",
        ),
    ],
)
def test_a_package_whose_family_is_none_is_named(tmp_path, monkeypatch, value, match):
    installed(tmp_path, "odd", value)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SetupError, match=match) as error:
        registry.collected()
    assert "\n" not in str(error.value)


def test_a_card_that_names_no_class():
    family = replace(registry.family("eagle_masked"), model="redundancy_eval.masks:Eagle", recording="")
    with pytest.raises(SetupError, match=r"eagle_masked: redundancy_eval\.masks:Eagle cannot be imported"):
        base.model_class(family)
    with pytest.raises(SetupError, match="eagle_masked says nothing of recordings"):
        recording.recording(family)
