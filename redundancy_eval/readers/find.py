"""Finds finished runs and reads them: lmms-eval folders, VLMEvalKit work folders, CSV files of scores."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from redundancy_eval import files
from redundancy_eval.errors import SetupError
from redundancy_eval.leniency import Leniency
from redundancy_eval.readers import csv_scores, lmms_eval, vlmevalkit
from redundancy_eval.readers.mask_of import MaskOf, tell_masks
from redundancy_eval.runs import Run
from redundancy_eval.taxonomy import CSV, LMMS_EVAL, Taxonomy


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
    rerun: Iterable[str | Path] = (),
) -> list[Run]:
    """Read every run named by, or below, the paths.

    Args:
        paths: folders, lmms-eval results files, or CSV files.
        taxonomy: tells VLMEvalKit's data sets from other files.
        lenient: which kinds of bad data are warnings.
        told: masks told by the user, for runs that do not name theirs.
        scale: of the scores in CSV files: 1 for points, 100 for fractions.
        rerun: where second runs of full models are; what lies there is no first run, even if `paths` hold it.

    Raises:
        SetupError: a path does not exist or holds no results, or a mask is not known.
        DataError: a file is damaged.
    """
    lenient = lenient or Leniency()
    known: tuple[Reader, ...] = (
        lmms_eval.Reader(lenient),
        vlmevalkit.Reader(taxonomy, lenient),
        csv_scores.Reader(taxonomy, lenient, scale),
    )
    readers = {reader.framework: reader for reader in known}
    runs: dict[Path, list[Run]] = {}  # by real path: what is named twice, or linked, is read once
    for again, group in ((True, rerun), (False, paths)):
        for given in map(Path, group):
            for path, reader in _found(given, readers):
                if path.resolve() not in runs:
                    runs[path.resolve()] = [replace(run, again=again) for run in reader.read(path)]
    masked = tell_masks([run for found in runs.values() for run in found], told)
    first, second = ([run for run in masked if run.again is again] for again in (False, True))
    if not first:
        raise SetupError("--rerun holds all the runs; name the first runs too")
    return [*vlmevalkit.settle(first, taxonomy, lenient), *vlmevalkit.settle(second, taxonomy, lenient)]


def _found(given: Path, readers: Mapping[str, Reader]) -> list[tuple[Path, Reader]]:
    """What lies at, or below, a path, and how each is read.

    Raises:
        SetupError: nothing is there.
        DataError: it is no regular file, or a folder that cannot be read.
    """
    if not given.exists():
        raise SetupError(f"no such file or folder: {given}")
    whole = Path(os.path.abspath(given))  # patterns of --mask-of fit the whole path; links stay as they are
    if not whole.is_dir():
        files.check_regular(whole)
        return [(whole, readers[CSV if whole.suffix == ".csv" else LMMS_EVAL])]
    there = list(files.below(whole))
    found = [(path, reader) for reader in readers.values() for path in reader.find(there)]
    if not found:
        raise SetupError(f"no results of lmms-eval (*_results.json) or VLMEvalKit in {given}")
    return found
