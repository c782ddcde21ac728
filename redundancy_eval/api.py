"""What the package itself offers: `from redundancy_eval import read, Options, ScoreTable`."""

from collections.abc import Iterable
from pathlib import Path

from redundancy_eval import scores
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.readers.find import Options
from redundancy_eval.table import SampleScores, ScoreTable

__all__ = ["DataError", "Options", "SampleScores", "ScoreTable", "SetupError", "read"]


def read(paths: Iterable[str | Path], options: Options | None = None) -> list[ScoreTable]:
    """One table for each model among finished runs.

    Args:
        paths: output folders of lmms-eval, work folders of VLMEvalKit, results files, or CSV files of scores.
        options: how they are read.

    Raises:
        SetupError: an option or path is wrong.
        DataError: files are damaged, or runs can't stand in one table.
    """
    from redundancy_eval.model_wrappers.families import registry

    return scores.read(paths, options, registry.known_encoders)
