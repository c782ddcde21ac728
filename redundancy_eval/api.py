"""What the package itself offers: `from redundancy_eval import read, Options, ScoreTable`."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from redundancy_eval import costs_file, environment, explain_file, scores, taxonomy
from redundancy_eval.costs_file import Costs
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.explain_file import Explained
from redundancy_eval.grouping import KnownEncoders
from redundancy_eval.leniency import Leniency
from redundancy_eval.options import Options
from redundancy_eval.readers import answers as of_files
from redundancy_eval.readers import find
from redundancy_eval.readers.mask_of import MaskOf
from redundancy_eval.reports.additions import Additions
from redundancy_eval.reports.model import Other
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


def additions(
    tables: Sequence[ScoreTable], options: Options, costs: Sequence[str] = (), references: Sequence[str] = ()
) -> Additions:
    """What a report shows besides its tables.

    Args:
        tables: of each model.
        options: how the report is made; whether images are shown.
        costs: files of `redundancy-eval cost`.
        references: `NAME[:KEPT]=RUNS` of other models.

    Raises:
        SetupError: a file or run is missing, or holds something else.
        DataError: costs of another model.
    """
    shown = options.images
    answers = [of_files.of(each, _pictures(each.framework) if shown else of_files.no_pictures) for each in tables]
    return Additions(answers, _costs(tables, costs), [_other(text, options, tables) for text in references])


def _costs(tables: Sequence[ScoreTable], paths: Sequence[str]) -> list[Costs | None]:
    """The costs of each model; a file that fits none is an error."""
    found: list[Costs | None] = [None] * len(tables)
    for path in paths:
        costs, problems = costs_file.read(Path(path)), []
        for place, each in enumerate(tables):
            try:
                found[place] = costs_file.join(costs, each.model, each.checkpoint, each.encoders, each.arguments, path)
            except DataError as error:
                problems.append(error)
        if problems and len(problems) == len(tables):
            raise problems[0]
    return found


def explained(tables: Sequence[ScoreTable], paths: Sequence[str]) -> list[Explained | None]:
    """What was measured of each model without labels; a file that fits none is an error.

    Args:
        tables: of each model.
        paths: files of `redundancy-eval explain`.

    Raises:
        SetupError: a file is missing.
        DataError: it is damaged, or of another model.
    """
    found: list[Explained | None] = [None] * len(tables)
    for path in paths:
        read, problems = explain_file.read(Path(path)), []
        for place, each in enumerate(tables):
            try:
                explain_file.check_fits(read, each.model, each.checkpoint, each.encoders, each.arguments, path)
                found[place] = read
            except DataError as error:
                problems.append(error)
        if problems and len(problems) == len(tables):
            raise problems[0]
    return found


def _other(text: str, options: Options, beside: Sequence[ScoreTable]) -> Other:
    head, equals, path = text.partition("=")
    name, colon, kept = head.partition(":")
    if not equals or not name or not path or (colon and not kept):
        raise SetupError(f"--reference is NAME=RUNS or NAME:KEPT+KEPT=RUNS; not {text!r}")
    from redundancy_eval.model_wrappers.families import registry

    names = tuple(kept.lower().split("+")) if colon else None

    def encoders(model: str, checkpoint: str) -> Sequence[str]:
        # It has no mask, so that nothing rests on them; but a model has some.
        return registry.known_encoders(model, checkpoint) or names or beside[0].encoders

    tables = read([path], Options(options.taxonomy, options.mmvp_pairs, lenient=options.lenient), encoders)
    if len(tables) != 1 or () not in tables[0].masks:
        raise SetupError(f"--reference {name}: {path} must hold one model, without a mask")
    return Other(name, names, tables[0])


def _pictures(framework: str) -> Callable[[str], of_files.Picture]:
    if framework == taxonomy.VLMEVALKIT:
        return of_files.lmu_data
    with environment.needed("report --images", "lmms-eval"):
        from redundancy_eval.model_wrappers.hosts.lmms_eval import task_images
    return task_images.encoded
