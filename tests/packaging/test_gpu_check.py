"""benchmarks/gpu_check.py on a CPU, with the demo's sizes: all of its parts, what it writes, and what it survives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra models")

import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
pytestmark = [pytest.mark.models, pytest.mark.slow]
PARTS = ("works", "all_masks", "naive_single", "bound", "profile", "naive_best", "leave_one_out", "host_work",
         "memory_runs_out", "attention", "hf_masked", "cost", "prune", "cambrian", "deepseek_vl")  # fmt: skip


@pytest.fixture(scope="module")
def running():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from gpu import running

        yield running
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu_check") / "results" / "cpu.json"
    command = [sys.executable, str(BENCHMARKS / "gpu_check.py"), "--tiny", "--documents", "2", "--out", str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return json.loads(out.read_text())


def test_every_part_runs(told):
    assert tuple(told["parts"]) == PARTS
    assert not [name for name, part in told["parts"].items() if "error" in part]
    assert (
        told["schema"] == 1 and torch.__version__.startswith(told["machine"]["torch"]) and told["dtype"] == "bfloat16"
    )


def test_the_parts_say_what_they_measured(told):
    parts = told["parts"]
    assert parts["works"]["demo_answers_equal_to_cpu"] == parts["works"]["demo_answers"] == 2 * 16
    assert parts["works"]["demo_sweep_equal_to_one_by_one"] == 2 * 16
    assert 0 < parts["works"]["demo_half_equal_to_float32"] <= 2 * 16
    assert parts["works"]["largest_difference_of_skipping_and_zeroing"] == 0
    assert parts["all_masks"]["auto_from_2"] == [2]  # a CPU's does not grow
    assert parts["all_masks"]["answers"] == 2 * 16 and parts["all_masks"]["noise_floor_of"] == 2
    for name in ("naive_single", "naive_best"):
        assert 0 < parts[name]["measured"] <= parts[name]["total"] == 2 * 16
        assert parts[name]["extrapolated"] == (parts[name]["measured"] < 2 * 16)
        assert parts[name]["answers_equal_to_sweep"] >= 0.8 * parts[name]["measured"]  # in half precision
    assert parts["bound"]["seconds"] == pytest.approx(sum(parts["bound"]["of_which"].values()), abs=0.01)
    # Measured passes get positions as others do: prompts of two lengths are padded.
    assert parts["profile"]["equal"] == parts["profile"]["answers"] == 2 * 16
    spent = parts["profile"]["parts"]
    assert all(spent[name] > 0 for name in ("host_beside", "encoders", "fusion", "prefill", "decoding", "writing"))
    assert parts["leave_one_out"]["answers"] == 2 * 6
    host = parts["host_work"]
    assert host["equal"] == host["answers"] == 2 * 6 * host["images"] and host["all_ahead_seconds"] > 0
    assert parts["hf_masked"]["equal"] == parts["hf_masked"]["answers"] == 2 * 4
    assert set(parts["cost"]) > {"drop=none", "drop=all"}
    assert parts["cost"]["drop=none"]["flops"] > parts["cost"]["drop=all"]["flops"] > 0
    assert parts["prune"]["equal_embeddings"] == parts["prune"]["equal_answers"] == parts["prune"]["images"] == 2
    assert parts["memory_runs_out"]["ended_with"] < parts["memory_runs_out"]["began_with"]
    for kind in ("sdpa", "sdpa without cuDNN"):
        assert parts["attention"][kind]["answers"] == 4 * 4
        assert parts["attention"][kind]["padding_changes_nats_by"] < 0.2
    for name in ("cambrian", "deepseek_vl"):
        assert set(parts[name]["seconds_of_two_answers"]) >= {"none", "all"}


def test_a_part_that_fails_or_comes_late_stops_no_other(running, tmp_path, monkeypatch):
    import time

    def broken(check):
        yield {"first": 1}
        raise ValueError("no such kernel\nmore")

    def endless(check):
        time.sleep(60)
        yield {}

    def fine(check):
        yield {"answer": 42, "_kept": object()}

    monkeypatch.setattr(running, "_SHARE", 0)  # so a part has five seconds
    check = running.Check(True, torch.device("cpu"), torch.float32, "demo", 1, time.monotonic() + 60)
    out = tmp_path / "out.json"
    written = []

    def late(check):
        yield {"begun": True}

    def looking(check):
        written.append(json.loads(out.read_text())["parts"])
        yield {}

    parts = [*map(running.Part, (broken, looking, endless, fine)), running.Part(late, 90)]
    told = running.run(check, parts, out)
    assert told == json.loads(out.read_text())
    assert told["parts"]["broken"] | {"part_seconds": 0} == {
        "first": 1, "error": "ValueError: no such kernel", "part_seconds": 0,
    }  # fmt: skip
    assert list(written[0]) == ["broken"]  # on disk before the next part began
    assert told["parts"]["endless"]["error"].startswith("_Late: stopped after 5 s")
    assert told["parts"]["fine"]["answer"] == 42 and "_kept" not in told["parts"]["fine"]
    assert "no time was left" in told["parts"]["late"]["error"] and "begun" not in told["parts"]["late"]
    check.ends = time.monotonic()
    assert "no time was left" in running.run(check, [running.Part(fine)], out)["parts"]["fine"]["error"]


def test_written_results_make_a_table(running, told, tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(told))
    lines = running.table([path]).splitlines()
    assert len(lines) == 3 and len({line.count("|") for line in lines}) == 1
    assert f"| {told['parts']['all_masks']['answers']} |" in lines[2] and " of 2 |" in lines[2]
