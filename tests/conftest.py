import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


def golden(*parts: str) -> Path:
    """A folder of recorded tensors; the test is skipped where the recordings are not at hand."""
    path = GOLDEN.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"recorded tensors are not here: no {'/'.join(parts)} in ../shared/golden")
    return path


def pytest_collection_modifyitems(items):
    """Fast ones first: plain tests, then those that load models, then those that start a framework."""
    items.sort(
        key=lambda item: 2 * bool(item.get_closest_marker("framework")) + bool(item.get_closest_marker("models"))
    )
