"""What was run: one framework's results under one mask."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import files, masks, model_args
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.taxonomy import Part

# What `--lenient` can turn into a warning, and what then happens.
KINDS = {
    "documents": "masks differ in documents: each is scored on its own",
    "limit": "masks differ in --limit or --offset",
    "version": "masks differ in the version of a task",
    "prompt": "masks differ in the wording of prompts, in few-shot or chat settings, or in targets",
    "generation": "masks differ in generation settings or seeds",
    "dataset": "masks differ in the data of a task: path, name, files, split",
    "scoring": "masks differ in how replies are scored",
    "judge": "masks differ in the judge, or in what was passed to it",
    "checkpoint": "masks of different checkpoints: each checkpoint gets a table",
    "weights": "masks between whose runs the checkpoint's files changed",
    "versions": "masks that ran with different versions of a framework, torch, transformers, timm or this package",
    "dtype": "masks that ran in different number formats, or whose device chose it",
    "attention": "masks that ran with different attention implementations",
    "batch": "masks that ran in half precision with different batch sizes",
    "calibration": "masks whose stand-ins are of different samples of images",
    "record": "a record that contradicts the results beside it: the results are believed",
    "changed": "results that were changed since they were written",
    "same-answers": "a mask under which not one answer is another than the full model's",
    "truncated": "a damaged or incomplete samples file: the framework's number is taken unchecked",
    "duplicate-samples": "documents that stand twice in a samples file: the last one counts",
    "duplicate-runs": "two runs of one mask: the newest counts",
    "stale": "VLMEvalKit's verdicts that belong to earlier predictions",
    "headline": "a framework's number that does not follow from its samples: the framework's is shown",
    "missing-answers": "answers that are missing: the score is that of the others",
    "drawn": "options that VLMEvalKit drew at random, as no one could read the reply: they count as they are",
}


class Leniency:
    """Which kinds of bad data are warnings instead of errors, and the warnings so far."""

    def __init__(self, kinds: Sequence[str] = ()):
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise SetupError(f"--lenient knows {', '.join(KINDS)}; not {unknown[0]!r}")
        self.kinds = frozenset(kinds)
        self.warnings: list[str] = []

    def refuse(self, kind: str, message: str) -> None:
        """Note a problem of a kind.

        Raises:
            DataError: this kind is not excused.
        """
        if kind not in self.kinds:
            raise DataError(f"{message} (--lenient {kind} makes this a warning)")
        self.warnings.append(f"warning ({kind}): {message}")

    def note(self, message: str) -> None:
        """What is said under the table, whatever is excused."""
        self.warnings.append(message)

    def take(self) -> list[str]:
        """The warnings since the last call."""
        taken, self.warnings = list(dict.fromkeys(self.warnings)), []
        return taken


@dataclass(frozen=True)
class Samples:
    """The samples of one task, by document: all arrays are (documents,) and in the order of `documents`.

    `lines` are line (or row) numbers in `path`, `digests` hashes of what was asked and what is right, `scores` (0..1)
    the framework's, `missing` marks answers that could not be had (wrong to the framework), `capped` those that reached
    the token limit. `replies` are `reply_digest`s of what was answered (0: not known), `empty` marks replies that are
    blank. Where samples hold no scores, `reason` says why.
    """

    path: Path
    documents: NDArray[Any]
    lines: NDArray[np.int64]
    digests: NDArray[np.uint64]
    scores: NDArray[np.float64]
    clusters: NDArray[np.str_]
    strata: NDArray[np.str_]
    missing: NDArray[np.bool_]
    capped: NDArray[np.bool_]
    replies: NDArray[np.uint64]
    empty: NDArray[np.bool_]
    reason: str = ""


def reply_digest(reply: str | None) -> int:
    """Hash of a reply exactly as given, to tell whether two masks answered alike; 0 where no reply is known."""
    if reply is None:
        return 0
    return int.from_bytes(hashlib.blake2b(reply.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


@dataclass(frozen=True)
class TaskResult:
    """One task of a run: its headline number and samples (read when asked for), document count and settings.

    `files` are those that it was read from, where runs may be copies of each other.
    """

    task: str
    documents: int | None
    settings: Mapping[str, Any]
    headline: Callable[[Part], float]
    samples: Callable[[Part], Samples | None]
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Run:
    """One framework's results for one model under one mask.

    `path` is the file that errors name; `model` the framework's model id, `arguments` its model arguments, `settings`
    what holds for all tasks. `group` is the model's name when the mask was told by `--mask-of`,
    `failures` says why the framework has no results for a task, `weights` is the digest of the checkpoint's files
    and `calibration` that of the sample behind the stand-ins, where the run tells them. `resolved` says how it ran
    (`dtype`, `device`, `device_name`, `attention`, `batch_size`, `processes`), as far as that is known; `recorded`
    whether a record of ours tells, `told` whether the user told the mask. `hashes` are those of its files when they
    were written. `feeds` tells which encoder's output others take as their input.
    """

    path: Path
    framework: str
    model: str
    arguments: Mapping[str, str]
    settings: Mapping[str, Any]
    tasks: Mapping[str, TaskResult]
    encoders: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None
    calibration: str | None = None
    resolved: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = False
    told: bool = False
    hashes: Mapping[Path, str] = field(default_factory=dict)
    feeds: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def checkpoint(self) -> str:
        """What `pretrained=` says, or the model id."""
        return self.arguments.get("pretrained", self.model)

    @property
    def mask(self) -> tuple[str, str]:
        """`drop` and `keep` as given; empty when not."""
        return self.arguments.get("drop", ""), self.arguments.get("keep", "")

    @property
    def is_full(self) -> bool:
        """Whether no encoder is dropped."""
        drop, keep = self.mask
        return drop.strip().lower() in ("", "none") and keep.strip().lower() in ("", "all")

    def altered(self) -> list[Path]:
        """Its files that are there and no longer as they were when they were written."""
        return [path for path, digest in self.hashes.items() if path.is_file() and files.sha256(path) != digest]


def identity(run: Run, of_full: bool = False) -> tuple[Any, ...]:
    """What is equal for the masks of one model: framework, model id, checkpoint, remaining model arguments.

    With `of_full`, arguments that decide nothing in the full model are left out too.
    """
    if run.group is not None:
        return run.framework, run.group
    if run.told:  # what else differs is named, not told apart
        return run.framework, "told", run.arguments.get("pretrained")
    return run.framework, run.model, tuple(model_args.deciding(run.arguments, of_full).items())


@dataclass(frozen=True)
class MaskOf:
    """A mask told by the user: runs whose path, model or checkpoint matches the pattern dropped these encoders."""

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
