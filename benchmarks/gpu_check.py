"""What the sweep does on a GPU: in one command, within minutes, on random weights, so that nothing is downloaded.

    python benchmarks/gpu_check.py                   an Eagle-X5-7B in bfloat16, within 8 minutes on an H100 or H200
    python benchmarks/gpu_check.py --tiny            the same parts on a CPU with the demo's sizes, in a minute
    python benchmarks/gpu_check.py --table FILE ...  results that were written, as a table for docs/performance.md

Parts come in order of worth, each by itself: one that fails is noted and the next begins, one for which no time is left
is noted too, and the JSON is written anew after each. Neither framework is needed. Where nothing can be fetched,
benchmarks/gpu_wheels.sh gathers beforehand what such a machine lacks.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import subjects
import torch

from redundancy_eval import files, masks
from redundancy_eval.model_wrappers.costs import operations
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from redundancy_eval.model_wrappers.sweeps import engines, sweep
from redundancy_eval.model_wrappers.sweeps.masks import ALONE, FULL
from redundancy_eval.model_wrappers.sweeps.question import Question
from redundancy_eval.model_wrappers.sweeps.settings import AUTO
from redundancy_eval.store import Store

SCHEMA = 1
RESULTS = Path(__file__).with_name("results")
NEW = 8  # tokens of an answer
ANSWER = {"min_new_tokens": NEW}
WORDS = (6, 40)  # of a question: batches are padded, as with real questions, so attention gets a mask


@dataclass
class Check:
    """What all parts share: sizes, the time that is left, the loaded model, what earlier parts found."""

    tiny: bool
    device: torch.device
    dtype: torch.dtype
    subject: str
    documents: int
    ends: float
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    _model: MaskedModel | None = None

    @property
    def full(self) -> MaskedModel:
        """The full model, made when it is first asked for."""
        if self._model is None:
            module = subjects.random(self.subject, self.device, self.dtype)
            self._model = MaskedModel(
                module,
                subjects.tokenizer(module.language_model.config.vocab_size),
                template=templates.TEMPLATES["vicuna_v1"],
            )
        return self._model

    def forget(self) -> None:
        """Free the model for another."""
        self._model = None
        free(self.device)

    @property
    def labels(self) -> list[str]:
        """All masks."""
        names = self.full.encoder_names
        return [masks.label(mask, names) for mask in masks.every(names)]

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def questions(self, count: int, start: int = 0) -> list[Question]:
        """Documents, each with an image of its own."""
        words = self.full.model.language_model.config.vocab_size
        asked = subjects.documents(count + start, 1, words, WORDS)[start:]
        return [
            Question("t", "", str(number), text, NEW, ANSWER, lambda image=image: [image])
            for number, (text, image) in enumerate(asked, start)
        ]


def free(device: torch.device) -> None:
    """Give back what nobody holds, and count peaks anew."""
    import gc

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(device: torch.device) -> float | None:
    """Most GiB of the GPU that were reserved since the last `free`."""
    return round(torch.cuda.max_memory_reserved() / 2**30, 2) if device.type == "cuda" else None


def seconds(function: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """What a call gives, and the seconds until the device was done with it."""
    synchronize(device)
    started = time.perf_counter()
    made = function()
    synchronize(device)
    return made, time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Operations a second of a large matrix product: the median of twenty, after three to warm up."""
    square = torch.randn(side, side, device=device).to(dtype)
    times = [seconds(lambda: torch.mm(square, square), device)[1] for _ in range(23)][3:]
    return float(2 * side**3 / statistics.median(times))


def bandwidth(device: torch.device, size: int) -> float:
    """Bytes a second that are read and written by a copy within the device's memory: the median of ten."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = [seconds(lambda: target.copy_(source), device)[1] for _ in range(12)][2:]
    return float(2 * size / statistics.median(times))


def swept(
    check: Check,
    labels: Sequence[str],
    questions: Sequence[Question],
    batch: int | str = AUTO,
    model: MaskedModel | None = None,
) -> tuple[dict[str, str], dict[str, Any]]:
    """A sweep into a store of its own: answers by mask and document, and what it took."""
    free(check.device)
    full = model or check.full
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store", {"check": check.subject}) as kept:
        one = sweep.Sweep(lambda: full, labels, kept, batch)
        _, spent = seconds(lambda: one.fill(questions, show=False), check.device)
        answers = {f"{key.mask}|{key.document}": stored.text for key, stored in kept.items()}
    given = {key: text for key, text in answers.items() if not key.startswith(ALONE)}
    told = {
        "seconds": round(spent, 3),
        "answers": len(given),
        "batch_size": one.batch_size,
        "peak_gib": peak(check.device),
    }
    return answers, told


def noise(answers: Mapping[str, str]) -> tuple[int, int]:
    """How many second answers of the full model differ from the first, and of how many."""
    alone = {key: text for key, text in answers.items() if key.startswith(ALONE)}
    return sum(text != answers[key.replace(ALONE, FULL)] for key, text in alone.items()), len(alone)


def equal(answers: Mapping[str, str], others: Mapping[str, str]) -> dict[str, int]:
    """How many answers under masks are the same in both."""
    keys = [key for key in answers if not key.startswith(ALONE)]
    return {"equal": sum(answers[key] == others[key] for key in keys), "answers": len(keys)}


# --- the parts -------------------------------------------------------------------------------------------------------


def works(check: Check) -> Iterator[dict[str, Any]]:
    """Rates of the device; the bundled model answers as on a CPU under every mask; skipping is running and zeroing."""
    yield {"matrix_tflops": round(rate(check.device, check.dtype, 512 if check.tiny else 8192) / 1e12, 4)}
    yield {"clocks_then": nvidia_smi("clocks.sm,clocks.mem,power.draw")} if check.device.type == "cuda" else {}
    yield {"copy_gb_per_s": round(bandwidth(check.device, 2**24 if check.tiny else 2**32) / 1e9, 1)}
    here = loading.load("eagle_masked", "demo", device=check.device, dtype="float32")
    there = loading.load("eagle_masked", "demo", device="cpu", dtype="float32")
    asked = subjects.documents(2 if check.tiny else 8, 1, words=WORDS)
    prompts = [Prompt(text, (image,)) for text, image in asked]
    mine: dict[str, str] = {}
    other: dict[str, str] = {}
    for mask in masks.every(here.encoder_names):
        label = masks.label(mask, here.encoder_names)
        for view, told in ((here.under(mask), mine), (there.under(mask), other)):
            told |= {f"{label}|{n}": answer.text for n, answer in enumerate(view.generate(prompts, NEW))}
    same = equal(mine, other)
    yield {"demo_answers_equal_to_cpu": same["equal"], "demo_answers": same["answers"]}
    labels = [masks.label(mask, here.encoder_names) for mask in masks.every(here.encoder_names)]
    questions = [
        Question("t", "", str(n), text, NEW, {}, lambda image=image: [image]) for n, (text, image) in enumerate(asked)
    ]
    yield {"demo_sweep_equal_to_one_by_one": equal(mine, swept(check, labels, questions, model=here)[0])["equal"]}
    half = loading.load("eagle_masked", "demo", device=check.device, dtype=str(check.dtype).removeprefix("torch."))
    answers, _ = swept(check, labels, questions, model=half)
    yield {"demo_half_equal_to_float32": equal(mine, answers)["equal"], "demo_half_noise_floor": noise(answers)[0]}
    images = [prompt.images[0] for prompt in prompts]
    worst = 0.0
    for name in here.encoder_names:
        skipped = here.under((name,)).visuals(images)
        features = here.features(images)
        features[name] = torch.zeros_like(features[name])
        zeroed = here.model.fuse(here.model.project(features), here.model.layouts(images))
        for a, b in zip(skipped, zeroed, strict=True):
            worst = max(worst, float((a.embeddings - b.embeddings).abs().max()))
    yield {"largest_difference_of_skipping_and_zeroing": worst}


def all_masks(check: Check) -> Iterator[dict[str, Any]]:
    """A sweep of all masks: time, growth of `auto`, peak memory, and the noise floor in half precision."""
    grown: list[int] = []
    keep = sweep.Sweep._fitting

    def noted(self: sweep.Sweep, jobs: Any) -> Any:
        replies = keep(self, jobs)
        grown.append(self.batch_size)
        return replies

    with mock.patch.object(sweep.Sweep, "_fitting", noted), mock.patch.object(sweep, "FIRST_GUESS", 2):
        _, warm = swept(check, check.labels, check.questions(1))
    yield {"auto_from_2": sorted(set(grown))}
    grown.clear()
    fits = int(check.left * 0.3 / max(warm["seconds"], 1e-3))
    count = max(1, min(check.documents, fits))
    with mock.patch.object(sweep.Sweep, "_fitting", noted):
        answers, told = swept(check, check.labels, check.questions(count, 1))
    yield {"warm_up_seconds": warm["seconds"], "masks": len(check.labels), "documents": count, **told}
    yield {"batch_sizes": sorted(set(grown)), "answers_per_s": round(told["answers"] / told["seconds"], 2)}
    differ, alone = noise(answers)
    yield {"noise_floor_differ": differ, "noise_floor_of": alone, "_answers": answers}


def one_by_one(check: Check, size: int) -> Iterator[dict[str, Any]]:
    """The naive loop: the model loaded once, each mask by itself; as much of it as fits the time."""
    done = check.found.get("all_masks", {})
    count, known = done.get("documents", check.documents), done.get("_answers", {})
    asked = check.questions(count, 1)
    views = {label: check.full.under(masks.dropped(check.full.encoder_names, label)) for label in check.labels}
    prompts = [question.prompt() for question in asked]
    views[FULL].generate(prompts[:size], NEW, **ANSWER)
    free(check.device)
    spent, given, equal, limit = 0.0, 0, 0, check.left * 0.25
    batches = [(start, label) for start in range(0, len(prompts), size) for label in views]
    random.Random(0).shuffle(batches)  # so that those for which there is time stand for all
    for start, label in batches:
        if spent < limit:
            view, batch = views[label], prompts[start : start + size]
            answers, took = seconds(lambda view=view, batch=batch: view.generate(batch, NEW, **ANSWER), check.device)
            spent, given = spent + took, given + len(answers)
            for question, answer in zip(asked[start : start + size], answers, strict=True):
                equal += known.get(f"{label}|{question.document}") == answer.text
    whole = spent / given * len(prompts) * len(views)
    yield {
        "batch_size": size,
        "measured": given,
        "total": len(prompts) * len(views),
        "measured_seconds": round(spent, 3),
    }
    yield {
        "seconds": round(whole, 3),
        "extrapolated": given < len(prompts) * len(views),
        "peak_gib": peak(check.device),
    }
    if known:
        yield {"sweep_is_faster": round(whole / done["seconds"], 2), "answers_equal_to_sweep": equal}


def naive_single(check: Check) -> Iterator[dict[str, Any]]:
    """The naive loop at batch size 1, the frameworks' default."""
    yield from one_by_one(check, 1)


def naive_best(check: Check) -> Iterator[dict[str, Any]]:
    """The naive loop at the batch size at which the full model alone answers fastest."""
    prompts = [question.prompt() for question in check.questions(check.documents, 1)]
    sizes, rates = [2, 4] if check.tiny else [4, 8, 16], {}
    for size in sizes:
        with suppress(torch.OutOfMemoryError):
            check.full.generate(prompts[:size], NEW, **ANSWER)
            batch = prompts[:size]
            _, took = seconds(lambda batch=batch: check.full.generate(batch, NEW, **ANSWER), check.device)
            rates[size] = len(batch) / took
    yield {"answers_per_s_of_the_full_model": {str(size): round(value, 2) for size, value in rates.items()}}
    yield from one_by_one(check, max(rates, key=lambda size: rates[size]))


def bound(check: Check) -> Iterator[dict[str, Any]]:
    """What cannot be avoided: encoders once, every mask's prefill at the matrix rate, decoding at memory's speed."""
    done, basis = check.found["all_masks"], check.found["works"]
    sizes = operations.of(subjects.skeleton(check.subject), "eagle_masked", subjects.config(check.subject))
    flops, bytes_ = basis["matrix_tflops"] * 1e12, basis["copy_gb_per_s"] * 1e9
    asked = [question.prompt() for question in check.questions(done["documents"], 1)]
    lengths = [len(check.full.prompt_ids(prompt)) - 1 + sizes.visual_tokens for prompt in asked]
    length = statistics.mean(lengths)
    encoders = sum(each or 0 for each in sizes.encoders.values()) * done["documents"] / flops
    prefill = (statistics.mean(map(sizes.language.prefill, lengths)) + sizes.fusion) * done["answers"] / flops
    weights = sum(p.numel() * p.element_size() for p in check.full.model.language_model.parameters())
    cache = sizes.language.cache(check.dtype.itemsize) * length
    batches = -(-done["answers"] // max(done["batch_size"], 1))
    decoding = (NEW - 1) * (batches * weights + done["answers"] * cache) / bytes_
    parts = {"encoders": encoders, "prefill": prefill, "decoding": decoding}
    yield {"seconds": round(sum(parts.values()), 3), "of_which": {k: round(v, 3) for k, v in parts.items()}}
    yield {"prompt_tokens": round(length, 1), "sweep_over_bound": round(done["seconds"] / sum(parts.values()), 2)}


def profile(check: Check) -> Iterator[dict[str, Any]]:
    """Where a sweep's time goes; each part waits for the device, so the sum is more than the time without."""
    model, spent = (
        check.full.model,
        dict.fromkeys(("host", "encoders", "fusion", "prefill", "decoding", "writing"), 0.0),
    )
    depth = 0

    def timed(owner: Any, name: str, part: Callable[..., str]) -> Any:
        original = getattr(owner, name)

        @wraps(original)  # generate() asks the signature whether to give positions and to leave out logits
        def measured(*args: Any, **settings: Any) -> Any:
            nonlocal depth
            if depth:  # within another part
                return original(*args, **settings)
            depth += 1
            try:
                made, took = seconds(lambda: original(*args, **settings), check.device)
            finally:
                depth -= 1
            spent[part(*args, **settings)] += took
            return made

        return mock.patch.object(owner, name, measured)

    def pass_of(*_: Any, inputs_embeds: Any = None, input_ids: Any = None, **__: Any) -> str:
        given = inputs_embeds if inputs_embeds is not None else input_ids
        return "prefill" if given.shape[1] > 1 else "decoding"

    with ExitStack() as stack:
        for owner, name, part in (
            (engines.Native, "ask", "host"), (model, "preprocess", "host"), (model, "encode", "encoders"),
            (model, "project", "fusion"), (model, "fuse", "fusion"), (MaskedModel, "embed", "fusion"),
            (Store, "flush", "writing"),
        ):  # fmt: skip
            stack.enter_context(timed(owner, name, lambda *_, part=part, **__: part))
        stack.enter_context(timed(model.language_model, "forward", pass_of))
        answers, told = swept(check, check.labels, check.questions(max(2, check.documents // 4), 1))
    known = check.found.get("all_masks", {}).get("_answers", {})
    yield equal(answers, known) if set(answers) <= set(known) else {}  # measuring changes nothing
    rest = told["seconds"] - sum(spent.values())
    yield {
        "seconds": told["seconds"],
        "parts": {name: round(took, 3) for name, took in spent.items()} | {"rest": round(rest, 3)},
    }


def leave_one_out(check: Check) -> Iterator[dict[str, Any]]:
    """A sweep of the full model, each encoder dropped, and all dropped."""
    labels = [masks.label(mask, check.full.encoder_names) for mask in masks.leave_one_out(check.full.encoder_names)]
    _, told = swept(check, labels, check.questions(check.documents, 1))
    yield {"masks": len(labels), "documents": check.documents, **told}


def memory_runs_out(check: Check) -> Iterator[dict[str, Any]]:
    """Batches that do not fit: the sweep goes on with smaller ones, and answers as before."""
    questions = check.questions(2, 1)
    labels = check.labels[:8]
    with ExitStack() as stack:
        if check.device.type == "cuda":
            free(check.device)
            room, _ = torch.cuda.mem_get_info()
            ballast = torch.empty(max(0, room - 6 * 2**30), dtype=torch.uint8, device=check.device)
            stack.callback(lambda: ballast.set_())
        else:
            stack.enter_context(mock.patch.object(engines.Native, "answer", _small_only(engines.Native.answer)))
        tight, told = swept(check, labels, questions, 16)
    wide, _ = swept(check, labels, questions, 16)
    stepped = told["batch_size"] < 16
    yield {
        "began_with": 16,
        "ended_with": told["batch_size"],
        "stepped_down": stepped,
        **equal(tight, wide),
    }
    if not stepped:
        raise RuntimeError("memory did not run out: nothing was shown")


def _small_only(answer: Callable[..., Any]) -> Callable[..., Any]:
    def limited(self: Any, batch: Sequence[Any], *args: Any, **settings: Any) -> Any:
        if len(batch) > 4:
            raise torch.OutOfMemoryError("simulated")
        return answer(self, batch, *args, **settings)

    return limited


def attention(check: Check) -> Iterator[dict[str, Any]]:
    """Shared prefixes with each attention that is there: the same answers, and what they save."""
    questions = [
        Question("t", "", str(n), f"{q.text} w{n + 3}", NEW, ANSWER, check.questions(1)[0].images)
        for n, q in enumerate(check.questions(4))
    ]
    language, before = check.full.model.language_model, check.full.model.language_model.config._attn_implementation
    labels = check.labels[:4]
    flash, cudnn = importlib.util.find_spec("flash_attn") is not None, torch.backends.cuda.cudnn_sdp_enabled()
    try:
        for kind in ("sdpa", "sdpa without cuDNN", *(["flash_attention_2"] * flash)):
            language.set_attn_implementation(kind.split()[0])
            torch.backends.cuda.enable_cudnn_sdp(cudnn and kind == "sdpa")
            swept(check, labels, questions, 16)  # to warm up
            shared, with_ = swept(check, labels, questions, 16)
            with mock.patch.object(engines, "prefixes", lambda *_: []):
                apart, without = swept(check, labels, questions, 16)
            seconds_ = {"shared_seconds": with_["seconds"], "apart_seconds": without["seconds"]}
            yield {kind: {**seconds_, **equal(shared, apart), **padding(check, questions)}}
    finally:
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        language.set_attn_implementation(before)
    yield {"flash_attn": "installed" if flash else "not installed: flash_attention_2 was not tried"}


def padding(check: Check, questions: Sequence[Question]) -> dict[str, Any]:
    """The largest difference that padding makes to the log-probability of an answer of one token, in nats.

    Random weights put many tokens close to the best, so that answers differ where this hardly does. NaN is an error.
    """
    prompts = [question.prompt() for question in questions]
    together = check.full.loglikelihood(prompts, ["w5"] * len(prompts))
    alone = [check.full.loglikelihood([prompt], ["w5"])[0] for prompt in prompts]
    apart = [abs(a - b) for (a, _), (b, _) in zip(together, alone, strict=True)]
    if not all(map(math.isfinite, apart)):
        raise RuntimeError("a log-probability is not finite")
    return {"padding_changes_nats_by": round(max(apart), 5), "nats": round(alone[0][0], 3)}


def family(check: Check, name: str) -> Iterator[dict[str, Any]]:
    """Another family of random weights in full size: it runs under a mask, in so much time and memory."""
    check.forget()
    full = subjects.other(name, check.tiny, check.device, check.dtype)
    words = subjects.documents(2, 1, full.model.language_model.config.vocab_size)
    prompts = [Prompt(text, (image,)) for text, image in words]
    took = {}
    for label in ("none", full.encoder_names[0], "all"):
        view = full.under(masks.dropped(full.encoder_names, label))
        view.generate(prompts, NEW, **ANSWER)
        answers, took[label] = seconds(lambda view=view: view.generate(prompts, NEW, **ANSWER), check.device)
        if not all(answer.new_tokens == NEW for answer in answers):
            raise RuntimeError(f"drop={label}: an answer ended early")
    parameters = sum(parameter.numel() for parameter in full.model.parameters())
    yield {"parameters": parameters, "seconds_of_two_answers": {k: round(v, 3) for k, v in took.items()}}
    yield {"peak_gib": peak(check.device)}


def cambrian(check: Check) -> Iterator[dict[str, Any]]:
    """Cambrian-8B."""
    yield from family(check, "cambrian")


def deepseek_vl(check: Check) -> Iterator[dict[str, Any]]:
    """DeepSeek-VL-7B."""
    yield from family(check, "deepseek_vl")


PARTS: tuple[Callable[[Check], Iterator[dict[str, Any]]], ...] = (
    works, all_masks, naive_single, bound, profile, naive_best, leave_one_out, memory_runs_out, attention, cambrian,
    deepseek_vl,
)  # fmt: skip
_SHARE = 0.45  # of the time that is left, for one part


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


def nvidia_smi(fields: str) -> str:
    """What nvidia-smi tells of the GPUs; "" where it is not there."""
    query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    return ""


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


def run(check: Check, parts: Sequence[Callable[[Check], Iterator[dict[str, Any]]]], out: Path) -> dict[str, Any]:
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
        name, began = part.__name__, time.monotonic()
        found: dict[str, Any] = {}
        try:
            if check.left < 5:
                raise _Late("no time was left")
            with within(max(5.0, check.left * _SHARE)):
                for more in part(check):
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


def main() -> int:
    """Run the check; exit code 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="the demo's sizes, on a CPU")
    parser.add_argument("--seconds", type=float, default=480, help="for all parts (default 480)")
    parser.add_argument("--documents", type=int, help="of a sweep (default 16)")
    parser.add_argument("--parts", default="", help="only these, by name: a,b")
    parser.add_argument("--out", type=Path, help="file for the JSON (default results/DEVICE-DATE.json)")
    parser.add_argument("--table", type=Path, nargs="+", metavar="FILE", help="print results that were written")
    args = parser.parse_args()
    if args.table:
        print(table(args.table))
        return 0
    if not args.tiny and not torch.cuda.is_available():
        parser.error("torch sees no GPU; --tiny runs the same parts on a CPU")
    names = {part.__name__: part for part in PARTS}
    chosen = [name for name in args.parts.split(",") if name] or list(names)
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"no part {unknown[0]}; there are {', '.join(names)}")
    device = torch.device("cpu" if args.tiny else "cuda")
    if args.tiny:
        torch.set_num_threads(1)  # small matrices; more threads spin
    subject, documents = ("demo", 4) if args.tiny else ("full", 16)
    ends = time.monotonic() + args.seconds
    check = Check(args.tiny, device, torch.bfloat16, subject, args.documents or documents, ends)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", machine(check)["device"]).strip("-").lower()
    names_ = (f"{slug}-{datetime.date.today()}{more}.json" for more in ("", *(f"-{n}" for n in range(2, 1000))))
    out = args.out or next(RESULTS / name for name in names_ if not (RESULTS / name).exists())
    told = run(check, [names[name] for name in chosen], out)
    failed = [name for name, found in told["parts"].items() if "error" in found]
    print(
        f"{out}: {len(told['parts']) - len(failed)} of {len(told['parts'])} parts, {told['seconds']:.0f} s",
        file=sys.stderr,
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
