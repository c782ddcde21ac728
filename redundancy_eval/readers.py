"""Find and read finished runs: lmms-eval folders, VLMEvalKit work folders, CSV files of scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from redundancy_eval import read_csv, read_lmms_eval, read_vlmevalkit
from redundancy_eval.errors import SetupError
from redundancy_eval.runs import Leniency, MaskOf, Run, tell_masks
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
    runs: dict[Path, list[Run]] = {}
    for given in map(Path, paths):
        if not given.exists():
            raise SetupError(f"no such file or folder: {given}")
        before = len(runs)
        if given.is_file() and given.suffix == ".csv":
            runs[given.resolve()] = read_csv.read(given, taxonomy, lenient, scale)
        elif given.is_file():
            runs[given.resolve()] = [read_lmms_eval.read(given.resolve(), lenient)]
        else:
            for path in read_lmms_eval.find(given.resolve()):
                runs[path] = [read_lmms_eval.read(path, lenient)]
            for folder in read_vlmevalkit.find(given.resolve(), taxonomy):
                runs[folder] = [read_vlmevalkit.read(folder, taxonomy, lenient)]
        if len(runs) == before and not any(Path(given).resolve() in (path, *path.parents) for path in runs):
            raise SetupError(f"no results of lmms-eval (*_results.json) or VLMEvalKit in {given}")
    masked = tell_masks([run for found in runs.values() for run in found], told)
    for run in masked:
        if run.framework == read_vlmevalkit.FRAMEWORK and not any(run.mask):
            raise SetupError(
                f"{run.path}: VLMEvalKit does not record which encoders {run.model} dropped; say so with "
                f"--mask-of '{run.model}=none' (or =clip, =clip+sam, ...)"
            )
    return masked
