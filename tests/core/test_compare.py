"""Masks that were not made alike, results that were changed, masks that did nothing: refused or named, by rule."""

import json
from typing import get_type_hints

import numpy as np
import pytest

from redundancy_eval import api, compare, files, forms, leniency, records, replies, taxonomy
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.options import Options
from redundancy_eval.readers import find
from tests.helpers.runs import DEMO_TASKS, write_run

GENERAL, OTHER = DEMO_TASKS[:2]
RECORD = {
    "model": "eagle_masked",
    "encoders": ["clip", "convnext", "pix2struct", "eva02"],
    "checkpoint": "aa",
    "versions": {"redundancy-eval": "0.1.0", "lmms-eval": "0.7.3", "torch": "2.14.1", "transformers": "5.24.0"},
    "resolved": {"dtype": "float32", "device": "cpu", "attention": "sdpa", "batch_size": "8", "processes": 1},
}


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def say(path, replies_):
    """Give the samples beside a results file these replies."""
    samples = next(path.parent.glob(f"{path.name[:15]}_samples_*"))
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    for line, reply in zip(lines, replies_, strict=True):
        line["filtered_resps"] = reply
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))


def made(folder, drops=("none", "clip"), count=4, **more):
    """A run of each mask, with its record; returns the results files by mask."""
    found = {}
    for number, drop in enumerate(drops):
        found[drop] = write_run(folder, drop, {GENERAL: [1] * (count - number) + [0] * number}, **more)
        say(found[drop], [f"{drop} {i}" for i in range(count)])
        records.write({**RECORD, "mask": drop}, found[drop].parent)
    return found


def record(path, change):
    edit(path.parent / records.NAME, change)


def read(folder, *lenient, **options):
    options.setdefault("encoders", ("clip", "convnext", "pix2struct", "eva02"))
    (table,) = api.read([folder], Options(lenient=lenient, **options))
    return table


CHANGES = {
    "prompt: chat_template": lambda c: c.update(chat_template="{{ messages }}"),
    "prompt: fewshot_as_multiturn": lambda c: c.update(fewshot_as_multiturn=True),
    "prompt: system_instruction": lambda c: c.update(system_instruction="Be brief."),
    "prompt: n-shot": lambda c: c["n-shot"].update({GENERAL: 4}),
    "prompt: description": lambda c: c["configs"][GENERAL].update(description="Look closely."),
    "prompt: doc_to_text": lambda c: c["configs"][GENERAL].update(doc_to_text="<function other at 0x12>"),
    "dataset: dataset_kwargs": lambda c: c["configs"][GENERAL].update(dataset_kwargs={"data_files": "other.jsonl"}),
    "dataset: test_split": lambda c: c["configs"][GENERAL].update(test_split="val"),
    "generation: torch_seed": lambda c: c["config"].update(torch_seed=7),
    "generation: gen_kwargs": lambda c: c["config"].update(gen_kwargs="num_beams=2"),
    "scoring: filter_list": lambda c: c["configs"][GENERAL].update(filter_list=[{"name": "x"}]),
    "scoring: process_results": lambda c: c["configs"][GENERAL].update(process_results="<function f at 0x7>"),
    "version: task_hashes": lambda c: c.update(task_hashes={GENERAL: "0" * 64}),
    "limit: limit": lambda c: c["config"].update(limit=4),
    "versions: lmms-eval": lambda c: c.update(lmms_eval_version="v0.5@1111111"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_fields_that_decide_are_compared(tmp_path, what):
    found = {drop: write_run(tmp_path, drop, {GENERAL: [1, 1, 0]}) for drop in ("none", "clip")}
    if what.startswith("versions"):
        edit(found["none"], lambda c: c.update(lmms_eval_version="v0.7@2222222"))
    edit(found["clip"], CHANGES[what])
    kind = what.partition(":")[0]
    with pytest.raises(DataError, match=rf"differ in {what}:? .*\(--lenient {kind} makes"):
        read(tmp_path)
    assert any(note.startswith(f"warning ({kind})") for note in read(tmp_path, kind).notes)


def test_addresses_of_functions_and_credentials_decide_nothing(tmp_path):
    found = made(tmp_path)
    edit(found["none"], lambda c: c["configs"][GENERAL].update(doc_to_text="<function ask at 0x7f01>"))
    edit(found["clip"], lambda c: c["configs"][GENERAL].update(doc_to_text="<function ask at 0x7f99>"))
    edit(found["clip"], lambda c: c["configs"][GENERAL].update(dataset_kwargs={"token": True}))
    assert read(tmp_path).points.shape == (2, 1)


def test_a_field_of_another_release_is_named(tmp_path):
    found = made(tmp_path)
    edit(found["clip"], lambda c: c["config"].update(quantum_mode="on"))
    (note,) = [note for note in read(tmp_path).notes if "quantum_mode" in note]
    assert "what quantum_mode decides is not known here" in note


RECORDS = {
    "versions: torch '2.13.0' and '2.14.1'": lambda r: r["versions"].update(torch="2.13.0"),
    "versions: redundancy-eval '0.0.9' and '0.1.0'": lambda r: r["versions"].update({"redundancy-eval": "0.0.9"}),
    "weights: 'bb' and 'aa'": lambda r: r.update(checkpoint="bb"),
    "dtype: 'bfloat16' and 'float32'": lambda r: r["resolved"].update(dtype="bfloat16"),
    "attention: 'eager' and 'sdpa'": lambda r: r["resolved"].update(attention="eager"),
}


@pytest.mark.parametrize("what", RECORDS)
def test_records_that_differ(tmp_path, what):
    found = made(tmp_path)
    record(found["clip"], RECORDS[what])
    with pytest.raises(DataError, match=f"drop-clip/.* and .*drop-none/.* differ in {what}"):
        read(tmp_path)
    kind = what.partition(":")[0]
    assert any(note.startswith(f"warning ({kind})") for note in read(tmp_path, kind).notes)


def test_batch_sizes_decide_in_half_precision_only(tmp_path):
    found = made(tmp_path)
    record(found["clip"], lambda r: r["resolved"].update(batch_size="32"))
    assert "batch:32+8" in read(tmp_path).signature
    for path in found.values():
        record(path, lambda r: r["resolved"].update(dtype="bfloat16"))
    match = f"batch size '(8|32)' and '(8|32)', task {GENERAL}; in bfloat16 that decides answers"
    with pytest.raises(DataError, match=match):
        read(tmp_path)
    record(found["clip"], lambda r: r["resolved"].update(batch_size="8", device="cuda", device_name="NVIDIA H200"))
    (note,) = [note for note in read(tmp_path).notes if "different devices" in note]
    assert "cpu, cuda" in note and "in half precision" in note


def test_tasks_may_have_batch_sizes_of_their_own(tmp_path):
    for drop in ("none", "clip"):
        for task, batch, stamp in ((GENERAL, 8, "20261121_120000"), (OTHER, 32, "20261121_130000")):
            path = write_run(tmp_path, drop, {task: [1, 0, 1]}, args=",dtype=bfloat16", stamp=stamp)
            edit(path, lambda c, batch=batch: c["config"].update(batch_size=batch))
        resolved = {**RECORD["resolved"], "dtype": "bfloat16", "batch_size": "32"}
        records.write({**RECORD, "mask": drop, "resolved": resolved}, path.parent)
    assert "|batch:32+8|" in read(tmp_path).signature


def test_auto_on_two_devices_is_two_number_formats(tmp_path):
    found = {
        drop: write_run(tmp_path, drop, {GENERAL: [1, 1, 0]}, args=",dtype=auto") for drop in ("none", "clip", "eva02")
    }
    assert any("2 of 3" in n or "3 of 3 runs is not known to agree" in n for n in read(tmp_path).notes)
    for drop, device in (("none", "cpu"), ("clip", "cuda:1"), ("eva02", "cpu")):
        edit(found[drop], lambda c, device=device: c["config"].update(device=device))
    with pytest.raises(DataError, match=r"device '\w+' and '\w+' \(dtype=auto is another on each device\)"):
        read(tmp_path)


def test_the_signature_says_how_it_ran(tmp_path):
    made(tmp_path)
    said = read(tmp_path).signature
    assert "|dtype:float32|device:cpu|attention:sdpa|batch:8|processes:1|" in said
    assert "|torch:2.14.1|transformers:5.24.0|lmms-eval:0.7.3|" in said


def test_calibrations_of_other_images(tmp_path):
    found = made(tmp_path, ("none", "clip", "eva02"), args=",ablation=mean,calibration=c.safetensors")
    for drop, sample in (("clip", "0001"), ("eva02", "0001")):
        record(found[drop], lambda r, sample=sample: r.update(calibration={"sample": sample, "count": "64"}))
    assert "|calibration:0001|images:64|" in read(tmp_path).signature
    record(found["eva02"], lambda r: r["calibration"].update(sample="0002"))
    with pytest.raises(DataError, match=r"differ in calibration: '0001 \(count 64\)' and '0002 \(count 64\)'"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda r: r.update(mask="eva02"), "it says mask eva02; the results say mask clip"),
        (lambda r: r.update(model="cambrian_masked"), "it says model cambrian_masked; the results say model eagle"),
        (lambda r: r["resolved"].update(device="cuda"), "it says device cuda; the results say device cpu"),
    ],
)
def test_a_record_of_another_run(tmp_path, change, match):
    found = made(tmp_path)
    edit(found["clip"], lambda c: c["config"].update(device="cpu"))
    record(found["clip"], change)
    with pytest.raises(DataError, match=match):
        read(tmp_path)


def test_an_encoder_that_others_see_through(tmp_path):
    found = made(tmp_path)
    record(found["clip"], lambda r: r.update(feeds={"clip": ["eva02"]}))
    assert any(note.startswith("clip feeds eva02: dropping clip changes what") for note in read(tmp_path).notes)


def test_how_often_encoders_are_chosen_is_the_full_model_s(tmp_path):
    found = made(tmp_path)
    assert read(tmp_path).routed == {}
    record(found["clip"], lambda r: r.update(routed={"questions": 3, "clip": 0, "eva02": 2}))
    assert read(tmp_path).routed == {}
    record(found["none"], lambda r: r.update(routed={"questions": 3, "clip": 1, "eva02": 3}))
    assert read(tmp_path).routed == {"questions": 3, "clip": 1, "eva02": 3}


def test_a_record_that_is_missing_in_one_mask(tmp_path):
    found = made(tmp_path)
    (found["clip"].parent / records.NAME).unlink()
    assert any("no record (redundancy_eval.json) is beside" in note for note in read(tmp_path).notes)


def test_a_record_belongs_to_the_results_that_it_names(tmp_path):
    found = made(tmp_path)
    name = found["clip"].name
    record(found["clip"], lambda r: r.update(files={name: files.sha256(found["clip"])}))
    later = write_run(tmp_path, "clip", {OTHER: [1, 0, 0, 0]}, stamp="20261122_120000")
    later.with_name(name).read_text()
    (run,) = [run for run in find.read([later], taxonomy.load()) if run.path == later]
    assert not run.recorded and not run.weights
    (run,) = find.read([found["clip"]], taxonomy.load())
    assert run.recorded and run.weights == "aa" and not run.altered()


def test_results_that_were_changed_since(tmp_path):
    found = made(tmp_path)
    samples = next(found["clip"].parent.glob("*.jsonl"))
    record(found["clip"], lambda r: r.update(files={p.name: files.sha256(p) for p in (found["clip"], samples)}))
    assert read(tmp_path).points.tolist() == [[100], [75]]
    found["clip"].write_text(found["clip"].read_text().replace("0.75", "0.50"))
    samples.write_text(samples.read_text().replace('"score": 1.0', '"score": 0.0', 1))
    with pytest.raises(DataError, match=r"clip.*_results.json was changed since .* \(and 1 more of its files\)"):
        read(tmp_path)
    assert read(tmp_path, "changed").points.tolist() == [[100], [50]]


def test_a_manifest_tells_of_changes_too(tmp_path):
    found = made(tmp_path)
    listed = [{"path": found["clip"].name, "size": 9, "sha256": files.sha256(found["clip"])}]
    files.write_json(found["clip"].parent / records.MANIFEST, {"schema": 1, "files": listed})
    read(tmp_path)
    listed[0]["sha256"] = "0" * 64
    files.write_json(found["clip"].parent / records.MANIFEST, {"schema": 1, "files": listed})
    with pytest.raises(DataError, match="was changed since"):
        read(tmp_path)


def test_a_mask_that_changed_no_answer(tmp_path, capsys):
    found = made(tmp_path, ("none", "clip", "eva02"), count=60)
    say(found["clip"], [f"none {i}" for i in range(60)])
    with pytest.raises(DataError, match="dropping clip changed none of 60 answers of the full model"):
        read(tmp_path)
    notes = read(tmp_path, "same-answers").notes
    assert f"{GENERAL}: the same 60 replies under drop=none, drop=clip" in notes
    say(found["clip"], [*(f"none {i}" for i in range(59)), "another"])
    assert not any("the same 60" in note for note in read(tmp_path).notes)


def test_few_answers_that_are_the_same_are_a_note(tmp_path):
    found = made(tmp_path, count=6)
    say(found["clip"], [f"none {i}" for i in range(6)])
    assert f"{GENERAL}: the same 6 replies under drop=none, drop=clip" in read(tmp_path).notes


def test_equal_scores_without_samples_are_a_note(tmp_path):
    for drop, scores_ in (("none", [1, 0]), ("clip", [1, 0]), ("eva02", [0, 0])):
        write_run(tmp_path, drop, {GENERAL: scores_}, samples=False)
    notes = [note for note in read(tmp_path).notes if "no samples tell whether it was applied" in note]
    assert len(notes) == 1 and notes[0].startswith("drop=clip has the full model's scores")


def test_a_model_that_fell_silent(tmp_path):
    found = made(tmp_path, count=20)
    say(found["clip"], [" "] * 20)
    assert f"drop=clip: 20 of 20 replies on {GENERAL} are empty" in read(tmp_path).notes
    say(found["clip"], ["A"] * 20)
    assert f"drop=clip: all 20 replies on {GENERAL} are the same text" in read(tmp_path).notes


def test_replies_that_are_alike():
    a, b = np.array([1, 2, 3], dtype=np.uint64), np.array([1, 2, 4], dtype=np.uint64)
    assert replies.alike({"x": a, "y": b, "z": a.copy()}) == [["x", "z"]]
    assert replies.alike({"x": a * 0, "y": a * 0}) == []  # what is not known is like nothing
    assert replies.changed(a, b) == (1, 3) and replies.changed(a, a[:2]) == (0, 0)
    assert replies.changed(a, np.array([0, 2, 9], dtype=np.uint64)) == (1, 2)


# --- told masks


def told(folder, name, args, model="llava", batch=1):
    path = write_run(folder / name, "x", {GENERAL: [1, 0, 1, 1]})
    edit(path, lambda c: c["config"].update(model=model, model_args=args, batch_size=batch))
    say(path, [f"{name} {i}" for i in range(4)])
    return path


def test_told_masks_of_another_checkpoint(tmp_path):
    told(tmp_path, "full", "pretrained=7b")
    told(tmp_path, "noclip", "pretrained=13b")
    rules = ("*full*=none", "*noclip*=clip")
    with pytest.raises(DataError, match="but the full model is another: llava pretrained=7b .*--mask-of MODEL:PATTERN"):
        read(tmp_path, mask_of=rules)
    table = read(tmp_path, mask_of=tuple(f"mine:{rule}" for rule in rules))
    assert (
        table.masks == ((), ("clip",))
        and "the masks of --mask-of differ in pretrained=13b and pretrained=7b" in table.notes
    )


def test_told_masks_that_differ_otherwise_are_named(tmp_path):
    told(tmp_path, "full", "pretrained=7b,max_pixels=1003520")
    told(tmp_path, "noclip", "pretrained=7b,max_pixels=100352", "llava_hf", 16)
    table = read(tmp_path, mask_of=("*full*=none", "*noclip*=clip"))
    assert "the masks of --mask-of differ in max_pixels=100352 and max_pixels=1003520" in table.notes
    assert "the masks of --mask-of are of different model ids: llava, llava_hf" in table.notes
    assert any("different batch sizes (1, 16)" in note for note in table.notes)
    assert "|ablation:told|site:told|dtype:told|" in table.signature


def test_told_masks_that_contradict_the_run(tmp_path):
    made(tmp_path)
    with pytest.raises(SetupError, match="--mask-of says eva02, but drop=clip stands in the run itself"):
        read(tmp_path, mask_of=("*drop-clip*=eva02", "*drop-none*=none"))
    assert read(tmp_path, mask_of=("*drop-clip*=CLIP", "*drop-none*=none")).masks == ((), ("clip",))


@pytest.mark.parametrize("name", ["drop", "keep"])
def test_an_empty_mask_is_no_mask(tmp_path, name):
    path = write_run(tmp_path, "clip", {GENERAL: [1, 0]})
    edit(path, lambda c: c["config"].update(model_args=f"pretrained=demo,{name}="))
    with pytest.raises(DataError, match=f"{name}= is empty"):
        read(tmp_path)


# --- every field is in a list


def unlisted(content, table):
    return sorted(set(content) - set(table))


def test_every_field_of_a_record_is_classified():
    assert not unlisted(get_type_hints(forms.Record), compare.RECORD)
    kinds = {compare.FREE, compare.OWN, *leniency.KINDS}
    for table in (compare.RESULTS, compare.CONFIG, compare.TASK, compare.SAMPLE, compare.RECORD):
        assert set(table.values()) <= kinds


def test_every_kind_is_documented():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text()
    assert [kind for kind in leniency.KINDS if f"`{kind}`" not in text] == []
