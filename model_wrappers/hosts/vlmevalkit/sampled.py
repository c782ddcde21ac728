"""A random sample of each data set's rows in VLMEvalKit, which itself knows the first N only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.masking.loading import one_line_errors
from redundancy_eval.readers.vlmevalkit import samples
from redundancy_eval.sample import Drawn, Place, Sample, alone, part_of
from redundancy_eval.taxonomy import VLMEVALKIT


class Sampler:
    """Draws of every data set once, whatever the number of masks."""

    def __init__(self, sample: Sample):
        self.sample = sample
        self.known: dict[str, Drawn] = {}

    @contextmanager
    def sampling(self, framework: Any) -> Iterator[None]:
        """Within, VLMEvalKit's `run` module makes data sets of the sample's rows, and the run's record says so."""
        original = framework.build_dataset

        def build_dataset(*arguments: Any, **settings: Any) -> Any:
            made = original(*arguments, **settings)
            if made is not None:  # else it is named and passed over
                with one_line_errors():
                    self.restrict(made)
                    run_record.FOUND["sample"] = self.sample.as_json(self.known)
            return made

        framework.build_dataset = build_dataset
        try:
            yield
        finally:
            framework.build_dataset = original

    def restrict(self, dataset: Any) -> None:
        """Keep the rows of a data set that are drawn of it.

        Raises:
            SetupError: its rows do not tell what belongs together.
            DataError: a row's index is no number where that decides it.
        """
        name = dataset.dataset_name
        if name not in self.known:
            self.known[name] = self.sample.draw(name, places(name, dataset.data))
        # Some evaluations look rows up by their number.
        dataset.data = dataset.data.iloc[list(self.known[name].chosen)].reset_index(drop=True)


def places(name: str, rows: Any) -> Sequence[Place | None]:
    """Cluster and stratum of each row of a data set, None where it does not count.

    Args:
        name: of the data set.
        rows: its table (pandas).

    Raises:
        SetupError: rows do not tell what belongs together.
        DataError: an index is no number where that decides it.
    """
    part = part_of(VLMEVALKIT, name)
    if part is None:
        return [(alone(index), "") for index in rows["index"]]
    columns = [column for column in samples.columns_of_places(part) if column in rows]
    texts = rows[columns].astype(object).where(rows[columns].notna(), "").astype(str)
    return samples.places(f"{name}.tsv", [dict(zip(columns, row, strict=True)) for row in texts.to_numpy()], part)
