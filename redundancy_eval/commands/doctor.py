"""`redundancy-eval doctor`: whether this environment can do the job, and what to type when it cannot."""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redundancy_eval import __version__, environment, usage
from redundancy_eval.errors import SetupError

OK, NOTE, WRONG = "ok", "note", "wrong"
_SECONDS = 300  # for a framework to be imported
_HUB_SECONDS = 8  # for the hub, names and all
_SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT")
# What an extra is for, and the packages by which it counts as wanted: one of each row.
_FOR: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "models": ("calibrate, parity", (("torch",), ("transformers",))),
    "lmms-eval": ("demo, run, sweep, plan, tasks --check", (("lmms-eval",),)),
    "vlmevalkit": (
        "vlmevalkit; sweep and plan with --framework vlmevalkit", (("ms-vlmeval", "vlmeval", "nvidia-vlmeval"),),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One thing that was looked at: `status` is ok, note or wrong; only wrong makes the command fail."""

    topic: str
    status: str
    text: str


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "doctor", run, _flags, example="redundancy-eval doctor",
        help="whether this environment can do the job, and what to type when it cannot",
        description="Look at versions, frameworks, devices, hub, caches and data sets, in a minute; nothing is "
        "downloaded or changed. Exit code 2 where something that is installed cannot do its job.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    usage.add(parser, "--json", action="store_true", help="the lines as JSON, at the end")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Print what was found, line by line; returns 0, or 2 where something is wrong."""
    found: list[Line] = []
    for line in _all():
        found.append(line)
        if not args.json:
            print(f"{line.status:<6} {line.topic:<15} {line.text}", flush=True)
    wrong = sum(line.status == WRONG for line in found)
    code = SetupError.exit_code if wrong else 0
    if args.json:
        told = {"schema": 1, "version": __version__, "exit": code, "lines": [asdict(line) for line in found]}
        print(json.dumps(told, indent=1))
    elif wrong:
        print(f"\n{wrong} of these keep something from working", file=sys.stderr)
    return code


def _all() -> Iterator[Line]:
    found: list[Line] = []
    for check in (_places, _packages, _hub, _caches, _torch, _lmms_eval, _data, _vlmevalkit):  # the light ones first
        for line in _lines(check):
            found.append(line)
            yield line
    yield from _commands(found)


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
    return all(any(map(environment.version, row)) for row in _FOR[extra][1])


def _unfit(extra: str) -> list[environment.Package]:
    """What of an installed extra does not fit; another release of a framework than the one we name may stand for it."""
    rows = _FOR[extra][1] if extra else ()
    stood_for = {name for row in rows for name in row if any(map(environment.version, row))}
    return [
        package
        for package in environment.packages(extra)
        if not package.fits and not (package.found is None and package.name in stood_for)
    ]


def _packages() -> Iterator[Line]:
    seen: set[str] = set()
    fine = []
    for extra in ("", *filter(_installed, _FOR)):
        unfit = _unfit(extra)
        for package in environment.packages(extra):
            if package.name in seen:
                continue
            seen.add(package.name)
            if package in unfit:
                yield Line("version", WRONG, f"{package}: {environment.mend([package], extra)}")
            elif package.found is None:
                yield Line("version", NOTE, f"{package}, another release stands for it")
            elif package.tested not in (None, package.found):
                yield Line("version", NOTE, f"{package.name} {package.found}, the tests passed on {package.tested}")
            else:
                fine.append(f"{package.name} {package.found}")
    for name, known in environment.tested().items():  # what those bring along
        found = environment.version(name)
        if name not in seen and found not in (None, known):
            yield Line("version", NOTE, f"{name} {found}, the tests passed on {known}")
    yield Line("versions", OK, f"{', '.join(fine) or 'none'}: as tested, or in range")


def _probe(code: str, seconds: int = _SECONDS) -> tuple[Any, str]:
    """What code in a Python of its own assigns to `told`, and "", or None and the last line of what it said instead.

    It gets our path, so that it finds what the other commands find wherever one stands, and ends whatever threads the
    frameworks leave behind.
    """
    text = (
        f"import sys\nsys.path[:] = sys.argv[1:]\nimport json, os\n{code}\n"
        "print('\\x02' + json.dumps(told), flush=True)\nos._exit(0)"
    )
    quiet = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", text, *sys.path], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=seconds, env=quiet, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"no answer within {seconds} s"
    told = done.stdout.rpartition("\x02")[2]
    if done.returncode == 0 and told:
        return json.loads(told), ""
    said = done.stderr.strip().splitlines() or [f"ended with exit code {done.returncode}"]
    return None, said[-1]


_TORCH = """
import inspect, torch
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.families.base import model_class
from redundancy_eval.model_wrappers.masking import loading
for family in registry.FAMILIES.values():
    model_class(family)
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
dtype = loading.choose_dtype("auto", torch.device("cuda" if count else "cpu"))
told = {"version": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads(), "devices": [],
        "dtype": str(dtype).removeprefix("torch."),
        "attention": inspect.signature(loading.native_model).parameters["attn_implementation"].default}
for number in range(count):
    device = {"name": f"GPU {number}", "failed": ""}
    told["devices"].append(device)
    try:
        device["name"] = torch.cuda.get_device_name(number)
        free, total = torch.cuda.mem_get_info(number)
        device.update(free=free / 2**30, total=total / 2**30, capability=torch.cuda.get_device_capability(number)[0])
        ones = torch.ones(64, 64, device=torch.device("cuda", number), dtype=dtype)
        device["failed"] = "" if float((ones @ ones)[0, 0]) == 64 else "64 ones do not add up to 64"
    except Exception as error:
        device["failed"] = (str(error).strip().splitlines() or [type(error).__name__])[0]
"""


def _torch() -> Iterator[Line]:
    if not _installed("models"):
        return
    told, failed = _probe(_TORCH)
    if failed:
        yield Line("torch", WRONG, f"{failed}; {environment.why('models')}")
        return
    yield Line("torch", OK, f"{told['version']}, CUDA {told['cuda'] or 'not built in'}, {told['threads']} CPU threads")
    for device in told["devices"]:
        if device["failed"]:
            yield Line("device", WRONG, f"{device['name']} does not compute: {device['failed']}; compare nvidia-smi")
            continue
        text = f"{device['name']}, {device['free']:.1f} of {device['total']:.1f} GiB free"
        slow = told["dtype"] == "bfloat16" and device["capability"] < 8  # NVIDIA's before Ampere
        yield Line("device", NOTE if slow else OK, text + "; no bfloat16 of its own: use dtype=float16" * slow)
    if not told["devices"]:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        driver = ", though a driver is here: is this torch built for its CUDA? (nvidia-smi)" * bool(
            shutil.which("nvidia-smi")
        )
        yield Line("device", NOTE, f"no GPU that torch sees{driver}; {memory:.1f} GiB of main memory")
    flash = environment.version("flash-attn")
    chosen = f"dtype=auto is {told['dtype']}, attn_implementation is {told['attention']}"
    yield Line("auto", OK, f"{chosen}; flash-attn {flash or 'is not installed'}")


_LMMS_EVAL = """
from lmms_eval import __main__, models
from redundancy_eval.model_wrappers.hosts.lmms_eval import plugin
known = models.list_available_models()
told = [[name, name in known] for name in plugin.class_paths()]
for name, seen in told:
    if seen:
        models.get_model(name)
"""


def _lmms_eval() -> Iterator[Line]:
    if _installed("lmms-eval"):
        yield _framework("lmms-eval", "lmms-eval", *_probe(_LMMS_EVAL))


# VLMEvalKit has no entry points: our launcher puts a model into its table for each run.
_VLMEVALKIT = """
from redundancy_eval.model_wrappers.hosts.vlmevalkit import launch
from redundancy_eval.model_wrappers.families import registry
framework = launch.load_framework()
from redundancy_eval.model_wrappers.hosts.vlmevalkit import hooked, model
told = []
for name in registry.MODELS:
    with launch.registered(name, lambda: "ours"):
        told.append([name, name in framework.supported_VLM and framework.supported_VLM[name]() == "ours"])
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


_HUB = """
from huggingface_hub import constants, get_session
told = get_session().head(constants.ENDPOINT, timeout=5).status_code
"""


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
    told, failed = _probe(_HUB, _HUB_SECONDS)  # in a process: a name that is looked up knows no time limit
    if failed or told >= 500:
        reason = failed or f"it answers {told}"
        yield Line("hub", NOTE, f"not reachable ({reason}): only what is cached, or lies in folders, can be used")
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
        told = os.environ.get("LMUData")  # noqa: SIM112
        if told and not Path(told).is_dir():
            yield Line("LMUData", WRONG, f"LMUData={told} is no folder: mkdir -p {told}")
        else:
            caches["LMUData"] = Path(told or Path.home() / "LMUData")
    for name, folder in caches.items():
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free / 2**30
        usable = there.is_dir() and os.access(there, os.W_OK)
        state = "" if folder.exists() else ", not there yet"
        state += "" if usable else ", cannot be written to"
        yield Line(name, OK if usable else NOTE, f"{folder}{state}, {free:.0f} GiB free")


# By the names that `datasets` gives to what it has made ready: only that is found offline.
_DATA = """
from pathlib import Path
import datasets
from datasets.naming import camelcase_to_snakecase
told = []
for name, (path, configs) in SOURCES.items():
    owner, _, title = path.partition("/")
    folder = Path(datasets.config.HF_DATASETS_CACHE) / f"{owner}___{camelcase_to_snakecase(title)}"
    if all(any(folder.glob(f"{config}/*/*/dataset_info.json")) for config in configs):
        told.append(name)
"""


def _data() -> Iterator[Line]:
    if environment.version("datasets") is None:
        return
    wanted = _sources()
    here, failed = _probe(f"SOURCES = {wanted!r}\n{_DATA}")
    if failed:
        yield Line("data", WRONG, f"{failed}; {environment.why('lmms-eval')}")
        return
    missing = [name for name in wanted if name not in here]
    text = f"{len(here)} of {len(wanted)} data sets of redundancy_paper are cached"
    yield Line("data", NOTE if missing else OK, text + (f"; not {', '.join(missing)}" if here and missing else ""))


def _sources() -> dict[str, tuple[str, list[str]]]:
    """Benchmark of the group redundancy_paper -> its data set, and the configurations that it reads (`*`: any)."""
    from redundancy_eval import tasks

    found = {}
    for path in sorted((Path(str(tasks.__file__)).parent / "paper").glob("redundancy_*.yaml")):
        keys = dict(re.findall(r"^(dataset_path|dataset_name): *\"?([^\s\"]+)", path.read_text("utf-8"), re.MULTILINE))
        if "dataset_path" in keys:
            configs = [keys.get("dataset_name", "*")]
            if path.stem == "redundancy_gqa":
                configs.append("testdev_balanced_images")  # where tasks/paper/utils.py looks its images up
            found[path.stem.removeprefix("redundancy_")] = keys["dataset_path"], configs
    return found


def _commands(found: Sequence[Line]) -> Iterator[Line]:
    """Which commands can be relied on, after all that was found."""
    wrong = {line.topic for line in found if line.status == WRONG}
    fails = {
        "": set(), "models": {"torch", "device"}, "lmms-eval": {"torch", "device", "lmms-eval"},
        "vlmevalkit": {"torch", "device", "VLMEvalKit", "LMUData"},
    }  # fmt: skip
    for extra in ("", *_FOR):
        names = _FOR[extra][0] if extra else "report, verify, models, tasks"
        if extra and not _installed(extra):
            yield Line("commands", NOTE, f"{names}: pip install '{environment.NAME}[{extra}]'")
        elif wrong & {"core", "places", *fails[extra]} or _unfit(extra):
            yield Line("commands", NOTE, f"{names}: see above")
        else:
            yield Line("commands", OK, f"{names}: ready")
