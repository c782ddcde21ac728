"""`redundancy-eval plan`: what a sweep will ask and what it will take, before it is started."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from redundancy_eval import environment, usage
from redundancy_eval.errors import SetupError

if TYPE_CHECKING:
    from redundancy_eval.model_wrappers.sweeps.planned import Plan

_EXAMPLE = """\
redundancy-eval plan --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B \\
    --tasks redundancy_paper -o runs/x5
redundancy-eval plan ... --sample 200        # what a random sample would take"""


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "plan", run, _flags, passes_on=True, example=_EXAMPLE,
        help="what a sweep will ask and take, before it (takes the sweep's arguments)",
        description="Tell what a sweep will ask and what it will take before it is started: documents, images, passes "
        "of the encoders, prompts, operations and memory, beside those of a separate run for each mask, and what is "
        "answered already. Data sets are fetched as the sweep would fetch them; the model's weights are not read and "
        "need not be there.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    from redundancy_eval.model_wrappers.hosts.frameworks import FRAMEWORKS
    from redundancy_eval.model_wrappers.sweeps import settings

    usage.add(parser, "--json", action="store_true", help="the numbers as JSON")
    usage.add(
        parser, "--margin", type=float, default=2.0, metavar="PERCENT",
        help="of CUR, below which an encoder will be called redundant: how many documents that needs (default 2)",
    )  # fmt: skip
    usage.add(
        parser, "--pilot", action="append", default=[], metavar="RUNS",
        help="finished runs on a part of the documents, which say so instead of assumptions",
    )  # fmt: skip
    settings.add_flags(parser, FRAMEWORKS.values())


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Print the plan; returns 0."""
    from redundancy_eval.model_wrappers.hosts.frameworks import FRAMEWORKS
    from redundancy_eval.model_wrappers.sweeps import settings

    asked = settings.read(args, rest, args.typed)
    with environment.needed("plan", args.framework):
        from redundancy_eval.model_wrappers.sweeps import plan, plan_text
    if not 0 < args.margin < 100:
        raise SetupError(f"--margin is in percent of the full score, such as 2; not {args.margin:g}")
    made = _with_margins(plan.make(asked, FRAMEWORKS[args.framework]), args.margin / 100, args.pilot)
    print(plan_text.as_json(made) + "\n" if args.json else plan_text.text(made), end="")
    return 0


def _with_margins(made: "Plan", margin: float, pilot: Sequence[str]) -> "Plan":
    """The plan with what its documents can decide; of the demo's tasks, or of those of the default taxonomy."""
    from redundancy_eval import api, deciding, taxonomy
    from redundancy_eval.uncertainty import Settings, analyse

    analysis, by = None, f"assumed: {deciding.ASSUMED}"
    if pilot:
        tables = api.read(pilot)
        if len(tables) != 1:
            raise SetupError(f"--pilot holds runs of {len(tables)} models: name those of one")
        if tables[0].encoders != tuple(made.encoders):
            theirs, ours = (", ".join(names) for names in (tables[0].encoders, made.encoders))
            raise SetupError(f"--pilot holds runs of a model with the encoders {theirs}, not {ours}")
        analysis = analyse(tables[0], Settings(margin=margin))
        by = "by the pilot: in each category, the standard error of the encoder with the least CUR"
    documents = {task.name: task.documents for task in made.tasks}
    chosen = taxonomy.load(taxonomy.DEFAULT, False)
    found = deciding.decidable(documents, made.framework, len(made.encoders), chosen, margin, analysis)
    return replace(made, decidable=found, decidable_by=by if found else "")
