"""What a process is told of itself and of others."""

import sys

import pytest

from redundancy_eval.model_wrappers import process


def test_a_hidden_package_is_as_if_not_installed(tmp_path, monkeypatch):
    (tmp_path / "seldom_wanted.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with process.hidden("seldom_wanted"), pytest.raises(ImportError):
        import seldom_wanted
    with pytest.raises(ValueError, match="passed on"), process.hidden("seldom_wanted"):
        raise ValueError("passed on")
    import seldom_wanted

    assert seldom_wanted.value == 1
    with process.hidden("seldom_wanted"):  # who imported it already wants it
        import seldom_wanted as again
    assert again is seldom_wanted is sys.modules.pop("seldom_wanted")
