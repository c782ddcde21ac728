import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Before torch is imported, and for the processes that tests start: threads of several processes on few cores spin
# against one another, which made the tests three times slower than one thread each does.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"  # the full recordings
RECORDINGS = Path(__file__).parent / "recordings"  # the small ones, see the README there


def golden(*parts: str) -> Path:
    """A recording, or part of one: the full one where it is, else the small one; else the test is skipped."""
    for folder in (GOLDEN, RECORDINGS):
        if folder.joinpath(*parts).exists():
            return folder.joinpath(*parts)
    pytest.skip(f"only the full recordings have {'/'.join(parts)}, which belong into {GOLDEN.parent.name}/golden")


def pytest_addoption(parser):
    parser.addoption(
        "--require-recordings", action="store_true", help="fail where the full recordings are not in ../shared/golden"
    )


def pytest_configure(config):
    config.option.loadscopereorder = False  # files are given out in the order below, not by their number of tests
    if config.getoption("--require-recordings"):
        small = {path.parent.relative_to(RECORDINGS).parent for path in RECORDINGS.glob("*/*/inputs")}
        missing = sorted(str(family) for family in small if not (GOLDEN / family).is_dir())
        if missing or not small:
            names = ", ".join(missing) or "all"
            raise pytest.UsageError(f"--require-recordings: no full recordings of {names} in {GOLDEN}")


def pytest_collection_modifyitems(config, items):
    """Fast ones first: plain tests, then those that load models, then those that start a framework.

    Where processes share the files, the other way round, so that none is left alone with a long file at the end.
    """

    def weight(item):
        models = item.get_closest_marker("models") or item.get_closest_marker("slow")
        return 2 * bool(item.get_closest_marker("framework")) + bool(models)

    items.sort(key=weight, reverse=hasattr(config, "workerinput"))
