"""A sweep in rounds: of every task more documents are asked until all CURs are known to a margin.

Look k asks a random sample of each task, as `--sample` does: as many documents of a small task as of a large one, since
a category is the plain mean of its benchmarks, and each look's sample holds the one before. Only the masks that CUR
needs are asked, and the rest at the last look. Answers are in the store and looks in the masks' folders, so that the
same command goes on where it was stopped.
"""

import gc
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from redundancy_eval import masks, records
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import process
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.sweeps import folders
from redundancy_eval.model_wrappers.sweeps import masks as sweep_masks
from redundancy_eval.model_wrappers.sweeps import run as sweep_run
from redundancy_eval.model_wrappers.sweeps.route import Framework, Route
from redundancy_eval.model_wrappers.sweeps.settings import Settings
from redundancy_eval.sample import Sample
from redundancy_eval.until import Until

if TYPE_CHECKING:  # numpy and scipy, which a finished sweep needs none of
    from redundancy_eval import deciding
    from redundancy_eval.table import ScoreTable

LOOKS = 5  # by default
_MOST = 20


@dataclass(frozen=True)
class Rounds:
    """`margin` of all CURs in percent points (half an interval), and at how many looks it may be reached.

    Raises:
        SetupError: one is out of its range.
    """

    margin: float
    looks: int = LOOKS

    def __post_init__(self) -> None:
        if not 0 < self.margin < 100:
            raise SetupError(f"--until is in percent of the full score, such as 2; not {self.margin:g}")
        if not 2 <= self.looks <= _MOST:
            raise SetupError(f"--looks is a whole number from 2 to {_MOST}; not {self.looks}")

    def at(self, look: int) -> Until:
        """A look, from 1."""
        from redundancy_eval.statistics import sequential

        return Until(self.margin, self.looks, sequential.fractions(self.looks)[:look])


def run(asked: Settings, rounds: Rounds, framework: Framework, quiet: bool = False) -> None:
    """Sweep until every CUR is known.

    Args:
        asked: the sweep, of all documents.
        rounds: when to stop.
        framework: what asks and scores.
        quiet: see `run.run`.

    Raises:
        SetupError: the settings are wrong; see also `run.run`.
        DataError: an answer cannot be given, or results cannot stand in one table.
    """
    encoders = sweep_masks.encoders_of(asked.model, asked.given)
    labels = sweep_masks.read(asked.masks, encoders)
    needed = [masks.label(mask, encoders) for mask in ((), *((name,) for name in encoders))]
    _check(asked, labels, needed)
    if _finished(asked, framework):
        _say(f"finished: {len(labels)} masks in {asked.out}")
        return
    from redundancy_eval import deciding

    with process.silence():
        route = sweep_run.start(replace(asked, sample=Sample(1)), framework)
        counts = route.documents()
    _tell_what_is_watched(counts, framework)
    first = max((_look(route, label, rounds) for label in needed), default=1)
    for look in range(first, rounds.looks + 1):
        until = rounds.at(look)
        one = replace(asked, sample=Sample(_count(counts, until)), until=until)
        part = replace(one, masks=";".join(needed), command=(*asked.command, f"(look {look})"))
        sweep_run.run(part, framework, quiet, brief=True)
        gc.collect()  # a model is full of cycles, and the next look loads it again
        widest = deciding.widest(_table([route.folder(label) for label in needed]))
        known = widest.half <= rounds.margin / 100
        drawn = _drawn(route, needed[0])
        _say(_line(until, drawn, widest, counts if not known and look < rounds.looks else None, rounds))
        if known or look == rounds.looks:
            sweep_run.run(one, framework, quiet)
            _say(_saved(drawn, known, widest, rounds))
            return


def _check(asked: Settings, labels: Sequence[str], needed: Sequence[str]) -> None:
    if asked.sample is not None or any(each.partition("=")[0] in ("--limit", "--offset") for each in asked.passed):
        raise SetupError("--until chooses the documents: leave --sample, --limit and --offset out")
    missing = [label for label in needed if label not in labels]
    if missing:
        raise SetupError(
            f"--until needs the masks that CUR needs, the full model and each encoder dropped alone: --masks lacks "
            f"{', '.join(missing)}"
        )
    if process.world_size() > 1:
        raise SetupError("--until decides in one process: start it without torchrun, or use --sample N")


def _finished(asked: Settings, framework: Framework) -> bool:
    checkpoint = sweep_run.checkpoint_of(asked.model, asked.given)
    return folders.done(Path(asked.out), asked.command, checkpoint, sweep_run.surroundings(asked, framework))


def _tell_what_is_watched(counts: Mapping[str, int], framework: Framework) -> None:
    from redundancy_eval import deciding, taxonomy

    chosen = taxonomy.load()
    asked = deciding.asked(counts, framework.name, chosen)
    if not asked:
        raise SetupError(
            f"--until needs CURs to watch: no benchmark of the taxonomy {chosen.name} is asked in {', '.join(counts)}"
        )
    absent = [name for name in chosen.categories if name not in asked]
    if absent:
        _say(f"overall is not watched: nothing of {', '.join(absent)} is asked")


def _look(route: Route, label: str, rounds: Rounds) -> int:
    """The look that a mask's folder is of: those before it were not enough."""
    found = records.until(route.folder(label))
    return found.look if found is not None and found == rounds.at(found.look) else 1


def _count(counts: Mapping[str, int], until: Until) -> int:
    """Documents of a task at a look."""
    return math.ceil(max(counts.values()) * until.fractions[-1])


def _table(paths: Sequence[Path]) -> "ScoreTable":
    """What `report` would read in the masks' folders."""
    from redundancy_eval import scores, taxonomy
    from redundancy_eval.readers import find

    chosen = taxonomy.load()
    tables = scores.tables(find.read(paths, chosen), chosen, known_encoders=registry.known_encoders)
    if len(tables) != 1:
        raise SetupError(f"--until reads the runs of one model, and these are of {len(tables)}")
    return tables[0]


def _drawn(route: Route, label: str) -> tuple[int, int]:
    """How many documents were asked, of how many."""
    tasks = records.read([route.folder(label)])["sample"]["tasks"].values()
    return sum(each["drawn"] for each in tasks), sum(each["of"] for each in tasks)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _line(
    until: Until, drawn: tuple[int, int], widest: "deciding.Widest", counts: Mapping[str, int] | None, rounds: Rounds
) -> str:
    """What a look shows; `counts` where another follows."""
    said = f"look {until.look} of {until.looks}: {drawn[0]:,} of {drawn[1]:,} documents asked; {_widest(widest)}"
    if counts is None:
        return said
    more = _count(counts, rounds.at(until.look + 1))
    return f"{said}; next: {sum(min(more, count) for count in counts.values()):,} documents"


def _widest(widest: "deciding.Widest") -> str:
    place = f"{widest.encoder} in {widest.place}"
    if math.isinf(widest.half):
        return f"the CUR of {place} is not known ({widest.reason})"
    return f"widest CUR interval: {place}, +-{100 * widest.half:.2f} % (level {100 * widest.level:.4g} %)"


def _saved(drawn: tuple[int, int], known: bool, widest: "deciding.Widest", rounds: Rounds) -> str:
    asked = f"asked {drawn[0]:,} of {drawn[1]:,} documents: {100 * (1 - drawn[0] / drawn[1]):.0f} % saved"
    if known:
        return f"{asked}; every CUR is known to +-{rounds.margin:g} %"
    return f"{asked}; not every CUR is known to +-{rounds.margin:g} %: {_widest(widest)}"
