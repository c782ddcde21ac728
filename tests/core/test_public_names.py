"""What `import redundancy_eval` offers, and that it costs nothing until it is used."""

import subprocess
import sys

import pytest

import redundancy_eval


def test_public_names_are_there():
    for name in redundancy_eval.__all__:
        assert getattr(redundancy_eval, name).__name__.endswith(name)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        redundancy_eval.nonsense  # noqa: B018


def test_they_are_imported_when_they_are_used():
    code = (
        "import sys, redundancy_eval as r; assert not {'numpy', 'pandas', 'torch'} & set(sys.modules); "
        "r.metrics.cur(1.0, 0.5); r.statistics; r.read; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
