"""Which kinds of bad data may be excused, and the warnings that then stand under the table."""

from collections.abc import Sequence

from redundancy_eval.errors import DataError, SetupError

# What `--lenient` can turn into a warning, and what then happens.
KINDS = {
    "documents": "masks differ in documents: each is scored on its own",
    "limit": "masks differ in --limit, --offset, --sample or the look of --until",
    "version": "masks differ in the version of a task",
    "prompt": "masks differ in the wording of prompts, in few-shot or chat settings, or in targets",
    "generation": "masks differ in generation settings or seeds",
    "dataset": "masks differ in the data of a task: path, name, files, split",
    "scoring": "masks differ in how replies are scored",
    "judge": "masks differ in the judge, or in what was passed to it",
    "checkpoint": "masks of different checkpoints: each checkpoint gets a table",
    "weights": "masks between whose runs the checkpoint's files changed",
    "versions": "masks that ran with different versions of a framework, torch, transformers, timm or this package",
    "dtype": "masks that ran in different number formats, or whose device chose it",
    "attention": "masks that ran with different attention implementations",
    "batch": "masks that ran in half precision with different batch sizes",
    "calibration": "masks whose stand-ins are of different samples of images",
    "record": "a record that contradicts the results beside it: the results are believed",
    "changed": "results that were changed since they were written",
    "same-answers": "a mask under which not one answer is another than the full model's",
    "truncated": "a damaged or incomplete samples file: the framework's number is taken unchecked",
    "duplicate-samples": "documents that stand twice in a samples file: the last one counts",
    "duplicate-runs": "two runs of one mask: the newest counts",
    "stale": "VLMEvalKit's verdicts that belong to earlier predictions",
    "headline": "a framework's number that does not follow from its samples: the framework's is shown",
    "missing-answers": "answers that are missing: the score is that of the others",
    "drawn": "options that VLMEvalKit drew at random, as no one could read the reply: they count as they are",
}


class Leniency:
    """Which kinds of bad data are warnings instead of errors, and the warnings so far."""

    def __init__(self, kinds: Sequence[str] = ()):
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise SetupError(f"--lenient knows {', '.join(KINDS)}; not {unknown[0]!r}")
        self.kinds = frozenset(kinds)
        self.warnings: list[str] = []

    def refuse(self, kind: str, message: str) -> None:
        """Note a problem of a kind.

        Raises:
            DataError: this kind is not excused.
        """
        if kind not in self.kinds:
            raise DataError(f"{message} (--lenient {kind} makes this a warning)")
        self.warnings.append(f"warning ({kind}): {message}")

    def note(self, message: str) -> None:
        """What is said under the table, whatever is excused."""
        self.warnings.append(message)

    def take(self) -> list[str]:
        """The warnings since the last call."""
        taken, self.warnings = list(dict.fromkeys(self.warnings)), []
        return taken
