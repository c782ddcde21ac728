"""A random sample of each benchmark's documents: what is asked for, what is drawn of a task, and what a record says."""

import argparse
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redundancy_eval import usage
from redundancy_eval.errors import SetupError, UsageError

if TYPE_CHECKING:  # a finished sweep returns at once, without numpy
    from redundancy_eval.taxonomy import Part

Place = tuple[str, str]  # cluster and stratum of a document, as statistics take them


@dataclass(frozen=True)
class Drawn:
    """What was drawn of a task.

    `chosen` are numbers of documents, ascending. Of all documents that count: how many, of how many clusters, and for
    each stratum how many were drawn, of how many.
    """

    chosen: tuple[int, ...]
    documents: int
    clusters: tuple[int, int]
    strata: dict[str, tuple[int, int]]

    def as_json(self) -> dict[str, Any]:
        """What a run's record says of it."""
        return {
            "drawn": len(self.chosen),
            "of": self.documents,
            "clusters": list(self.clusters),
            "strata": {name: list(part) for name, part in self.strata.items()},
            "digest": hashlib.blake2b(",".join(map(str, self.chosen)).encode(), digest_size=8).hexdigest(),
        }


@dataclass(frozen=True)
class Sample:
    """`count` documents of each task, whole clusters, in the random order of `seed`."""

    count: int
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.count}@{self.seed}"

    def as_json(self, drawn: Mapping[str, Drawn]) -> dict[str, Any]:
        """What a run's record says of it, and of what was drawn of each task."""
        tasks = {task: found.as_json() for task, found in drawn.items()}
        return {"count": self.count, "seed": self.seed, "tasks": tasks}

    def draw(self, task: str, places: Sequence[Place | None]) -> Drawn:
        """Draw of a task.

        Args:
            task: its name.
            places: of its documents, in their order; None for those that do not count, which are never drawn.
        """
        from redundancy_eval.statistics import sampling

        numbers = [number for number, place in enumerate(places) if place is not None]
        own = [place for place in places if place is not None]
        clusters, strata = [cluster for cluster, _ in own], [stratum for _, stratum in own]
        found = sampling.sample(clusters, strata, self.count, self.seed, task).tolist()
        of, drawn = Counter(strata), Counter(strata[at] for at in found)
        return Drawn(
            tuple(numbers[at] for at in found),
            len(own),
            (len({own[at] for at in found}), len(set(own))),
            {name: (drawn[name], of[name]) for name in sorted(of)},
        )


def alone(document: object) -> str:
    """Cluster of a document that stands for itself."""
    return f"document {document}"


def part_of(framework: str, task: str) -> "Part | None":
    """How statistics read a task's samples; None where it reports no benchmark of ours, so each document is its own.

    Raises:
        SetupError: its samples do not tell which questions belong together, and its score needs that.
    """
    from redundancy_eval import taxonomy

    for benchmark in taxonomy.load().benchmarks:
        for parts in benchmark.sources.get(framework, ()):
            for part in parts:
                if part.task == task:
                    if (benchmark.rule != "items" and not part.cluster) or (benchmark.weights and not part.stratum):
                        instead = benchmark.sources[framework][0][0].task
                        raise SetupError(
                            f"--sample needs to know which questions of {task} belong together, and its samples do not "
                            f"tell; use {instead}"
                        )
                    return part
    return None


def of_task(record: Mapping[str, Any], task: str) -> dict[str, Any]:
    """What a run's record says of the sample of a task; {} where all its documents were asked."""
    found = record.get("sample", {})
    told = found.get("tasks", {}).get(task)
    return {"count": found["count"], "seed": found["seed"], **told} if told else {}


def words(told: Mapping[str, Any]) -> str:
    """What `of_task` gives, in words: `200 of 2,374 documents in 100 of 1,187 clusters (seed 0)`."""
    few, many = told["clusters"]
    clusters = f" in {few:,} of {many:,} clusters" if (few, many) != (told["drawn"], told["of"]) else ""
    return f"{told['drawn']:,} of {told['of']:,} documents{clusters} (seed {told['seed']})"


def settings(told: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What `of_task` gives, as settings in which runs of one table must not differ."""
    return {"limit": {"sample": words(told), "drawn documents": told["digest"]}} if told else {}


def add_flags(parser: usage.Parser) -> None:
    """Add the flags that ask for a sample to a command's parser."""
    usage.add(
        parser, "--sample", type=_count, metavar="N",
        help="only a random sample of N documents of each task (data set), the same under every mask; whole clusters "
        "(all questions on an image, all rotations), so that it may be a few more, and every stratum in its share. A "
        "larger sample holds the smaller",
    )  # fmt: skip
    usage.add(parser, "--sample-seed", type=_seed, metavar="S", help="another sample (default 0)")


def read(args: argparse.Namespace) -> Sample | None:
    """What the flags of `add_flags` ask for; None for all documents.

    Raises:
        UsageError: a seed of nothing.
    """
    if args.sample is None and args.sample_seed is not None:
        raise UsageError("--sample-seed needs --sample N")
    return None if args.sample is None else Sample(args.sample, args.sample_seed or 0)


def refuse(sample: Sample | None, name: str, given: bool) -> None:
    """Refuse a framework's argument that would choose documents beside `--sample`.

    Raises:
        UsageError: it is given, and a sample asked for.
    """
    if sample is not None and given:
        raise UsageError(f"--sample and {name} both choose documents: leave one of them out")


def _count(text: str) -> int:
    return _number(text, 1)


def _seed(text: str) -> int:
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least or len(text) > 9:
        raise argparse.ArgumentTypeError(f"a whole number from {least} on is wanted; not {text!r}")
    return int(text)
