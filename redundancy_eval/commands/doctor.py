"""`redundancy-eval doctor`: whether this environment can do the job, and what to type when it cannot."""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redundancy_eval import __version__, environment
from redundancy_eval.errors import SetupError

OK, NOTE, WRONG = "ok", "note", "wrong"
_SECONDS = 300  # for a framework to be imported
_SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT")
# What an extra is for, and the package by which it counts as wanted.
_FOR = {
    "models": ("plan, calibrate, parity", "torch"),
    "lmms-eval": ("demo, run, sweep", "lmms-eval"),
    "vlmevalkit": ("vlmevalkit, sweep --framework vlmevalkit", "ms-vlmeval"),
}


@dataclass(frozen=True)
class Line:
    """One thing that was looked at: `status` is ok, note or wrong; only wrong makes the command fail."""

    topic: str
    status: str
    text: str


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    parser = commands.add_parser(
        "doctor",
        help="whether this environment can do the job, and what to type when it cannot",
        description="Look at versions, frameworks, devices, hub, caches and data sets, in a minute; nothing is "
        "downloaded or changed. Exit code 2 where something that is installed cannot do its job.",
    )
    parser.add_argument("--json", action="store_true", help="the lines as JSON, at the end")
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Print what was found, line by line; returns 0, or 2 where something is wrong."""
    found: list[Line] = []
    for check in (_places, _packages, _torch, _lmms_eval, _vlmevalkit, _hub, _caches, _data, _commands):
        for line in _lines(check):
            found.append(line)
            if not args.json:
                print(f"{line.status:<6} {line.topic:<15} {line.text}", flush=True)
    wrong = sum(line.status == WRONG for line in found)
    if args.json:
        print(json.dumps({"schema": 1, "version": __version__, "lines": [asdict(line) for line in found]}, indent=1))
    elif wrong:
        print(f"\n{wrong} of these keep something from working", file=sys.stderr)
    return SetupError.exit_code if wrong else 0


def _lines(check: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """A check's lines; where the check itself fails, a line that says so: this command ends with a verdict."""
    try:
        yield from check()
    except Exception as error:
        yield Line(check.__name__.strip("_"), WRONG, f"could not be looked at: {type(error).__name__}: {error}")


def _places() -> Iterator[Line]:
    system = f"{platform.system()} {platform.machine()}"
    known = bool(environment.tested())
    text = f"{platform.python_version()} on {system}" + ("" if known else "; the tests never ran on this Python")
    yield Line("python", OK if known else NOTE, f"{text}, {sys.executable}")
    yield Line("core", OK, f"redundancy-eval {__version__}, {Path(__file__).resolve().parents[1]}")
    from redundancy_eval import model_wrappers, reports, tasks

    for module in (model_wrappers, tasks, reports):
        yield Line(module.__name__.rpartition(".")[2], OK, str(Path(str(module.__file__)).resolve().parent))
    if environment.version(environment.NAME) is None:
        yield Line("core", WRONG, "not installed, so the frameworks cannot see our models: pip install -e .")


def _installed(extra: str) -> bool:
    return environment.version(_FOR[extra][1]) is not None


def _packages() -> Iterator[Line]:
    seen: set[str] = set()
    fine = []
    for extra in ("", *filter(_installed, _FOR)):
        for package in environment.packages(extra):
            if package.name in seen:
                continue
            seen.add(package.name)
            if not package.fits:
                yield Line("version", WRONG, f"{package}: {environment.mend([package], extra)}")
            elif package.tested not in (None, package.found):
                yield Line("version", NOTE, f"{package.name} {package.found}, the tests passed on {package.tested}")
            else:
                fine.append(f"{package.name} {package.found}")
    yield Line("versions", OK, f"{', '.join(fine) or 'none'}: as tested, or in range")


def _probe(code: str) -> tuple[Any, str]:
    """What code in a Python of its own assigns to `told`, and "", or None and the last line of what it said instead."""
    text = f"import json\n{code}\nprint('\\x02' + json.dumps(told))"
    quiet = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", text], capture_output=True, text=True, timeout=_SECONDS, env=quiet,
            errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"no answer within {_SECONDS} s"
    told = done.stdout.rpartition("\x02")[2]
    if done.returncode == 0 and told:
        return json.loads(told), ""
    said = done.stderr.strip().splitlines() or [f"ended with exit code {done.returncode}"]
    return None, said[-1]


_TORCH = """
import torch
from redundancy_eval.model_wrappers import masked
device = "cuda" if torch.cuda.is_available() else "cpu"
told = {"version": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads(),
        "dtype": str(masked.choose_dtype("auto", torch.device(device))).removeprefix("torch."), "devices": []}
for number in range(torch.cuda.device_count()):
    free, total = torch.cuda.mem_get_info(number)
    told["devices"].append([torch.cuda.get_device_name(number), free / 2**30, total / 2**30])
"""


def _torch() -> Iterator[Line]:
    if not _installed("models"):
        return
    told, failed = _probe(_TORCH)
    if failed:
        yield Line("torch", WRONG, f"{failed}; {environment.why('models')}")
        return
    yield Line("torch", OK, f"{told['version']}, CUDA {told['cuda'] or 'not built in'}, {told['threads']} CPU threads")
    for name, free, total in told["devices"]:
        yield Line("device", OK, f"{name}, {free:.1f} of {total:.1f} GiB free")
    if not told["devices"]:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        yield Line("device", NOTE, f"no GPU that torch sees; {memory:.1f} GiB of main memory")
    flash = environment.version("flash-attn")
    chosen = f"dtype=auto is {told['dtype']}, attn_implementation is sdpa"
    yield Line("auto", OK, f"{chosen}; flash-attn {flash or 'is not installed'}")


_LMMS_EVAL = """
from lmms_eval import __main__, models
from redundancy_eval.model_wrappers import lmms_eval_plugin
known = models.list_available_models()
told = [[name, name in known] for name in lmms_eval_plugin.CLASSES]
for name, seen in told:
    if seen:
        models.get_model(name)
"""


def _lmms_eval() -> Iterator[Line]:
    if _installed("lmms-eval"):
        yield _framework("lmms-eval", "lmms-eval", *_probe(_LMMS_EVAL))


# VLMEvalKit has no entry points: our launcher puts a model into its table for each run.
_VLMEVALKIT = """
from redundancy_eval.model_wrappers import launch, vlmevalkit_model, vlmevalkit_run
vlmevalkit_run.load_framework()
from vlmeval.config import supported_VLM
told = []
for name in launch.OURS:
    supported_VLM[name] = lambda **_: None
    told.append([name, callable(supported_VLM[name])])
"""


def _vlmevalkit() -> Iterator[Line]:
    if _installed("vlmevalkit"):
        yield _framework("VLMEvalKit", "vlmevalkit", *_probe(_VLMEVALKIT))


def _framework(title: str, extra: str, told: Any, failed: str) -> Line:
    if failed:
        return Line(title, WRONG, f"{failed}; {environment.why(extra)}")
    unseen = [name for name, seen in told if not seen]
    if unseen:
        again = "pip install --force-reinstall --no-deps redundancy-eval"
        return Line(title, WRONG, f"does not see {', '.join(unseen)}; its entry points are stale: {again}")
    return Line(title, OK, f"imports, and sees {', '.join(name for name, _ in told)}")


def _hub() -> Iterator[Line]:
    switches = [f"{name}={os.environ[name]}" for name in _SWITCHES if os.environ.get(name)]
    if switches:
        yield Line("hub", NOTE, f"set in the environment: {', '.join(switches)}")
    try:
        from huggingface_hub import constants
    except ImportError:
        return
    if constants.HF_HUB_OFFLINE:
        yield Line("hub", NOTE, "offline by choice: only what is cached, or lies in folders, can be used")
        return
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=5).close()
    except OSError as error:
        yield Line("hub", NOTE, f"not reachable ({error}): only what is cached, or lies in folders, can be used")
    else:
        yield Line("hub", OK, "reachable")


def _caches() -> Iterator[Line]:
    caches = {}
    try:
        from huggingface_hub import constants
    except ImportError:
        pass
    else:
        caches["hub cache"] = Path(constants.HF_HUB_CACHE)
        caches["data cache"] = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets")
    if _installed("vlmevalkit"):
        caches["LMUData"] = Path(os.environ.get("LMUData") or Path.home() / "LMUData")  # noqa: SIM112
    for name, folder in caches.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free / 2**30
        state = "" if folder.exists() else ", not there yet"
        yield Line(name, OK if os.access(there, os.W_OK) else NOTE, f"{folder}{state}, {free:.0f} GiB free")


def _data() -> Iterator[Line]:
    from redundancy_eval import tasks

    try:
        from huggingface_hub import constants
    except ImportError:
        return
    files = (Path(str(tasks.__file__)).parent / "paper").glob("*.yaml")
    found = (re.search(r"^dataset_path: *(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE) for path in files)
    wanted = sorted({match[1] for match in found if match})
    here = [name for name in wanted if (Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}").is_dir()]
    missing = [name for name in wanted if name not in here]
    text = f"{len(here)} of {len(wanted)} data sets of redundancy_paper are in the hub cache"
    more = f"; not there: {', '.join(missing)}" if here and missing else ""
    yield Line("data", NOTE if missing else OK, text + more)


def _commands() -> Iterator[Line]:
    yield Line("commands", OK, "report, verify, models, tasks: ready")
    for extra, (commands, _) in _FOR.items():
        if not _installed(extra):
            yield Line("commands", NOTE, f"{commands}: pip install '{environment.NAME}[{extra}]'")
        else:
            wrong = any(not package.fits for package in environment.packages(extra))
            yield Line("commands", NOTE if wrong else OK, f"{commands}: {'see above' if wrong else 'ready'}")
