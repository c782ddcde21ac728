"""lmms-eval's index of tasks, as we let it be read."""

import pytest

pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")

import yaml
from lmms_eval.tasks import TaskManager

from redundancy_eval.model_wrappers.hosts.lmms_eval import launch, task_index

pytestmark = pytest.mark.framework


@pytest.fixture
def own(tmp_path):
    """A folder of task files with all that their form knows."""
    texts = {
        "base": "test_split: test\ndoc_to_text: !function utils.text\n",
        "one": "include: base.yaml\ntask: one\ntag: [mine, others]\nmetadata: {version: 1.0, on: yes, at: 1e3}\n",
        "two": "task: two\ntag: mine\nlimits: &limits {a: 1}\nsame: {<<: *limits, b: 0o17}\n",
        "both": "group: both\ntask:\n  - one\n  - task: two\n",
        "coded": "task: coded\nclass: !function utils.Task\n",
        "odd": "neither: 'a task'\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def index(*folders, defaults=True):
    return TaskManager("ERROR", include_path=list(map(str, folders)), include_defaults=defaults).task_index


def test_it_is_the_same(own):
    folders = launch.task_folder(), own
    expected = index(*folders)
    with task_index.read_once():
        assert index(*folders) == expected
    assert {"gqa", "redundancy_demo", "one", "mine", "both", "coded"} <= set(expected)


def test_files_are_read_once_and_lmms_eval_is_left_as_it_was(own, monkeypatch):
    mended = yaml.full_load, TaskManager.initialize_tasks
    read = []
    load = yaml.load
    monkeypatch.setattr(yaml, "load", lambda *given: read.append(given) or load(*given))
    with task_index.read_once(), task_index.read_once():  # as a sweep does
        first = index(own, defaults=False)
        count = len(read)
        first["another"] = {}
        again = index(own, defaults=False)
        assert count == len(read) > 0
        assert {*again, "another"} == {*first}
        (own / "new.yaml").write_text("task: new\n")
        assert "new" in index(own, own, defaults=False)  # another list of folders
    assert (yaml.full_load, TaskManager.initialize_tasks) == mended
    assert "new" in index(own, defaults=False)


def test_a_broken_task_file_is_told_as_lmms_eval_does(own):
    (own / "broken.yaml").write_text("task: [one\n")
    with task_index.read_once(), pytest.raises(yaml.YAMLError, match=r"broken\.yaml"):
        index(own, defaults=False)
    index_before = yaml.full_load
    (own / "broken.yaml").unlink()
    with task_index.read_once():
        assert "one" in index(own, defaults=False)
    assert yaml.full_load is index_before


def test_without_libyaml_the_slow_parser_does(own, monkeypatch):
    monkeypatch.delattr(yaml, "CFullLoader")
    with task_index.read_once():
        assert "one" in index(own, defaults=False)
