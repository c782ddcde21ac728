"""Read VLMEvalKit work folders as they are."""

from pathlib import Path

from redundancy_eval.errors import DataError
from redundancy_eval.runs import Leniency, Run
from redundancy_eval.taxonomy import Taxonomy


def find(folder: Path, taxonomy: Taxonomy) -> list[Path]:
    """Every folder of a model below a folder."""
    return []


def read(folder: Path, taxonomy: Taxonomy, lenient: Leniency) -> Run:
    """Read one model's folder."""
    raise DataError(f"{folder}: not read yet")
