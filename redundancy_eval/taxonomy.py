"""Which benchmark belongs to which category, and where a framework reports its headline number."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from redundancy_eval.errors import SetupError

DEFAULT = "five"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark in a taxonomy.

    `metric` is lmms-eval's name of the headline number of `task` (without its filter) and `scale` turns it into
    points on 0..100. `sample_score` is the path of a sample's score (0..1) in the samples file when the headline is
    the plain mean of the samples; empty otherwise.
    """

    name: str
    category: str
    task: str
    metric: str
    scale: float
    sample_score: str = ""


@dataclass(frozen=True)
class Taxonomy:
    """Categories in their order, and the benchmarks."""

    name: str
    categories: tuple[str, ...]
    benchmarks: tuple[Benchmark, ...]

    def groups(self, benchmarks: Sequence[Benchmark]) -> list[list[int]]:
        """For each category, the indices of its benchmarks in a list."""
        return [[i for i, b in enumerate(benchmarks) if b.category == category] for category in self.categories]


@lru_cache
def load(name: str = DEFAULT) -> Taxonomy:
    """A shipped taxonomy: `five` (OCR and Chart apart) or `paper` (the paper's four categories).

    Raises:
        SetupError: no such taxonomy.
    """
    content = json.loads(resources.files("redundancy_eval").joinpath("taxonomy.json").read_text(encoding="utf-8"))
    names = content["taxonomies"]
    if name not in names:
        raise SetupError(f"taxonomy must be one of {', '.join(names)}; not {name!r}")
    benchmarks = tuple(
        Benchmark(b["name"], b[name], b["task"], b["metric"], b["scale"], b.get("sample_score", ""))
        for b in content["benchmarks"]
    )
    return Taxonomy(name, tuple(names[name]), benchmarks)
