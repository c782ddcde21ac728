"""Tiny checkpoints that the tests of families share in a process, over all files."""

import pytest


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """A tiny Eagle with its weights in one safetensors file."""
    from tests.helpers import tiny

    return tiny.write(tmp_path_factory.mktemp("checkpoints") / "source", "clip-448;convnext-1024")


@pytest.fixture(scope="session")
def sources(source, tmp_path_factory):
    """One tiny checkpoint for each family: (folder, other arguments)."""
    from tests.helpers import bent

    return bent.checkpoints(source, tmp_path_factory.mktemp("families"))
