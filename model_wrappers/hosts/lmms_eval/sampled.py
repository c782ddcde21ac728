"""A random sample of each task's documents in lmms-eval, which itself knows the first N only.

A task makes no request for a document that was not drawn, and lmms-eval passes over documents without requests; numbers
of documents stay those of the whole task, and groups, processes and padding are lmms-eval's.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lmms_eval import evaluator
from lmms_eval.evaluator_utils import get_task_list

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.masking.loading import one_line_errors
from redundancy_eval.readers.lmms_eval import samples
from redundancy_eval.sample import Drawn, Place, Sample, alone, part_of
from redundancy_eval.taxonomy import LMMS_EVAL


class Sampler:
    """Draws of every task once, whatever the number of masks."""

    def __init__(self, sample: Sample):
        self.sample = sample
        self.known: dict[str, Drawn] = {}

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Within, lmms-eval asks the sample alone, says how many documents it has, and the run's record what it is."""
        original: Any = evaluator.evaluate

        def evaluate(lm: Any, task_dict: Any, *arguments: Any, **settings: Any) -> Any:
            with one_line_errors():
                tasks = {found.task_name: found.task for found in get_task_list(task_dict)}
                drawn = {name: self.restrict(name, task) for name, task in tasks.items()}
            run_record.FOUND["sample"] = self.sample.as_json(drawn)
            results = original(lm, task_dict, *arguments, **settings)
            if results is not None:  # of the first process alone
                for name, found in drawn.items():
                    results["n-samples"][name]["effective"] = len(found.chosen)
            return results

        evaluator.evaluate = evaluate
        try:
            yield
        finally:
            evaluator.evaluate = original

    def restrict(self, name: str, task: Any) -> Drawn:
        """Let a task ask what is drawn of it, and nothing else.

        Raises:
            SetupError: its documents do not tell what belongs together.
        """
        if name not in self.known:
            self.known[name] = self.sample.draw(name, places(name, task))
        found = self.known[name]
        chosen, construct = set(found.chosen), task.construct_requests

        def requests(doc_id: int, ctx: Any, **more: Any) -> Any:
            padding = "__padding_only__" in (more.get("metadata") or {})  # of a process that has no document
            return construct(doc_id=doc_id, ctx=ctx, **more) if doc_id in chosen or padding else []

        task.construct_requests = requests
        return found


def places(name: str, task: Any) -> Sequence[Place | None]:
    """Cluster and stratum of each of a task's documents, None where it does not count.

    They are those of the sample that an empty reply would leave, so that they are found where statistics find them.

    Raises:
        SetupError: a document cannot be scored without a reply.
    """
    documents, part = task.eval_docs_no_media, part_of(LMMS_EVAL, name)
    if part is None or not (part.cluster or part.stratum or part.where):
        return [(alone(number), "") for number in range(len(documents))]
    place, found, state = samples.placing(part), [], random.getstate()
    for number, document in enumerate(documents):
        try:
            scored = task.process_results(document, [""])
        except Exception as error:
            said = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
            raise SetupError(f"--sample: document {number} of {name} does not tell where it belongs: {said}") from error
        found.append(place(scored, number))
    random.setstate(state)  # some scorers draw an option where a reply names none
    return found
