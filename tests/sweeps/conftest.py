"""What the tests of sweeps share in a process, over all files: checkpoints, and answers of separate models."""

import pytest


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    from tests.helpers import sweeping  # here, as it needs torch

    return sweeping.checkpoints(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="session")
def expected(made):
    from tests.helpers import sweeping

    return sweeping.answers_alone(made)


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder of five pictures."""
    from tests.helpers import sweeping

    folder = tmp_path_factory.mktemp("images")
    for seed in range(1, 6):
        sweeping.picture(seed, (60 + 90 * (seed % 2), 50)).save(folder / f"{seed}.png")
    return folder
