"""What a number of documents can decide: the smallest margin of CUR before anything is asked, the widest CUR after."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redundancy_eval.statistics import planning
from redundancy_eval.table import ScoreTable
from redundancy_eval.taxonomy import Taxonomy
from redundancy_eval.uncertainty import OVERALL, Analysis
from redundancy_eval.uncertainty import encoders as of_encoders
from redundancy_eval.uncertainty.join import join

FULL = 0.65  # score of the full model: an assumption
ASSUMED = (
    f"a mask changes {planning.SHARE:.0%} of the answers of a full model that scores {100 * FULL:.0f}, "
    "and questions about one image are independent"
)


@dataclass(frozen=True)
class Decidable:
    """What a category's documents can show of an encoder without effect, with 80 % power.

    `smallest_margin` is the |CUR| (a fraction) that it can be shown to lie within, beside all encoders and categories;
    `wanted` counts the documents that `margin` asks for (None: not known).
    """

    category: str
    documents: int
    smallest_margin: float
    margin: float
    wanted: int | None


def decidable(
    documents: Mapping[str, int],
    framework: str,
    encoders: int,
    taxonomy: Taxonomy,
    margin: float,
    pilot: Analysis | None = None,
) -> list[Decidable]:
    """Of each category with a benchmark that is asked, and overall where all categories have one.

    Args:
        documents: task -> how many are asked.
        framework: whose tasks they are.
        encoders: how many the model has.
        taxonomy: which tasks make a benchmark.
        margin: of CUR, a fraction.
        pilot: finished runs of such a model; in each category, the standard error of the
            encoder with the least CUR stands for the assumptions.
    """
    counts = asked(documents, framework, taxonomy)
    errors = {name: _error(name, found, pilot) for name, found in counts.items()}
    made = [_decidable(name, sum(counts[name]), se, margin, encoders * len(counts)) for name, se in errors.items()]
    if len(counts) == len(taxonomy.categories):
        se = math.sqrt(sum(each**2 for each in errors.values())) / len(errors)
        made.append(_decidable(OVERALL, sum(map(sum, counts.values())), se, margin, encoders))
    return made


def asked(documents: Mapping[str, int], framework: str, taxonomy: Taxonomy) -> dict[str, list[int]]:
    """Of each category with a benchmark that is asked, how many documents its benchmarks have; see `decidable`."""
    counts: dict[str, list[int]] = {name: [] for name in taxonomy.categories}
    for benchmark in taxonomy.benchmarks:
        for parts in benchmark.sources.get(framework, ()):
            if all(part.task in documents for part in parts):
                counts[benchmark.category].append(sum(documents[part.task] for part in parts))
                break
    return {name: found for name, found in counts.items() if found}


@dataclass(frozen=True)
class Widest:
    """The CUR that is known least: half of its interval at `level` (infinite without one, for a `reason`)."""

    encoder: str
    place: str
    half: float
    level: float
    reason: str = ""


def widest(table: ScoreTable, level: float = 0.95) -> Widest:
    """Which CUR a table knows least, of all encoders in each category that has a benchmark, and overall if all have.

    Args:
        table: of one model.
        level: of its intervals; where documents were asked in rounds, of all looks together.
    """
    nominal = table.until.level(level) if table.until else level
    joined = join(table)
    there = {benchmark.category for benchmark in table.benchmarks}
    places = [place for place in joined.categories if place.name in there]
    places += [joined.overall] if len(places) == len(joined.categories) else []
    found = []
    for place in places:
        curs = of_encoders.cur_numbers(joined, place, of_encoders.curs(joined, place), nominal)
        for name, number in zip(joined.encoders, curs, strict=True):
            half = (number.high - number.low) / 2
            found.append(Widest(name, place.name, math.inf if math.isnan(half) else half, nominal, number.reason))
    return max(found, key=lambda each: each.half)


def _error(category: str, counts: Sequence[int], pilot: Analysis | None) -> float:
    """Standard error of a CUR; NaN where the pilot does not know the category."""
    if pilot is None:
        return planning.category_se(counts, FULL)
    found = [cell for cell in pilot.cells if cell.place == category and not math.isnan(cell.cur.se)]
    if not found:
        return math.nan
    least = min(found, key=lambda cell: abs(cell.cur.value))  # whose redundancy is in question
    return least.cur.se * math.sqrt(least.documents / sum(counts))


def _decidable(name: str, documents: int, se: float, margin: float, family: int) -> Decidable:
    smallest = planning.smallest_margin(se, family)
    wanted = None if math.isnan(smallest) else math.ceil(documents * (smallest / margin) ** 2)
    return Decidable(name, documents, round(smallest, 6), margin, wanted)
