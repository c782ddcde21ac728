"""Find and read finished runs: lmms-eval folders, VLMEvalKit work folders, CSV files of scores."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from redundancy_eval import files
from redundancy_eval.errors import SetupError
from redundancy_eval.readers import csv_scores, vlmevalkit_files, vlmevalkit_settle
from redundancy_eval.readers import lmms_eval as read_lmms_eval
from redundancy_eval.readers import vlmevalkit as read_vlmevalkit
from redundancy_eval.readers.runs import Leniency, MaskOf, Run, tell_masks
from redundancy_eval.taxonomy import DEFAULT, Taxonomy


@dataclass(frozen=True)
class Options:
    """How runs are read; kept in a report, so that `verify` reads them in the same way.

    `taxonomy` and `mmvp_pairs` as for `taxonomy.load`; `encoders` in the checkpoint's order, where they are not known;
    `mask_of` as for `runs.MaskOf.parse`; `lenient` as for `runs.Leniency`; `scale` as for `read_csv.read`.
    """

    taxonomy: str = DEFAULT
    mmvp_pairs: bool = False
    encoders: tuple[str, ...] = ()
    mask_of: tuple[str, ...] = ()
    lenient: tuple[str, ...] = ()
    scale: float | None = None


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
    runs: dict[Path, list[Run]] = {}  # by real path: what is named twice, or linked, is read once
    for given in map(Path, paths):
        readers = _readers(given, taxonomy, lenient, scale)
        if not readers:
            raise SetupError(f"no results of lmms-eval (*_results.json) or VLMEvalKit in {given}")
        for path, read_one in readers.items():
            if path.resolve() not in runs:
                runs[path.resolve()] = read_one(path)
    masked = tell_masks([run for found in runs.values() for run in found], told)
    masked = vlmevalkit_settle.settle(masked, taxonomy, lenient)
    for run in masked:
        if run.framework == read_vlmevalkit.FRAMEWORK and not any(run.mask):
            alike = sum(run.model == other.model for other in masked)
            name = run.model if alike == 1 else vlmevalkit_files.model_folder(run.path).name
            raise SetupError(
                f"{run.path}: VLMEvalKit does not record which encoders {name} dropped; say so with "
                f"--mask-of '{name}=none' (or =clip, =clip+sam, ...)"
            )
    return masked


def _readers(
    given: Path, taxonomy: Taxonomy, lenient: Leniency, scale: float | None
) -> dict[Path, Callable[[Path], list[Run]]]:
    """What lies at, or below, a path, and how each is read.

    Raises:
        SetupError: nothing is there.
        DataError: it is no regular file, or a folder that cannot be read.
    """

    def table(path: Path) -> list[Run]:
        return csv_scores.read(path, taxonomy, lenient, scale)

    def results(path: Path) -> list[Run]:
        return [read_lmms_eval.read(path, lenient)]

    def folder(path: Path) -> list[Run]:
        return read_vlmevalkit.read(path, taxonomy, lenient)

    if not given.exists():
        raise SetupError(f"no such file or folder: {given}")
    given = Path(os.path.abspath(given))  # patterns of --mask-of fit the whole path; links stay as they are
    if not given.is_dir():
        files.check_regular(given)
        return {given: table if given.suffix == ".csv" else results}
    found = dict.fromkeys(read_lmms_eval.find(files.below(given)), results)
    return {**found, **dict.fromkeys(read_vlmevalkit.find(given, taxonomy), folder)}
