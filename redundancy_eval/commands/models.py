"""`redundancy-eval models`: the model families, from their table."""

import argparse
from collections.abc import Sequence
from typing import Any

from redundancy_eval import usage


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "models", run, lambda parser: None, example="redundancy-eval models",
        help="list the model families, their encoders and published checkpoints",
        description="List the model families: model id, public checkpoints with the licence of their weights, "
        "encoders in order and what they cost, sites, ablations, and settings of their own.",
    )  # fmt: skip


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Print the list; returns 0."""
    from redundancy_eval.model_wrappers.families import registry
    from redundancy_eval.reports import markdown

    for family in registry.FAMILIES.values():
        print(f"## {family.model_id}: {family.title}\n")
        rows = [["checkpoint", "encoders, in order", "template", "licence of the weights", "checked with"]]
        for c in family.checkpoints:
            mark = " (default)" if c.hub_id == family.default else ""
            rows.append([c.hub_id + mark, ", ".join(c.encoders), c.template, c.licence, family.checked_with])
        print(markdown.grid(rows) + "\n")
        costs = "; ".join(f"{name} {million:g} M, {flops:,} GFLOPs" for name, (million, flops) in family.costs.items())
        print(f"encoders: {costs}")
        print(f"sites: {', '.join(family.sites)}; a dropped encoder is skipped {family.skipped}")
        print(f"ablations: {', '.join(registry.ABLATIONS)}")
        for name, meaning in family.settings.items():
            print(f"{name}: {meaning}")
        print()
    print("## hf_masked: any transformers image-text-to-text model; encoders=NAME:MODULE.PATH+...\n")
    print("## masked: any model of lmms-eval; base=MODEL_ID,encoders=NAME:MODULE.PATH+...")
    return 0
