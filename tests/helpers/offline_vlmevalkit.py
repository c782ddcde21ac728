"""`redundancy-eval` with VLMEvalKit on made-up data sets, offline, and with accidents where a test wants them.

    python -m tests.helpers.offline_vlmevalkit --model eagle_masked ... as `redundancy-eval vlmevalkit --model ...`
    python -m tests.helpers.offline_vlmevalkit LANES.json              many, in processes that share one import of it

VLMEvalKit would fetch the real file where it knows another checksum, so it is made to forget the checksums. Accidents
are told by `inject`'s arguments, as JSON in the environment's OFFLINE_INJECT or in a job. LANES.json holds lists of
`Job`s; those of a list run one after the other, lists side by side.
"""

import itertools
import json
import os
import signal
import ssl
import sys
import time
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path

# Importing VLMEvalKit takes twelve seconds, so a job gets a process by fork; threads would not survive that.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass
class Job:
    """A process that runs command lines one after the other; exit codes go to NAME.codes, output to NAME.N.out, .err.

    A command line begins with `vlmevalkit`, `report`, ... (ours), `vlmeval` (VLMEvalKit's launcher as it is),
    `lmms-eval` (tests/helpers/vlmevalkit_by_lmms_eval.py) or `touch` (a file in folders that are told by a pattern).
    """

    name: str
    commands: list[list[str]]
    env: dict[str, str] = field(default_factory=dict)
    inject: dict = field(default_factory=dict)
    background: bool = False  # do not wait for its end before the lane's next job starts
    wait_for: str = ""  # a file that must be there first


def prepare():
    """Import VLMEvalKit as our launcher does, forget checksums, and add a model of its own that needs no GPU.

    Returns whether certificates are verified, before and after.
    """
    from redundancy_eval.model_wrappers.hosts.vlmevalkit import launch as vlmevalkit_launch

    verified = {"before": ssl._create_default_https_context is ssl.create_default_context}
    vlmevalkit_launch.load_framework()
    verified["after"] = ssl._create_default_https_context is ssl.create_default_context
    from vlmeval.config import supported_VLM
    from vlmeval.dataset import DATASET_CLASSES

    from redundancy_eval.model_wrappers.families.cambrian import model as cambrian  # noqa: F401
    from redundancy_eval.model_wrappers.families.eagle import model as eagle  # noqa: F401
    from redundancy_eval.model_wrappers.hosts.vlmevalkit import hooked as vlmevalkit_hooked  # noqa: F401 - once for all jobs

    for cls in DATASET_CLASSES:
        getattr(cls, "DATASET_MD5", {}).clear()
    supported_VLM["tiny_llava"] = tiny_llava
    return verified


def tiny_llava(pretrained=None, max_new_tokens=6):
    """A transformers LLaVA as VLMEvalKit's own wrappers have them, on a CPU; default: the environment's TINY_LLAVA."""
    import torch
    from PIL import Image
    from transformers import AutoProcessor, LlavaForConditionalGeneration
    from vlmeval.vlm.base import BaseModel

    class TinyLlava(BaseModel):
        INTERLEAVE = True

        def __init__(self, folder):
            super().__init__()
            self.model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
            self.processor = AutoProcessor.from_pretrained(folder)
            self.idle = torch.nn.Linear(2, 2)

        def generate_inner(self, message, dataset=None):
            content = [{"type": part["type"], part["type"]: part["value"]} for part in message]
            prompt = self.processor.apply_chat_template([{"role": "user", "content": content}])
            images = [Image.open(part["value"]).convert("RGB") for part in message if part["type"] == "image"]
            inputs = self.processor(text=prompt, images=images or None, return_tensors="pt")
            made = self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
            text = self.processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            return text.strip()

    return TinyLlava(pretrained or os.environ["TINY_LLAVA"])


def inject(record=None, crash_at=None, kill_at=None, rank=0, seconds=0, most=None, say=(), written=None):
    """Make the masked models note what reaches them, or fail.

    Args:
        record: a file that gets a JSON line for each question that was answered.
        crash_at: the question, counted from 1, at which an exception rises.
        kill_at: the question at which the process is killed.
        rank: of several processes, the one in which these happen.
        seconds: how long each batch takes at least.
        most: answer with so many tokens, whatever the limit that was asked for.
        say: answers that are given in turn instead.
        written: a file that gets the names of what the evaluation of multiple choice writes.
    """
    from redundancy_eval.model_wrappers.families import templates
    from redundancy_eval.model_wrappers.masking import native

    counter, rendered, replies = itertools.count(1), [], itertools.cycle(say)
    generate, tokenize = native.MaskedModel.generate, templates.tokenize

    def noted(tokenizer, prompt, template=None):
        rendered.append(prompt)
        return tokenize(tokenizer, prompt, template)

    def watched(self, batch, limit, **settings):
        import torch

        here = os.environ.get("RANK", "0")
        mine = here == str(rank)
        for number in [next(counter) for _ in batch]:
            if number == kill_at and mine:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == crash_at and mine:
                raise RuntimeError("no memory, as it were\nand more lines")
        time.sleep(seconds)
        told = {"limit": limit, "settings": settings, "seed": torch.initial_seed(), "batch": len(batch)}
        told |= {"mask": self.mask_label, "site": self.site, "dtype": str(self.dtype), "rank": here}
        rendered.clear()
        answers = generate(self, batch, most or limit, **settings)
        answers = [replace(answer, text=next(replies)) for answer in answers] if say else answers
        for prompt, text, answer in zip(batch, rendered, answers, strict=True):
            told |= {"name": prompt.name, "text": prompt.text, "rendered": text, "answer": answer.text}
            if record:
                with open(record, "a", encoding="utf-8") as file:
                    file.write(json.dumps(told) + "\n")
        return answers

    templates.tokenize, native.MaskedModel.generate = noted, watched
    if written:
        from vlmeval.dataset.utils import multiple_choice

        dump = multiple_choice.dump

        def listed(data, path, **settings):
            with open(written, "a", encoding="utf-8") as file:
                file.write(f"{path}\n")
            return dump(data, path, **settings)

        multiple_choice.dump = listed


def execute(command):
    """Run one command line in this process; returns its exit code."""
    kind, *arguments = command
    try:
        if kind == "lmms-eval":
            from tests.helpers import vlmevalkit_by_lmms_eval

            return vlmevalkit_by_lmms_eval.main(*arguments)
        if kind == "vlmeval":
            from vlmeval import run

            sys.argv = ["run.py", *arguments]
            return run.main() or 0
        if kind == "touch":
            pattern = Path(arguments[0])
            (folder,) = pattern.parent.parent.glob(pattern.parent.name)
            (folder / pattern.name).touch()
            return 0
        from redundancy_eval.cli import main

        return main(command)
    except SystemExit as stop:
        return stop.code or 0


def run_job(job, folder):
    os.environ.update(job.env)
    if job.inject:
        inject(**job.inject)
    for number, command in enumerate(job.commands):
        for descriptor, ending in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder / f"{job.name}.{number}.{ending}", os.O_WRONLY | os.O_CREAT), descriptor)
        started = time.monotonic()
        code = execute(command)
        sys.stdout.flush()
        sys.stderr.flush()
        with (folder / f"{job.name}.codes").open("a") as file:
            file.write(f"{code} {time.monotonic() - started:.1f}\n")


def forked(function, *arguments):
    """Run a function in a process of its own; returns its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        function(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def run_lane(jobs, folder):
    """Run jobs one after the other."""
    running = {}

    def end(pid):
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:  # it did not come to its end
            with (folder / f"{running[pid].name}.codes").open("a") as file:
                file.write(f"{status} 0\n")
        del running[pid]

    for job in jobs:
        while job.wait_for and not Path(job.wait_for).exists():
            time.sleep(0.1)
        pid = forked(run_job, job, folder)
        running[pid] = job
        if not job.background:
            end(pid)
    for pid in list(running):
        end(pid)


def run_lanes(path):
    """The lanes of a JSON file side by side."""
    lanes = [[Job(**job) for job in lane] for lane in json.loads(path.read_text(encoding="utf-8"))]
    for pid in [forked(run_lane, lane, path.parent) for lane in lanes]:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    prepared = prepare()
    if sys.argv[1].endswith(".json"):
        (Path(sys.argv[1]).parent / "prepared.json").write_text(json.dumps(prepared))
        run_lanes(Path(sys.argv[1]))
    else:
        inject(**json.loads(os.environ.get("OFFLINE_INJECT", "{}")))
        sys.exit(execute(["vlmevalkit", *sys.argv[1:]]))
