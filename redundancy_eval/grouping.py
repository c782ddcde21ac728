"""Runs of one model: which belong together, which encoders it has, and which run counts for a mask and a task."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from redundancy_eval import compare, masks, model_args
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.leniency import Leniency
from redundancy_eval.runs import Run, identity
from redundancy_eval.table import Mask

KnownEncoders = Callable[[str, str], Sequence[str]]  # (model id, checkpoint) -> encoders, () where it does not know


@dataclass(frozen=True)
class Model:
    """The runs of one model.

    `encoders` are in the checkpoint's order; where they are those that masks name (`guessed`), the model may have more.
    `masks` are those that were run, few encoders dropped first; `run_of` is the run that counts for a mask and a task,
    `rerun_of` the second run of the full model that counts for a task.
    """

    runs: tuple[Run, ...]
    encoders: tuple[str, ...]
    guessed: bool
    masks: tuple[Mask, ...]
    run_of: Mapping[tuple[Mask, str], Run]
    rerun_of: Mapping[str, Run]
    notes: tuple[str, ...]

    @property
    def framework(self) -> str:
        """The framework that evaluated it."""
        return self.runs[0].framework

    def label(self, mask: Mask) -> str:
        """How a mask is written."""
        return masks.label(mask, self.encoders, whole=not self.guessed)


def group(runs: Sequence[Run], lenient: Leniency) -> list[list[Run]]:
    """The runs of each model (and framework), each with its full model and second runs of that.

    Raises:
        DataError: the full model of a masked run is another checkpoint's, or stand-ins are of two calibrations.
        SetupError: a second run is not of the full model of any of these.
    """
    groups: dict[object, list[Run]] = {}
    for run in runs:
        if not run.again:
            groups.setdefault(identity(run), []).append(run)
    _share_full_models(groups)
    _check_checkpoints(groups.values(), lenient)
    for mine in groups.values():
        compare.check_calibrations(mine, lenient)
    second = [run for run in runs if run.again]
    made = [[*mine, *(run for run in second if _is_again(run, mine))] for mine in groups.values()]
    for run in second:
        if not run.is_full:
            raise SetupError(f"{run.path}: --rerun is a second run of the full model, but encoders are dropped here")
        if not any(_is_again(run, mine) for mine in groups.values()):
            raise SetupError(f"{run.path}: --rerun is of {_called(run)}, whose first run of the full model is not here")
    return made


def _is_again(run: Run, mine: Sequence[Run]) -> bool:
    return any(
        first.is_full and not first.again and identity(first, of_full=True) == identity(run, of_full=True)
        for first in mine
    )


def _share_full_models(groups: dict[object, list[Run]]) -> None:
    """Give masked runs the full model that was run under another ablation or site: unmasked, they are one model."""
    full = {key: [run for run in group if run.is_full] for key, group in groups.items()}
    lent = set()
    for key, mine in groups.items():
        if full[key]:
            continue
        for other, runs in full.items():
            if runs and identity(runs[0], of_full=True) == identity(mine[0], of_full=True):
                mine += runs
                lent.add(other)
                break
    for key in lent:
        if len(full[key]) == len(groups[key]):
            del groups[key]


def _check_checkpoints(groups: Iterable[Sequence[Run]], lenient: Leniency) -> None:
    """A masked run whose full model was not run, beside one of the same model id that was, is a mix-up."""
    full = {_named_as(g[0]): g[0] for g in groups if any(run.is_full for run in g)}
    for mine in groups:
        other = full.get(_named_as(mine[0]))
        if other is not None and not any(run.is_full for run in mine):
            lenient.refuse(
                "checkpoint",
                f"{mine[0].path}: a masked run of {_called(mine[0])}, but the full model is another: "
                f"{_called(other)} in {other.path}"
                + "; --mask-of MODEL:PATTERN=DROP says that they are masks of one MODEL"
                * mine[0].told,
            )


def _named_as(run: Run) -> tuple[str, str]:
    return run.framework, "told" if run.told else run.model


def _called(run: Run) -> str:
    given = (f"{k}={v}" for k, v in sorted(run.arguments.items()) if k not in ("drop", "keep"))
    return " ".join([run.model, *map(model_args.redacted, given)])


def model(group: Sequence[Run], given: Sequence[str], known: KnownEncoders, lenient: Leniency) -> Model:
    """What the runs of one model are.

    Args:
        group: one of those that `group` makes.
        given: the encoders, where the user says so.
        known: what is known of checkpoints.
        lenient: which kinds of bad data are warnings.

    Raises:
        SetupError: given encoders contradict what runs record or is known.
        DataError: the encoders cannot be told, or two runs are of one mask and task.
    """
    runs = [run for run in group if not run.again]
    encoders = _encoders(runs, given, known)
    guessed, notes = not encoders, list[str]()
    if guessed:
        encoders = _named_by_masks(runs)
        notes.append(
            f"encoders inferred from the masks that were run (--encoders says otherwise): {', '.join(encoders)}; "
            "there may be others, so IG is undefined"
        )
    run_of: dict[tuple[Mask, str], Run] = {}
    rerun_of: dict[str, Run] = {}
    for run in sorted(group, key=lambda run: run.path.name):  # names begin with the time: the newest wins
        mask = masks.dropped(encoders, *run.mask)
        for task in run.tasks:
            other = rerun_of.get(task) if run.again else run_of.get((mask, task))
            if other is not None:
                label = "none (--rerun)" if run.again else masks.label(mask, encoders, whole=not guessed)
                lenient.refuse(
                    "duplicate-runs", f"two runs of drop={label} on task {task}: {other.path} and {run.path}"
                )
            if run.again:
                rerun_of[task] = run
            else:
                run_of[mask, task] = run
    place = {name: number for number, name in enumerate(encoders)}
    ran = {masks.dropped(encoders, *run.mask) for run in runs}
    in_order = tuple(sorted(ran, key=lambda mask: (len(mask), [place[name] for name in mask])))
    return Model(tuple(runs), encoders, guessed, in_order, run_of, rerun_of, tuple(notes))


def _encoders(runs: Sequence[Run], given: Sequence[str], known: KnownEncoders) -> tuple[str, ...]:
    """The model's encoders as recorded, known or given; () where nothing tells them."""
    first = runs[0]
    telling = [run for run in runs if run.encoders]
    for run in telling:
        _check_names(run.encoders, run)
        if run.encoders != telling[0].encoders:
            raise DataError(
                f"{telling[0].path} and {run.path}: runs of one checkpoint record different encoders: "
                f"{', '.join(telling[0].encoders)} and {', '.join(run.encoders)}"
            )
    names = tuple(telling[0].encoders if telling else known(first.model, first.checkpoint))
    if not given:
        return names
    twice = next((name for name in given if list(given).count(name) > 1), None)
    if twice:
        raise SetupError(f"--encoders names {twice} twice: {','.join(given)}")
    if names and (set(given) != set(names) or (telling and tuple(given) != names)):
        source = f"the record of {telling[0].path}" if telling else f"what is known of {first.checkpoint}"
        raise SetupError(f"--encoders {','.join(given)} contradicts {source}: {','.join(names)}")
    return tuple(masks.check_name(name) for name in given)


def _check_names(names: Iterable[str], run: Run) -> None:
    try:
        checked = [masks.check_name(str(name)) for name in names]
    except SetupError as error:
        raise DataError(f"{run.path}: {error}") from None
    twice = next((name for name in checked if checked.count(name) > 1), None)
    if twice:
        raise DataError(f"{run.path}: the encoder {twice} is recorded twice")


def _named_by_masks(runs: Sequence[Run]) -> tuple[str, ...]:
    """The encoders that masks name, where nothing else tells them."""
    unclear = [run for run in runs if run.mask[1] or run.mask[0].lower() == "all"]
    typed: dict[str, str] = {}  # name -> what it was called first
    for run in runs:
        for text in (part.strip().lower() for part in run.mask[0].split("+")):
            if text in ("", "none", "all"):
                continue
            _check_names([text], run)
            name = masks.ALIASES.get(text, text)
            if typed.setdefault(name, text) != text:
                raise DataError(
                    f"{run.path}: two runs of one mask: {typed[name]} and {text} both call the encoder {name}; "
                    "where they are two encoders, say so with --encoders"
                )
    if unclear or not typed:
        raise DataError(
            f"{(unclear or runs)[0].path}: which encoders {runs[0].checkpoint} has is not known here; "
            "say so with --encoders clip,convnext,... in the checkpoint's order"
        )
    return tuple(typed)
