"""Which benchmark belongs to which category, how its score is formed, and where each framework reports it.

All of it is data, in `taxonomy.json`; `--taxonomy FILE` reads a file of the same form. A benchmark's score is
100 * the weighted sum over strata of (sum of cluster numerators / sum of cluster denominators), see metrics.py.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any

from redundancy_eval import taxonomy_form
from redundancy_eval.errors import SetupError
from redundancy_eval.metrics import RULES

DEFAULT = "five"
LMMS_EVAL, VLMEVALKIT, CSV = FRAMEWORKS = ("lmms-eval", "vlmevalkit", "csv")
SAMPLE_RULES = ("mmmu", "max", "anls", "ocrbench", "mathvista")  # how readers judge a sample that holds no score
_BY_PAIRS = {"MMVP": "MMVP pairs"}  # the name when it is scored by pairs


@dataclass(frozen=True)
class Part:
    """One task of a framework that reports a benchmark, or a part of it.

    `metric` is the headline number (without lmms-eval's filter name) and `scale` turns it into points on 0..100; it is
    written with `decimals` decimals (None: all of them). `score`, `cluster` and `stratum` say where a sample holds its
    score (0..1), its cluster and its stratum: a dotted path, `path == path` for "equal, blind to case", or the name of
    a reader's rule before a colon. Samples without the field `where` do not count. `reason` says why samples cannot be
    scored. `headline_weights` are the strata weights behind the headline where they are not the benchmark's own ({} is
    the plain mean), `headline_documents` the fixed number that it is divided by, and `null_is_zero` tells that the
    framework writes null for 0. `weight` is the headline's part in the benchmark's score; None where the score does not
    follow from headlines. `file`, `row` and `samples` say where VLMEvalKit writes.
    """

    task: str
    metric: str
    scale: float = 100.0
    decimals: int | None = None
    score: str = ""
    cluster: str = ""
    stratum: str = ""
    where: str = ""
    reason: str = ""
    headline_weights: Mapping[str, float] | None = None
    headline_documents: int | None = None
    null_is_zero: bool = False
    weight: float | None = 1.0
    file: str = ""
    row: Mapping[str, str] = field(default_factory=dict)
    samples: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of a taxonomy: how its score is formed, and where frameworks report it.

    `rule` (see metrics.RULES) makes clusters of samples, `weights` the strata's weights (empty: one stratum).
    `sources` maps a framework to alternatives in order of preference; an alternative is one task or several parts.
    """

    name: str
    category: str
    rule: str = "items"
    weights: Mapping[str, float] = field(default_factory=dict)
    sources: Mapping[str, tuple[tuple[Part, ...], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Taxonomy:
    """Categories in their order, and the benchmarks in the order of the categories.

    `digest` is of the file that it was read from; empty for the shipped ones.
    """

    name: str
    categories: tuple[str, ...]
    benchmarks: tuple[Benchmark, ...]
    digest: str = ""

    @property
    def label(self) -> str:
        """What tells it from all others: the name of a shipped one, else name and content."""
        return f"{self.name}@{self.digest}" if self.digest else self.name

    def groups(self, benchmarks: Sequence[Benchmark]) -> list[list[int]]:
        """For each category, the indices of its benchmarks in a list."""
        return [[i for i, b in enumerate(benchmarks) if b.category == category] for category in self.categories]

    def parts(self, framework: str) -> list[Part]:
        """Every task of a framework that reports one of the benchmarks, or a part of it."""
        sources = (alternative for b in self.benchmarks for alternative in b.sources.get(framework, ()))
        return [part for alternative in sources for part in alternative]


def benchmark(name: str) -> Benchmark:
    """A shipped benchmark by its name, outside any category.

    Raises:
        SetupError: no such benchmark.
    """
    known = _shipped().benchmarks
    if name not in known:
        raise SetupError(f"unknown benchmark {name!r}; known: {', '.join(known)}")
    return known[name]


def load(name: str = DEFAULT, mmvp_pairs: bool = False) -> Taxonomy:
    """A taxonomy: `five` (OCR and Chart apart), `paper` (the paper's four categories), or a file of the same form.

    Args:
        name: shipped name, or path of a JSON file; `FILE:NAME` picks one of several taxonomies in a file.
        mmvp_pairs: score MMVP by pairs (both questions right) instead of by question.

    Raises:
        SetupError: no such taxonomy, or the file is wrong.
    """
    shipped = _shipped()
    if name in shipped.categories:
        return _taxonomy(name, shipped, shipped.benchmarks, mmvp_pairs)
    file, chosen = name, ""
    if not Path(file).is_file():
        file, _, chosen = name.rpartition(":")
    if not Path(file).is_file():
        raise SetupError(f"taxonomy must be one of {', '.join(shipped.categories)}, or a JSON file; not {name!r}")
    own = _own(Path(file).read_bytes(), file)
    own.check_apart(shipped)
    names = list(own.categories)
    if (chosen or len(names) != 1) and chosen not in names:
        raise SetupError(f"{file} holds the taxonomies {', '.join(names)}; say which one with {file}:NAME")
    return _taxonomy(chosen or names[0], own, {**shipped.benchmarks, **own.benchmarks}, mmvp_pairs)


@lru_cache
def _own(content: bytes, file: str) -> "_File":
    return _File.read(content, file)


# A file that is changed is read anew; what it held before is kept until it is let go here.
load.cache_clear = _own.cache_clear  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _File:
    """A taxonomy file that was checked: categories by taxonomy, benchmarks by name; `digest` is of its content."""

    source: taxonomy_form.Source
    categories: Mapping[str, Mapping[str, Sequence[str]]]
    benchmarks: Mapping[str, Benchmark]
    digest: str

    @classmethod
    def read(cls, content: bytes, file: str) -> "_File":
        """Read and check a file.

        Raises:
            SetupError: with what is wrong, and its line.
        """
        source, taxonomies, entries = taxonomy_form.read(content, file)
        for name, categories in taxonomies.items():
            try:
                taxonomy_form.check_name(name, "taxonomy")
                taxonomy_form.check_categories(categories)
            except ValueError as error:
                raise source.error(f"taxonomy {name!r}: {error}", "taxonomies", name) from None
        benchmarks = {}
        for name, entry in entries.items():
            try:
                benchmarks[name] = _benchmark(taxonomy_form.check_head(name, "benchmark"), entry)
            except ValueError as error:
                raise source.error(f"benchmark {name}: {error}", "benchmarks", name) from None
        return cls(source, taxonomies, benchmarks, hashlib.sha256(content).hexdigest()[:12])

    def check_apart(self, shipped: "_File") -> None:
        """Refuse names that are the shipped ones', which others know by them.

        Raises:
            SetupError: one is.
        """
        for what, mine, theirs in (
            ("taxonomies", self.categories, shipped.categories),
            ("benchmarks", self.benchmarks, shipped.benchmarks),
        ):
            known = {name.casefold() for name in theirs}
            twice = next((name for name in mine if name.casefold() in known), None)
            if twice:
                raise self.source.error(f"{twice!r} is one of the shipped {what}; call yours otherwise", what, twice)


@lru_cache
def _shipped() -> _File:
    return _File.read(resources.files("redundancy_eval").joinpath("taxonomy.json").read_bytes(), "taxonomy.json")


def _taxonomy(name: str, own: _File, known: Mapping[str, Benchmark], mmvp_pairs: bool) -> Taxonomy:
    def error(message: str, *names: str) -> SetupError:
        return own.source.error(f"taxonomy {name}: {message}", "taxonomies", name, *names)

    benchmarks: list[Benchmark] = []
    for category, members in own.categories[name].items():
        for member in members:
            if member not in known:
                raise error(f"unknown benchmark {member!r}; known: {', '.join(known)}", category, member)
            chosen = known[_BY_PAIRS.get(member, member) if mmvp_pairs else member]
            if any(other.name == chosen.name for other in benchmarks):
                raise error(f"in two categories: {chosen.name}", category, member)
            shared = next((tasks for other in benchmarks if (tasks := _shared(other, chosen))), None)
            if shared:
                raise error(f"task {shared[0]} would count in {shared[1]} and in {chosen.name}", category, member)
            benchmarks.append(replace(chosen, category=category))
    digest = "" if own is _shipped() else own.digest
    return Taxonomy(name, tuple(own.categories[name]), tuple(benchmarks), digest)


def _shared(one: Benchmark, other: Benchmark) -> tuple[str, str] | None:
    """A task whose samples count in two benchmarks, and the first one's name."""
    for framework in FRAMEWORKS:
        mine, others = (
            {(part.task, part.where) for parts in b.sources.get(framework, ()) for part in parts} for b in (one, other)
        )
        both = sorted(task for task, where in mine for same, there in others if same == task and _overlap(where, there))
        if both:
            return both[0], one.name
    return None


def _overlap(one: str, other: str) -> bool:
    """Whether a sample of one task can count under both conditions; two different ones are taken to part them."""
    return one == other or not one or not other


def _benchmark(name: str, entry: Mapping[str, Any]) -> Benchmark:
    """A benchmark as a file describes it, outside any category.

    Raises:
        ValueError: the description is wrong.
    """
    rule, weights = entry.get("rule", "items"), taxonomy_form.check_weights(entry.get("weights", {}))
    if rule not in tuple(RULES):  # a tuple: whatever stands there can be compared
        raise ValueError(f"rule must be one of {', '.join(RULES)}; not {rule!r}")
    unknown = sorted(set(entry) - {"rule", "weights", *FRAMEWORKS})
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}")
    sources = {}
    for framework in FRAMEWORKS:
        alternatives = entry.get(framework, [])
        if not isinstance(alternatives, list):
            raise ValueError(f"{framework} must be a list of tasks; not {alternatives!r}")
        if alternatives:
            sources[framework] = tuple(map(_parts, alternatives))
    return Benchmark(name, "", rule, weights, sources)


def _parts(alternative: Any) -> tuple[Part, ...]:
    """One alternative: a task, or a list of tasks that together hold the benchmark.

    Raises:
        ValueError: it is neither, or tasks do not make one benchmark.
    """
    entries = alternative if isinstance(alternative, list) else [alternative]
    if not entries:
        raise ValueError("an empty list of tasks")
    for entry in entries:
        taxonomy_form.check_part(entry)
    parts = [Part(**entry) for entry in entries]
    for part in parts:
        rule, colon, _ = part.score.partition(": ")
        if colon and rule not in SAMPLE_RULES:
            raise ValueError(f"there is no rule {rule!r} for samples; there are {', '.join(SAMPLE_RULES)}")
    for one, other in combinations(parts, 2):
        if one.task == other.task and _overlap(one.where, other.where):
            raise ValueError(f"task {one.task} would count twice")
    stated = [entry["weight"] for entry in entries if entry.get("weight") is not None]
    if stated and len(stated) < len(entries):
        raise ValueError("give all of its tasks a weight, or none")
    if stated:
        taxonomy_form.check_sum(stated)
    # A headline that is formed otherwise than the benchmark's score does not give it, unless its weight is stated.
    return tuple(
        replace(p, weight=None) if not stated and (p.headline_weights is not None or len(parts) > 1) else p
        for p in parts
    )
