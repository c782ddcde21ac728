"""Masks given by the user (`--mask-of`), for runs that do not name theirs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from redundancy_eval import masks
from redundancy_eval.errors import SetupError
from redundancy_eval.runs import Run


@dataclass(frozen=True)
class MaskOf:
    """A mask given by the user: runs whose path, model or checkpoint matches the pattern dropped these encoders."""

    model: str
    pattern: str
    drop: str

    @classmethod
    def parse(cls, text: str) -> "MaskOf":
        """Read `[MODEL:]PATTERN=DROP`.

        Raises:
            SetupError: the text has another form.
        """
        left, equals, drop = text.rpartition("=")
        model, colon, pattern = left.partition(":")
        if not equals or not drop or not left:
            raise SetupError(f"--mask-of must be '[MODEL:]PATTERN=DROP', e.g. '*-noclip*=clip'; not {text!r}")
        return cls(model if colon else "", pattern if colon else left, drop)

    def matches(self, run: Run) -> bool:
        """Whether the pattern (with * and ?) is the run's model id, its checkpoint, or fits its path."""
        names = (run.model, run.checkpoint, run.path.as_posix())
        folders = f"{names[2]}/"  # the path of a run of VLMEvalKit is a folder
        return any(fnmatchcase(name, self.pattern) for name in names) or fnmatchcase(folders, f"*/{self.pattern}/*")


def tell_masks(runs: Sequence[Run], told: Sequence[MaskOf]) -> list[Run]:
    """Runs with the masks that the user told.

    Raises:
        SetupError: a pattern matches no run, or two match one.
    """
    idle = [rule for rule in told if not any(rule.matches(run) for run in runs)]
    if idle:
        raise SetupError(f"--mask-of {idle[0].pattern!r} matches no run")
    masked = []
    for run in runs:
        rules = [rule for rule in told if rule.matches(run)]
        if len(rules) > 1:
            patterns = " and ".join(repr(rule.pattern) for rule in rules)
            raise SetupError(f"{run.path}: --mask-of {patterns} both match this run")
        if rules:
            _check_told(run, rules[0].drop)
            arguments = {key: value for key, value in run.arguments.items() if key != "keep"} | {"drop": rules[0].drop}
            run = replace(run, arguments=arguments, group=rules[0].model or None, told=True)
        masked.append(run)
    return masked


def _check_told(run: Run, drop: str) -> None:
    own, kept = run.mask
    if kept or (own and masks.names(own) != masks.names(drop)):
        said = f"keep={kept}" if kept else f"drop={own}"
        raise SetupError(f"{run.path}: --mask-of says {drop}, but {said} stands in the run itself")
