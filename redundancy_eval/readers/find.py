"""Finds finished runs and reads them: lmms-eval folders, VLMEvalKit work folders, CSV files of scores."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from redundancy_eval import files
from redundancy_eval.errors import SetupError
from redundancy_eval.leniency import Leniency
from redundancy_eval.readers import csv_scores, lmms_eval, vlmevalkit
from redundancy_eval.readers.mask_of import MaskOf, tell_masks
from redundancy_eval.runs import Run
from redundancy_eval.taxonomy import Taxonomy


class Reader(Protocol):
    """Knows how one framework leaves its results behind."""

    @property
    def framework(self) -> str:
        """As the taxonomy calls it."""

    def find(self, found: Iterable[Path]) -> list[Path]:
        """Of files that lie below a folder: those, or the folders of those, that it reads."""

    def read(self, path: Path) -> list[Run]:
        """The runs in one of these, or in a file that the user named.

        Raises:
            DataError: it is damaged.
        """


def read(
    paths: Iterable[str | Path],
    taxonomy: Taxonomy,
    lenient: Leniency | None = None,
    told: Sequence[MaskOf] = (),
    scale: float | None = None,
) -> list[Run]:
    """Read every run named by, or below, the paths.

    Args:
        paths: folders, lmms-eval results files, or CSV files.
        taxonomy: tells VLMEvalKit's data sets from other files.
        lenient: which kinds of bad data are warnings.
        told: masks told by the user, for runs that do not name theirs.
        scale: of the scores in CSV files: 1 for points, 100 for fractions.

    Raises:
        SetupError: a path does not exist or holds no results, or a mask is not known.
        DataError: a file is damaged.
    """
    lenient = lenient or Leniency()
    results, tables = lmms_eval.Reader(lenient), csv_scores.Reader(taxonomy, lenient, scale)
    of_folders = (results, vlmevalkit.Reader(taxonomy, lenient), tables)
    runs: dict[Path, list[Run]] = {}  # by real path: what is named twice, or linked, is read once
    for given in map(Path, paths):
        if not given.exists():
            raise SetupError(f"no such file or folder: {given}")
        whole = Path(os.path.abspath(given))  # patterns of --mask-of fit the whole path; links stay as they are
        found: list[tuple[Path, Reader]] = []
        if whole.is_dir():
            there = list(files.below(whole))
            found += [(path, reader) for reader in of_folders for path in reader.find(there)]
        else:
            files.check_regular(whole)
            found.append((whole, tables if whole.suffix == ".csv" else results))
        if not found:
            raise SetupError(f"no results of lmms-eval (*_results.json) or VLMEvalKit in {given}")
        for path, reader in found:
            if path.resolve() not in runs:
                runs[path.resolve()] = reader.read(path)
    masked = tell_masks([run for found_here in runs.values() for run in found_here], told)
    return vlmevalkit.settle(masked, taxonomy, lenient)
