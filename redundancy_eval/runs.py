"""What was run: one framework's results under one mask, as readers hand it over."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import files, model_args
from redundancy_eval.taxonomy import Part
from redundancy_eval.until import Until


@dataclass(frozen=True)
class Samples:
    """The samples of one task, by document: all arrays are (documents,) and in the order of `documents`.

    `lines` are line (or row) numbers in `path`, `digests` hashes of what was asked and what is right, `scores` (0..1)
    the framework's, `missing` marks answers that could not be had (wrong to the framework), `capped` those that reached
    the token limit. `replies` are `reply_digest`s of what was answered (0: not known), `empty` marks replies that are
    blank; `answers` are hashes of what was compared with the right answer, as far as samples tell that (`as_scored`),
    else the replies'. Where samples hold no scores, `reason` says why.
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
    answers: NDArray[np.uint64]
    as_scored: bool = False
    reason: str = ""


def reply_digest(reply: str | None) -> int:
    """Hash of a reply exactly as given, to tell whether two masks answered alike; 0 where no reply is known."""
    if reply is None:
        return 0
    return int.from_bytes(hashlib.blake2b(reply.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


@dataclass(frozen=True)
class TaskResult:
    """One task of a run: its headline number and samples (read when asked for), document count and settings.

    `files` are those that it was read from, where runs may be copies of each other. `sample` is what was drawn of its
    documents (see sample.of_task), nothing where all were asked.
    """

    task: str
    documents: int | None
    settings: Mapping[str, Any]
    headline: Callable[[Part], float]
    samples: Callable[[Part], Samples | None]
    files: tuple[Path, ...] = ()
    sample: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One framework's results for one model under one mask.

    `path` is the file that errors name; `model` the framework's model id, `arguments` its model arguments, `settings`
    what holds for all tasks. `group` is the model's name when the mask was given by `--mask-of`, `failures` says why
    the framework has no results for a task, `weights` is the digest of the checkpoint's files and `calibration` what
    is said of the sample behind the stand-ins, where the run tells them. `resolved` says how it ran (`dtype`,
    `device`, `device_name`, `attention`, `batch_size`, `processes`), as far as that is known; `recorded` whether a
    record of ours tells, `told` whether the user gave the mask. `hashes` are those of its files when they were
    written. `feeds` tells which encoder's output others take as their input, `routed` how many questions each encoder
    was chosen for, of those under `questions`, in models that choose, `calibrated` how many had images of the
    calibration. `again` marks a second run of the full model, to be compared with the first. `pruned` names what was
    not in the checkpoint any more; `arguments` are those of the same mask of the whole one. `until` is the look that
    it is of, where documents were asked in rounds.
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
    calibration: Mapping[str, Any] = field(default_factory=dict)
    resolved: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = False
    told: bool = False
    hashes: Mapping[Path, str] = field(default_factory=dict)
    feeds: Mapping[str, Sequence[str]] = field(default_factory=dict)
    routed: Mapping[str, int] = field(default_factory=dict)
    calibrated: int = 0
    again: bool = False
    pruned: str = ""
    until: Until | None = None

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

    A calibration has many paths and no two are mixed (`compare.check_calibrations`), so it tells no models apart. With
    `of_full`, arguments that decide nothing in the full model are left out too.
    """
    if run.group is not None:
        return run.framework, run.group
    if run.told:  # what else differs is named, not told apart
        return run.framework, "told", run.arguments.get("pretrained")
    deciding = model_args.deciding(run.arguments, of_full)
    return run.framework, run.model, tuple(each for each in deciding.items() if each[0] != "calibration")
