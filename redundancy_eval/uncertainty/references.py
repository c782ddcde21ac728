"""A masked model against another one, such as a model that was trained without the dropped encoders."""

from redundancy_eval.errors import SetupError
from redundancy_eval.table import Mask, ScoreTable
from redundancy_eval.uncertainty import encoders
from redundancy_eval.uncertainty.beside import beside
from redundancy_eval.uncertainty.changes import changes
from redundancy_eval.uncertainty.join import join
from redundancy_eval.uncertainty.results import Number, Score, Settings

_OTHER = "other"


def differences(
    table: ScoreTable, mask: Mask, other: ScoreTable, settings: Settings | None = None
) -> tuple[Score, ...]:
    """The other model's full score less a masked model's, in points, of every category and overall.

    Intervals are paired where both answered the same documents of a benchmark; else both are taken as independent
    where a score is a plain mean over documents, and there is none otherwise. A category, or overall, is compared only
    where both have all the same benchmarks.

    Args:
        table: of the masked model.
        mask: encoders dropped, in any order; () for the full model.
        other: of the other model, of which the full model counts.
        settings: level of the intervals.

    Raises:
        SetupError: the tables have different taxonomies or tasks, or the mask was not run.
    """
    dropped = tuple(name for name in table.encoders if name in mask)
    if dropped not in table.masks or () not in other.masks:
        raise SetupError(f"{'the reference has no full model' if dropped in table.masks else 'the mask was not run'}")
    return changes(beside(table, dropped, {_OTHER: (other, ())}), settings)


def lost(table: ScoreTable, other: ScoreTable, settings: Settings | None = None) -> dict[str, Number]:
    """What another model lacks of the full model's score, as CUR is of a masked one: place -> fraction.

    For a model that was trained without one encoder: intervals are over questions, not over trainings.

    Args:
        table: of the model with all encoders.
        other: of the other model, of which the full model counts.
        settings: level of the intervals.

    Raises:
        SetupError: the tables have different taxonomies or tasks.
    """
    joined = join(beside(table, (), {_OTHER: (other, ())}))
    level = (settings or Settings()).level
    found = ((place, encoders.curs(joined, place)) for place in joined.places)
    return {place.name: encoders.cur_numbers(joined, place, each, level)[0] for place, each in found}
