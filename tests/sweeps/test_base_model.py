"""Who the model is that `masked` wraps: the wrapper's source, the content of what the arguments name."""

import functools
import shutil
import sys

import pytest

pytest.importorskip("safetensors", reason="needs the extra models")

from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.sweeps import base_model

WRAPPER = """
class Parent: pass
class Wrapper(Parent):
    def __init__(self, **settings): pass
"""


def test_a_wrapper_goes_by_its_source_and_what_it_is_given(tmp_path, monkeypatch):
    (tmp_path / "their_wrapper.py").write_text(WRAPPER)
    monkeypatch.syspath_prepend(tmp_path)
    module = pytest.importorskip("their_wrapper")
    made = functools.partial(functools.partial(module.Wrapper, model_path="a", tokens=3, api_key="sk-1"), tokens=4)
    one = base_model.wrapper(made)
    assert one["name"] == "their_wrapper.Wrapper" and one["settings"] == {"model_path": "a", "tokens": "4"}
    assert list(one["sources"]) == ["their_wrapper"]
    (tmp_path / "their_wrapper.py").write_text(WRAPPER + "# changed\n")
    assert base_model.wrapper(made)["sources"] != one["sources"]
    assert base_model.wrapper(lambda: 1)["sources"].keys() == {__name__}
    del sys.modules["their_wrapper"]


@pytest.mark.parametrize("name", base_model.WEIGHTS)
def test_weights_go_by_content(tmp_path, name):
    here, there = (shutil.copytree(hub.locate("demo"), tmp_path / part) for part in "ab")
    known = base_model.checkpoint({name: str(here), "base": "x"})
    assert known is not None and known == base_model.checkpoint({name: str(there), "base": "x"})
    (there / "config.json").write_text("{}")
    assert base_model.checkpoint({name: str(there)}) not in (known, None)


def test_other_folders_and_files_count_too(tmp_path):
    given = {"pretrained": "demo", "adapter": str(tmp_path / "adapter.pt"), "mode": "a/b"}
    nothing = base_model.checkpoint(given)
    (tmp_path / "adapter.pt").write_bytes(b"one")
    one = base_model.checkpoint(given)
    (tmp_path / "adapter.pt").write_bytes(b"two")
    assert len({str(found) for found in (nothing, one, base_model.checkpoint(given))}) == 3 and one is not None


@pytest.mark.parametrize("given", [{}, {"pretrained": ""}, {"pretrained": "no-hub-id"}, {"pretrained": "."}])
def test_weights_that_are_not_known(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert base_model.checkpoint(given) is None
