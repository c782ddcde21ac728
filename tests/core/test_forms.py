"""Whatever stands in a file that is read: a table, or one line that says what is wrong with it."""

import copy
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redundancy_eval import api, files, forms, records
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.options import Options
from redundancy_eval.reports import json_file, report, write
from tests.helpers.runs import DEMO_TASKS, write_run

GENERAL = DEMO_TASKS[0]
LONG = 10**400
VALUES = [None, [], {}, "x", "", 5, -1, 0.5, True, float("inf"), float("nan"), [1, 2], [[]], {"a": 1}, LONG, "\ud800"]
GONE = object()
RECORD = {
    "schema": 1, "model": "eagle_masked", "encoders": ["clip", "convnext", "pix2struct", "eva02"], "mask": "clip",
    "checkpoint": "aa", "versions": {"torch": "2.14.1"}, "resolved": {"dtype": "float32", "batch_size": "8"},
    "calibration": {"sample": "00"}, "files": {}, "feeds": {"clip": ["eva02"]},
}  # fmt: skip
OWN = {
    "schema": 2,
    "taxonomies": {"mine": {"G": ["a"]}},
    "benchmarks": {"a": {"rule": "items", "weights": {}, "lmms-eval": [{"task": GENERAL, "metric": "accuracy"}]}},
}


def places(value, at=()):
    yield at
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*at, key))


def bent(content, at, value):
    """The content with one value replaced, or taken out."""
    if not at:
        return None if value is GONE else value
    made = copy.deepcopy(content)
    holder = made
    for key in at[:-1]:
        holder = holder[key]
    if value is GONE:
        del holder[at[-1]]
    else:
        holder[at[-1]] = value
    return made


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two masks, their records and a manifest, a taxonomy, a CSV of scores, a written report."""
    root = tmp_path_factory.mktemp("forms")
    paths = {}
    for drop in ("none", "clip"):
        paths[drop] = write_run(root / "runs", drop, {GENERAL: [1, 0, 1, 1]})
        records.write({**RECORD, "mask": drop}, paths[drop].parent)
    for path in paths.values():
        content = json.loads(path.read_text())
        content.update(group_subtasks={}, task_hashes={GENERAL: "0"}, lmms_eval_version="v0.7@1", chat_template=None)
        content["config"].update(device="cpu", batch_size=1, resolved_cli_args={"seed": [0], "predict_only": False})
        path.write_text(json.dumps(content))
    results, folder = paths["clip"], paths["clip"].parent
    manifest = {"path": results.name, "size": 1, "sha256": files.sha256(results)}
    files.write_json(folder / records.MANIFEST, {"schema": 1, "files": [manifest]})
    (root / "own.json").write_text(json.dumps(OWN))
    write.write(report.build(api.read([root / "runs"])), root / "out")
    return {
        "root": root, "runs": [root / "runs"], "results": results, "record": folder / records.NAME,
        "manifest": folder / records.MANIFEST, "taxonomy": root / "own.json", "report": root / "out" / "report.json",
        "samples": next(folder.glob("*.jsonl")), "written": set(),
    }  # fmt: skip


def look(world, name):
    """Read what was bent; nothing but our own errors may come of it."""
    try:
        if name == "report":
            json_file.options_of(world["root"] / "out")
        options = Options(taxonomy=str(world["taxonomy"])) if name == "taxonomy" else None
        for table in api.read(world["runs"], options):
            assert table.points.shape
            content = pickle.dumps(table)
            if content not in world["written"]:  # of one table comes one report
                write.files(report.build([table]))
                world["written"].add(content)
    except (DataError, SetupError) as error:
        assert "\n" not in str(error) and str(error)


@pytest.mark.parametrize("name", ["results", "record", "manifest", "taxonomy", "report", "samples"])
@settings(max_examples=120, deadline=None, derandomize=True)
@given(data=st.data())
def test_bent_values(world, name, data):
    path = world[name]
    whole = path.read_text()
    first, *rest = whole.splitlines(keepends=True) if name == "samples" else [whole]
    content = json.loads(first)
    at = data.draw(st.sampled_from(list(places(content))))
    made = json.dumps(bent(content, at, data.draw(st.sampled_from([*VALUES, GONE]))))
    try:
        path.write_text("".join([made, "\n" * bool(rest), *rest]))
        look(world, name)
    finally:
        path.write_text(whole)


DAMAGED = {
    "empty": b"", "not UTF-8": b'{"a": "\xff"}', "UTF-16": '{"a": 1}'.encode("utf-16"), "BOM": b"\xef\xbb\xbf{}",
    "zeros": bytes(100), "long number": b'{"a": ' + b"9" * 5000 + b"}", "a list": b"[1]", "cut": b'{"a": [1, ',
    "deep": b'{"a":' * 100000 + b"1" + b"}" * 100000, "deep lists": b"[" * 100000 + b"]" * 100000,
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
}  # fmt: skip


@pytest.mark.parametrize("name", ["results", "record", "manifest", "taxonomy", "report", "samples"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_files(world, name, damage):
    path = world[name]
    whole = path.read_bytes()
    try:
        path.write_bytes(DAMAGED[damage])
        look(world, name)
    finally:
        path.write_bytes(whole)


def test_the_place_is_named(tmp_path):
    path = write_run(tmp_path, "none", {GENERAL: [1, 0]})
    content = json.loads(path.read_text())
    content["n-samples"][GENERAL]["effective"] = "two"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"_results.json: n-samples\[...\]\.effective: expected int . null, got str"):
        api.read([tmp_path])
    with pytest.raises(DataError, match="x.json: the key results is missing"):
        forms.check({"config": {}}, forms.Results, "x.json")


def test_a_pipe_is_no_file(tmp_path):
    import os

    write_run(tmp_path, "none", {GENERAL: [1, 0]})
    os.mkfifo(tmp_path / "20260101_000000_results.json")
    with pytest.raises(DataError, match="no regular file"):
        api.read([tmp_path])


def test_a_linked_folder_is_read_once_and_a_loop_ends(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs, "none", {GENERAL: [1, 1]})
    write_run(tmp_path / "elsewhere", "clip", {GENERAL: [1, 0]})
    (runs / "drop-clip").symlink_to(tmp_path / "elsewhere" / "drop-clip", target_is_directory=True)
    (runs / "again").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (runs / "loop").symlink_to(runs, target_is_directory=True)
    (table,) = api.read([runs])
    assert table.points.tolist() == [[100], [50]]


def test_a_json_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "manifest.json"
    files.write_json(path, {"a": 1})

    def cut(self, text, **settings):
        with self.open("w") as handle:
            handle.write(text[:4])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_text", cut)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"b": 2})
    assert json.loads(path.read_text()) == {"a": 1}
