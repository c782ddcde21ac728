"""Parts one after another within the time: what is written, and what a part that fails or comes late costs."""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu.check import NEW, Check, free, nvidia_smi
from redundancy_eval import files

SCHEMA = 1
_SHARE = 0.45  # of the time that is left, for one part


@dataclass(frozen=True)
class Part:
    """A part of the check: yields what it finds; not begun where less than `least` seconds are left, which it gets."""

    measure: Callable[[Check], Iterator[dict[str, Any]]]
    least: float = 5.0

    @property
    def name(self) -> str:
        """What it is called."""
        return self.measure.__name__


class _Late(BaseException):
    """A part took more than its share; no library's `except Exception` keeps it."""


@contextmanager
def within(limit: float) -> Iterator[None]:
    """Raise _Late after so many seconds, and again where a destructor or a callback swallowed it."""

    def late(*_: Any) -> None:
        raise _Late(f"stopped after {limit:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, limit, 10)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def machine(check: Check) -> dict[str, Any]:
    """Device, driver and versions."""
    packages = ("torch", "transformers", "timm", "tokenizers", "redundancy-eval")
    told: dict[str, Any] = {"python": platform.python_version(), "cores": len(os.sched_getaffinity(0))}
    told |= {name: importlib.metadata.version(name) for name in packages}
    if check.device.type != "cuda":
        cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        return {"device": cpu[1] if cpu else "CPU", "threads": torch.get_num_threads(), **told}
    told["nvidia_smi"] = nvidia_smi("driver_version,clocks.max.sm,clocks.max.mem,power.limit")
    memory = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    return {"device": torch.cuda.get_device_name(), "gib": memory, "cuda": torch.version.cuda, **told}


def run(check: Check, parts: Sequence[Part], out: Path) -> dict[str, Any]:
    """Run parts within the time; writes and returns what they found."""
    started = time.monotonic()
    told: dict[str, Any] = {
        "schema": SCHEMA, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(check), "subject": check.subject, "dtype": str(check.dtype).removeprefix("torch."),
        "new_tokens": NEW, "parts": {},
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(out, told)  # a folder that cannot be written is known before time is spent
    for part in parts:
        name, began = part.name, time.monotonic()
        found: dict[str, Any] = {}
        try:
            if check.left < part.least:
                raise _Late(f"no time was left: {check.left:.0f} s of {part.least:.0f}")
            with within(max(part.least, check.left * _SHARE)):
                for more in part.measure(check):
                    found |= more
        except (Exception, _Late) as error:
            traceback.print_exc()
            found["error"] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        check.found[name] = found
        seen = {key: value for key, value in found.items() if not key.startswith("_")}
        told["parts"][name] = {**seen, "part_seconds": round(time.monotonic() - began, 2)}
        told["seconds"] = round(time.monotonic() - started, 1)
        files.write_json(out, told)
        print(f"{name}: {json.dumps(told['parts'][name])}", flush=True)
        with suppress(RuntimeError):  # after an error of CUDA itself every call fails
            free(check.device)
    return told


def table(paths: Sequence[Path]) -> str:
    """The main numbers of results that were written, a row for each."""
    rows = [
        "| device | sweep s | answers | naive, batch 1, s | naive, best batch, s | bound s | peak GiB | noise floor |"
    ]
    rows.append("|---" * 8 + "|")
    for path in paths:
        told = files.read_json(path)

        def cell(part: str, key: str, told: Mapping[str, Any] = told) -> str:
            value = told["parts"].get(part, {}).get(key)
            return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

        floor = f"{cell('all_masks', 'noise_floor_differ')} of {cell('all_masks', 'noise_floor_of')}"
        cells = [told["machine"]["device"], cell("all_masks", "seconds"), cell("all_masks", "answers")]
        cells += [cell(part, "seconds") for part in ("naive_single", "naive_best", "bound")]
        rows.append(f"| {' | '.join([*cells, cell('all_masks', 'peak_gib'), floor])} |")
    return "\n".join(rows)
