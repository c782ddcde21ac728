"""Which benchmark belongs to which category, how its score is formed, and where each framework reports it.

All of it is data, in `taxonomy.json`; `--taxonomy FILE` reads a file of the same form. A benchmark's score is
100 * the weighted sum over strata of (sum of cluster numerators / sum of cluster denominators), see metrics.py.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.metrics import RULES

DEFAULT = "five"
SCHEMA = 2
FRAMEWORKS = ("lmms-eval", "vlmevalkit", "csv")
SAMPLE_RULES = ("mmmu", "max", "anls", "ocrbench", "mathvista")  # how readers judge a sample that holds no score
PAIRS = " pairs"  # "MMVP pairs" is MMVP scored by pairs


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
    """Categories in their order, and the benchmarks in the order of the categories."""

    name: str
    categories: tuple[str, ...]
    benchmarks: tuple[Benchmark, ...]

    def groups(self, benchmarks: Sequence[Benchmark]) -> list[list[int]]:
        """For each category, the indices of its benchmarks in a list."""
        return [[i for i, b in enumerate(benchmarks) if b.category == category] for category in self.categories]

    def parts(self, framework: str) -> list[Part]:
        """Every task of a framework that reports one of the benchmarks, or a part of it."""
        sources = (alternative for b in self.benchmarks for alternative in b.sources.get(framework, ()))
        return [part for alternative in sources for part in alternative]


@lru_cache
def benchmark(name: str) -> Benchmark:
    """A shipped benchmark by its name, outside any category.

    Raises:
        SetupError: no such benchmark.
    """
    known = _shipped()["benchmarks"]
    if name not in known:
        raise SetupError(f"unknown benchmark {name!r}; known: {', '.join(known)}")
    return _benchmark(name, "", known[name], "taxonomy.json")


@lru_cache
def load(name: str = DEFAULT, mmvp_pairs: bool = False) -> Taxonomy:
    """A taxonomy: `five` (OCR and Chart apart), `paper` (the paper's four categories), or a file of the same form.

    Args:
        name: shipped name, or path of a JSON file; `FILE:NAME` picks one of several taxonomies in a file.
        mmvp_pairs: score MMVP by pairs (both questions right) instead of by question.

    Raises:
        SetupError: no such taxonomy, or the file is wrong.
    """
    shipped = _shipped()
    if name in shipped["taxonomies"]:
        return _taxonomy(name, shipped["taxonomies"][name], shipped["benchmarks"], "taxonomy.json", mmvp_pairs)
    file, chosen = name, ""
    if not Path(file).is_file():
        file, _, chosen = name.rpartition(":")
    if not Path(file).is_file():
        raise SetupError(f"taxonomy must be one of {', '.join(shipped['taxonomies'])}, or a JSON file; not {name!r}")
    own = _content(Path(file).read_bytes(), file)
    names = list(own["taxonomies"])
    if (chosen or len(names) != 1) and chosen not in names:
        raise SetupError(f"{file} holds the taxonomies {', '.join(names)}; say which one with {file}:NAME")
    chosen = chosen or names[0]
    return _taxonomy(
        chosen, own["taxonomies"][chosen], {**shipped["benchmarks"], **own["benchmarks"]}, file, mmvp_pairs
    )


def _shipped() -> dict[str, Any]:
    return _content(resources.files("redundancy_eval").joinpath("taxonomy.json").read_bytes(), "")


def _content(text: bytes, file: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise SetupError(f"{file}: not JSON ({error})") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise SetupError(f'{file}: a taxonomy file has "schema": {SCHEMA}')
    taxonomies = content.get("taxonomies")
    if not isinstance(taxonomies, dict) or not taxonomies or not all(isinstance(c, dict) for c in taxonomies.values()):
        raise SetupError(f'{file}: "taxonomies" must map a name to categories')
    return {"taxonomies": content["taxonomies"], "benchmarks": content.get("benchmarks", {})}


def _taxonomy(
    name: str, categories: Mapping[str, Sequence[str]], known: Mapping[str, Any], file: str, mmvp_pairs: bool
) -> Taxonomy:
    benchmarks = []
    for category, members in categories.items():
        for member in members:
            if mmvp_pairs and member + PAIRS in known:
                member += PAIRS
            if member not in known:
                raise SetupError(f"{file}: taxonomy {name}: unknown benchmark {member!r}; known: {', '.join(known)}")
            benchmarks.append(_benchmark(member, category, known[member], file))
    twice = {b.name for b in benchmarks if sum(other.name == b.name for other in benchmarks) > 1}
    if twice:
        raise SetupError(f"{file}: taxonomy {name}: in two categories: {', '.join(sorted(twice))}")
    return Taxonomy(name, tuple(categories), tuple(benchmarks))


def _benchmark(name: str, category: str, entry: Mapping[str, Any], file: str) -> Benchmark:
    try:
        rule, weights = entry.get("rule", "items"), dict(entry.get("weights", {}))
        if rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}; not {rule!r}")
        if weights and abs(sum(weights.values()) - 1) > 1e-9:
            raise ValueError(f"weights sum to {sum(weights.values()):g}, not to 1")
        unknown = set(entry) - {"rule", "weights", *FRAMEWORKS}
        if unknown:
            raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
        sources = {
            framework: tuple(_parts(alternative) for alternative in entry[framework])
            for framework in FRAMEWORKS
            if framework in entry
        }
        return Benchmark(name, category, rule, weights, sources)
    except (TypeError, ValueError, AttributeError) as error:
        raise SetupError(f"{file}: benchmark {name}: {error}") from None


def _parts(alternative: Any) -> tuple[Part, ...]:
    """One alternative: a task, or a list of tasks that together hold the benchmark."""
    parts = [Part(**entry) for entry in (alternative if isinstance(alternative, list) else [alternative])]
    for part in parts:
        rule, colon, _ = part.score.partition(": ")
        if colon and rule not in SAMPLE_RULES:
            raise ValueError(f"there is no rule {rule!r} for samples; there are {', '.join(SAMPLE_RULES)}")
    # A headline that is formed otherwise than the benchmark's score does not give it, unless its weight is stated.
    return tuple(
        replace(p, weight=None) if p.weight == 1.0 and (p.headline_weights is not None or len(parts) > 1) else p
        for p in parts
    )
