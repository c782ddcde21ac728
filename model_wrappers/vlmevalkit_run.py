"""`redundancy-eval vlmevalkit`: VLMEvalKit's own launcher with our models in it, and an exit code that tells.

VLMEvalKit is imported here and nowhere else, in this process only: it switches off TLS verification for the whole
process (switched on again below), sets seeds and gradients, and takes a gigabyte.
"""

import argparse
import difflib
import hashlib
import importlib
import importlib.util
import json
import os
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from redundancy_eval import model_args, sidecar
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import families, launch

_HELP = """\
usage: redundancy-eval vlmevalkit --model MODEL --model_args pretrained=...,drop=... --data DATA [DATA ...]
                                  --work-dir DIR [...]

Evaluate a model under one mask in VLMEvalKit. Results go to DIR/MODEL_drop-MASK_HASH, so that neither masks nor
settings share a folder; the exit code is not 0 when a data set has no result. The same command continues a run that
was stopped.

  --model MODEL          {models}
  --model_args ARGS      as for lmms-eval, and max_new_tokens=N (default {tokens})
  --data DATA ...        names of VLMEvalKit, e.g. MMBench_DEV_EN ChartQA_TEST, or of $LMUData/NAME.tsv
  --work-dir DIR         folder for results
  --batch-size N         samples that are answered together (default 1)
  --as-published         ask and answer as the paper's authors did: {published}
  --judge NAME           default exact_matching, which asks no one; MathVista needs a judge.
                         A judge of your own: --judge NAME --judge-base-url http://localhost:8000/v1 --judge-key KEY
other arguments are VLMEvalKit's own: --mode, --limit, --verbose, --judge-args, ...

masks, in --model_args:
  drop=clip+sam    drop these encoders (names joined by +)    drop=none   the full model
  keep=eva02       drop all others                            drop=all    drop every encoder

example:
  redundancy-eval vlmevalkit --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B,drop=clip \\
      --data MMBench_DEV_EN ChartQA_TEST --batch-size 8 --work-dir runs/x5
"""

# Reasons for which VLMEvalKit leaves a data set without results although nothing was wrong with it.
_INTENDED = ("mode_infer", "evaluate_returned_none", "test_split_without_ground_truth", "official_submission")
_DISTRIBUTIONS = ("ms-vlmeval", "vlmeval", "nvidia-vlmeval")


def run(arguments: Sequence[str]) -> int:
    """Evaluate one mask; returns 0.

    Raises:
        SetupError: the arguments are wrong, or VLMEvalKit has no result for a data set.
    """
    if not arguments or "-h" in arguments or "--help" in arguments:
        published = ", ".join(name for name, family in families.FAMILIES.items() if family.published)
        print(_HELP.format(models=", ".join(launch.OURS), tokens=512, published=published), end="")
        return 0 if arguments else 2
    own, rest = _parser().parse_known_args(list(arguments))
    record = describe(own, arguments)
    framework = _framework()
    _check_data(own.data)
    name = f"{own.model}_drop-{record['mask']}_{_digest(own, record)}"
    folder = Path(own.work_dir) / name
    _register(name, own)
    theirs = ["--model", name, "--data", *own.data, "--work-dir", own.work_dir, "--judge", own.judge, *rest]
    if own.judge_base_url:
        theirs += ["--judge-base-url", own.judge_base_url]
    if framework.__name__ != "vlmeval.run":  # upstream starts anew unless told; the folder is this run's alone
        theirs += ["--reuse"]
    with _alone(folder), _on_cpu(), launch.argv("run.py", theirs):
        if launch.rank() == 0:
            sidecar.write(record, folder)
        # Behind the parsing, as VLMEvalKit writes sys.argv to status.json: a key does not belong there.
        sys.argv += ["--judge-key", own.judge_key] if own.judge_key else []
        parsed = framework.parse_args()
        sys.argv = ["run.py", *theirs]
        framework.parse_args = lambda: parsed
        framework.main()
    if launch.rank() == 0:
        _check_results(folder, own.data)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="redundancy-eval vlmevalkit", allow_abbrev=False)
    parser.add_argument("--model", required=True, choices=launch.OURS)
    parser.add_argument("--model_args", "--model-args", default="")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--batch-size", "--batch_size", type=int, default=1)
    parser.add_argument("--as-published", action="store_true")
    parser.add_argument("--judge", default="exact_matching")
    parser.add_argument("--judge-base-url")
    parser.add_argument("--judge-key")
    parser.add_argument("--judge-args")
    parser.add_argument("--limit", type=int)
    return parser
