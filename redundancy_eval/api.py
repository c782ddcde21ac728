"""What the package itself offers: `from redundancy_eval import read, Options, ScoreTable`."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from redundancy_eval import environment, scores, taxonomy
from redundancy_eval.answers import Answers
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.grouping import KnownEncoders
from redundancy_eval.leniency import Leniency
from redundancy_eval.options import Options
from redundancy_eval.readers import answers as of_files
from redundancy_eval.readers import find
from redundancy_eval.readers.mask_of import MaskOf
from redundancy_eval.table import SampleScores, ScoreTable

__all__ = ["DataError", "Options", "SampleScores", "ScoreTable", "SetupError", "read"]


def read(
    paths: Iterable[str | Path],
    options: Options | None = None,
    known_encoders: KnownEncoders | None = None,
    rerun: Iterable[str | Path] = (),
) -> list[ScoreTable]:
    """One table for each model among finished runs.

    Args:
        paths: output folders of lmms-eval, work folders of VLMEvalKit, results files, or CSV files of scores.
        options: how they are read.
        known_encoders: (model id, checkpoint) -> encoders in the checkpoint's order, () where it does not know; as a
            rule, those of the model families.
        rerun: second runs of the full models, as yardsticks of what changes by itself (half precision, batch size).

    Raises:
        SetupError: an option or path is wrong.
        DataError: files are damaged, or runs can't stand in one table.
    """
    if known_encoders is None:
        from redundancy_eval.model_wrappers.families import registry

        known_encoders = registry.known_encoders
    options = options or Options()
    chosen = taxonomy.load(options.taxonomy, options.mmvp_pairs)
    lenient = Leniency(options.lenient)
    told = [MaskOf.parse(text) for text in options.mask_of]
    runs = find.read(paths, chosen, lenient, told, options.scale, rerun)
    return scores.tables(runs, chosen, options.encoders, known_encoders, lenient)


def answers(tables: Sequence[ScoreTable], options: Options) -> list[Answers]:
    """Where the page of a report takes questions, answers and, if the options say so, images from."""
    return [
        of_files.of(table, _pictures(table.framework) if options.images else of_files.no_pictures) for table in tables
    ]


def _pictures(framework: str) -> Callable[[str], of_files.Picture]:
    if framework == taxonomy.VLMEVALKIT:
        return of_files.lmu_data
    with environment.needed("report --images", "lmms-eval"):
        from redundancy_eval.model_wrappers.hosts.lmms_eval import task_images
    return task_images.encoded
