"""The arguments of a run in VLMEvalKit: those that are ours to understand, and those that go on to it."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from redundancy_eval import model_args, sample, usage
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import card, registry
from redundancy_eval.sample import Sample

_WHOLE = ("--limit", "--judge-args", "--judge-base-url", "--judge-key", "--use-verifier", "--config", "--base-url")
_PUBLISHED = tuple(name for name, family in registry.FAMILIES.items() if family.published)
_REFUSED = ("--config", "--base-url", "--api-mode")


@dataclass(frozen=True)
class Arguments:
    """What was typed and is ours to understand; `passed` go on to VLMEvalKit, and decide results."""

    model: str
    model_args: str
    data: tuple[str, ...]
    out: str
    batch_size: int
    published: card.Published | None
    judge: str
    judge_base_url: str | None
    judge_key: str | None
    limit: int | None
    passed: tuple[str, ...]
    sample: Sample | None = None

    @property
    def told(self) -> list[str]:
        """What is passed on, as it may be written down."""
        return list(map(model_args.redacted, self.passed))


def add_flags(parser: usage.Parser) -> None:
    """Add the flags that are ours to understand to a parser."""
    usage.add(
        parser, "--model", required=True, choices=registry.MODELS, metavar="MODEL", help=", ".join(registry.MODELS)
    )
    usage.add(
        parser, "--model_args", default="", metavar="ARGS", help="as for lmms-eval, and max_new_tokens=N (default 512)"
    )
    usage.add(
        parser, "--data", nargs="+", required=True, metavar="DATA",
        help="names of VLMEvalKit, e.g. MMBench_DEV_EN ChartQA_TEST, or of $LMUData/NAME.tsv",
    )  # fmt: skip
    usage.add_out(parser, "folder for results", "--work-dir", required=True)
    usage.add(
        parser, "--batch-size", type=int, default=1, metavar="N", help="samples that are answered together (default 1)"
    )
    usage.add(
        parser, "--as-published", action="store_true",
        help=f"ask and answer as the paper's authors did: {', '.join(_PUBLISHED)}",
    )  # fmt: skip
    usage.add(
        parser, "--judge", default="exact_matching", metavar="NAME",
        help="default exact_matching, which asks no one; MathVista needs a judge. One of your own: --judge NAME "
        "--judge-base-url http://localhost:8000/v1 --judge-key KEY",
    )  # fmt: skip
    usage.add(parser, "--judge-base-url", metavar="URL", help="where a judge of your own answers")
    usage.add(parser, "--judge-key", metavar="KEY", help="its key; never written down")
    usage.add(parser, "--judge-args", metavar="JSON", help="what is passed to it")
    usage.add(parser, "--limit", type=int, metavar="N", help="only the first N rows of each data set")
    sample.add_flags(parser)
    usage.add(parser, "--use-verifier", action="store_true", help="VLMEvalKit's")


def parse(arguments: Sequence[str]) -> tuple[Arguments, list[str]]:
    """What was asked for, and the arguments that are VLMEvalKit's alone, from a command line.

    Raises:
        SetupError: an argument makes no sense here.
    """
    parser = usage.Parser(allow_abbrev=False)
    add_flags(parser)
    given, rest = parser.parse_known_args(list(arguments))
    return read(given, rest), rest


def read(given: argparse.Namespace, rest: Sequence[str]) -> Arguments:
    """What was asked for.

    Args:
        given: with the flags of `add_flags`.
        rest: the arguments that are VLMEvalKit's alone.

    Raises:
        SetupError: an argument makes no sense here.
    """
    names = {part.partition("=")[0] for part in rest}
    refused = [name for name in _REFUSED if name in names]
    if refused:
        raise SetupError(f"vlmevalkit evaluates one masked model; with {refused[0]} use VLMEvalKit itself")
    # VLMEvalKit takes --lim for --limit: it would decide results unseen, and show a judge's key.
    cut = [name for name in names if name.startswith("--") and any(whole.startswith(name) for whole in _WHOLE)]
    if cut:
        raise SetupError(f"write {cut[0]} in full")
    if "MMEVAL_ROOT" in os.environ:
        raise SetupError("the environment's MMEVAL_ROOT would put VLMEvalKit's results elsewhere than --work-dir")
    if given.batch_size < 1:
        raise SetupError(f"--batch-size must be positive; not {given.batch_size}")
    if given.limit is not None and given.limit < 1:
        raise SetupError(f"--limit must be positive; not {given.limit}")
    drawn = sample.read(given)
    sample.refuse(drawn, "--limit", given.limit is not None)
    published = registry.FAMILIES[given.model].published if given.model in registry.FAMILIES else None
    if given.as_published and published is None:
        raise SetupError(
            f"--as-published is known for {', '.join(_PUBLISHED)}; the authors' code for {given.model} was not found"
        )
    passed = ["--judge", given.judge]
    for name, value in (("--judge-base-url", given.judge_base_url), ("--judge-args", given.judge_args)):
        passed += [name, value] if value else []
    passed += ["--limit", str(given.limit)] if given.limit is not None else []
    passed += ["--use-verifier"] if given.use_verifier else []
    return Arguments(
        given.model, given.model_args, tuple(given.data), given.out, given.batch_size,
        published if given.as_published else None, given.judge, given.judge_base_url, given.judge_key, given.limit,
        tuple(passed), drawn,
    )  # fmt: skip
