"""`redundancy-eval sweep` offline, noting what is asked and killing itself where a test wants it.

    python -m tests.helpers.offline_sweep sweep ...               as `redundancy-eval sweep ...`
    python -m tests.helpers.offline_sweep lmms-eval LANES.json    many commands, in processes that share one import of a
    python -m tests.helpers.offline_sweep vlmevalkit LANES.json   framework (see tests/helpers/offline_vlmevalkit.py)

What to note and where to be killed are told by `inject`'s arguments, as JSON in the environment's OFFLINE_INJECT or in
a job.
"""

import json
import os
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from tests.helpers import offline_vlmevalkit

forever = ExitStack()  # what is mended for the rest of this process


def prepare_lmms_eval():
    """Import lmms-eval as our launcher does, and read its task files: some 2,000."""
    from lmms_eval import __main__  # noqa: F401 - once for all jobs
    from lmms_eval.tasks import TaskManager

    from redundancy_eval.model_wrappers.families.eagle import model as eagle  # noqa: F401
    from redundancy_eval.model_wrappers.hosts.lmms_eval import launch as lmms_eval_launch
    from redundancy_eval.model_wrappers.hosts.lmms_eval import model as lmms_eval_model  # noqa: F401
    from redundancy_eval.model_wrappers.hosts.lmms_eval import task_index

    original = TaskManager.initialize_tasks
    forever.enter_context(task_index.read_once())
    TaskManager("ERROR", include_path=[str(lmms_eval_launch.task_folder())])
    TaskManager.read_again = original  # for jobs that want none of it


def inject(fresh=False, note=None, kill=None, at=1, rank=0, seconds=0):
    """Note what is asked of a sweep's model and what is stored, and be killed.

    Args:
        fresh: let lmms-eval read its task files itself.
        note: a file that gets a JSON line for each start, each batch of (mask, document), each flush and each load.
        kill: at the end of a `flush`, or in the midst of its `write`; in the midst of lmms-eval's writing of `samples`;
            where VLMEvalKit begins to `eval`; in the midst of writing the `record` of a mask's folder, its `manifest`,
            or what tells that all is `done`; in the midst of the removal (`clear`) of a stopped mask's files; when
            VLMEvalKit's folder is there and nothing in it but a `lock`; or after some `seconds`, wherever it is.
        at: the time at which it happens, counted from 1; or the seconds.
        rank: of several processes, the one that is killed.
        seconds: how long each batch takes at least.
    """
    from redundancy_eval import records, store
    from redundancy_eval.model_wrappers.masking import loading
    from redundancy_eval.model_wrappers.sweeps import engines, wrapped
    from redundancy_eval.model_wrappers.sweeps import folders as sweep_folders

    times = {}

    def die(what):
        if what == kill and os.environ.get("RANK", "0") == str(rank):
            times[what] = times.get(what, 0) + 1
            if times[what] == at:
                say(killed=time.time())
                os.kill(os.getpid(), signal.SIGKILL)

    def say(**told):
        if note:
            with open(note, "a", encoding="utf-8") as file:
                file.write(json.dumps({"rank": os.environ.get("RANK", "0"), **told}) + "\n")

    say(start=True)
    if kill == "seconds":
        signal.setitimer(signal.ITIMER_REAL, at)  # which kills where nobody handles it
    if fresh:
        from lmms_eval.tasks import TaskManager

        TaskManager.initialize_tasks = TaskManager.read_again

    load, flush, written = loading.load, store.Store.flush, os.write

    def noting(answer):
        def answering(self, batch, *rest, **settings):
            say(asked=[(label, asked.prompt.name) for asked, label in batch])
            time.sleep(seconds)
            return answer(self, batch, *rest, **settings)

        return answering

    def noted_load(model_id, **given):
        say(loaded=given.get("drop"))
        return load(model_id, **given)

    def flushing(self):
        some = len(self._pending)
        with mock.patch.object(os, "write", torn) if some else ExitStack():
            flush(self)
        if some:
            say(flushed=some)
            die("flush")

    def torn(file, data):
        if kill == "write" and times.get("write", 0) == at - 1:
            written(file, data[: len(data) // 2 + 9])  # within a line
        die("write")
        return written(file, data)

    def kept(self, key, stored):
        say(asked=[(key.mask, f"{key.task} document {key.document}")])
        keep(self, key, stored)

    keep, wrapped.Answers.keep = wrapped.Answers.keep, kept
    for engine in (engines.Native, engines.Looped):
        engine.answer = noting(engine.answer)
    loading.load, store.Store.flush = noted_load, flushing

    def half_written(path, text, *_, **settings):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text[: len(text) // 2])

    def writing(record, folder):
        die("lock")
        with mock.patch.object(Path, "write_text", half_written) if kill == "record" else ExitStack():
            write(record, folder)
            die("record")
        write(record, folder)

    write, records.write = records.write, writing

    def finishing(path, content):
        what = {sweep_folders.MANIFEST: "manifest", sweep_folders.DONE: "done"}.get(path.name)
        if what == kill:
            half_written(path.with_name(f".{path.name}"), json.dumps(content))
        die(what)
        finish(path, content)

    finish, sweep_folders.write_json = sweep_folders.write_json, finishing

    def unlinking(path, *rest, **settings):
        unlink(path, *rest, **settings)
        die("clear")

    def clearing(folder):
        with mock.patch.object(os, "unlink", unlinking):
            clear(folder)

    unlink, clear, sweep_folders.clear = os.unlink, sweep_folders.clear, clearing

    if kill == "samples":
        from lmms_eval.loggers.evaluation_tracker import EvaluationTracker

        save = EvaluationTracker.save_results_samples

        def saving(self, task_name, samples):
            save(self, task_name, samples[: len(samples) // 2])
            die("samples")
            save(self, task_name, samples[len(samples) // 2 :])

        EvaluationTracker.save_results_samples = saving
    if kill == "eval":
        from vlmeval import run

        upsert = run.upsert_dataset_status

        def telling(*arguments, status=None, **settings):
            upsert(*arguments, status=status, **settings)
            if status == "eval":
                die("eval")

        run.upsert_dataset_status = telling


def execute(command, original=offline_vlmevalkit.execute):
    """Run one command line in this process; `copy FILE FOLDER` is one too."""
    if command[0] == "copy":
        shutil.copy(*command[1:])
        return 0
    return original(command)


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    offline_vlmevalkit.inject, offline_vlmevalkit.execute = inject, execute
    if arguments and arguments[0].endswith(".json"):
        offline_vlmevalkit.prepare() if kind == "vlmevalkit" else prepare_lmms_eval()
        offline_vlmevalkit.run_lanes(Path(arguments[0]))
    else:
        if "vlmevalkit" in arguments:
            offline_vlmevalkit.prepare()
        inject(**json.loads(os.environ.get("OFFLINE_INJECT", "{}")))
        sys.exit(execute([kind, *arguments]))
