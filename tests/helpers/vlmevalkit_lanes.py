"""What is asked of the masked models in VLMEvalKit's own launcher: checkpoints, data sets, a judge, command lines."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from redundancy_eval.readers.vlmevalkit.files import table
from redundancy_eval.readers.vlmevalkit.judged import plain
from tests.helpers import tiny, tiny_cambrian, tiny_hf, vlmevalkit_data
from tests.helpers.outcomes import Outcomes

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "http://127.0.0.1:9/v1"
OFFLINE = {
    "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT),
    "OPENAI_API_KEY": "", "OPENAI_API_BASE": f"{NOWHERE}/chat/completions",
}  # fmt: skip
LIMIT = 6
EAGLE_MASKS = ("none", "clip", "convnext", "all")
CAMBRIAN_MASKS = ("none", "siglip", "clip", "dinov2", "convnext", "clip+dinov2", "all")
# A circular and a plain multiple choice, the latter with two images in a question, yes or no, and open questions.
DATA = ("MMBench_DEV_EN", "MMMU_DEV_VAL", "MME", "ChartQA_TEST", "OCRBench")
FEW = {"MMBench_DEV_EN": (1, 2, 3), "MME": range(1, 31), "ChartQA_TEST": range(1, 5), "OCRBench": (1, 4, 10)}
COMPARED = {"eagle_masked": EAGLE_MASKS, "cambrian_masked": ("none", "siglip", "clip+dinov2", "all")}
CHOICE = ("MMBench_DEV_EN", "ChartQA_TEST")
SECRET = "sk-nobody-may-read-this"


class Judge(http.server.BaseHTTPRequestHandler):
    """An OpenAI-compatible server that chooses A."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], asked["model"]))
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "A"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def made_world(root):
    """Checkpoints, data sets and a judge."""
    eagle = tiny.write(root / "eagle", "clip-448;convnext-1024", seed=2, tokenizer_model_max_length=1024)
    shutil.copytree(eagle, root / "short")
    config = json.loads((eagle / "config.json").read_text())
    (root / "short" / "config.json").write_text(json.dumps({**config, "tokenizer_model_max_length": 40}))
    length = dict(tokenizer_model_max_length=1024, max_position_embeddings=2048)
    cambrian, encoders = tiny_cambrian.write(root / "cambrian", **length)
    phi3, _ = tiny_cambrian.write(root / "phi3", "phi3", **length)
    tiny_hf.llava(root / "llava")
    for name in ("data", "few"):
        (root / name).mkdir()
    frames = vlmevalkit_data.write(root / "data", vlmevalkit_data.noise)
    for own, like in (("OwnChoice", "SEEDBench_IMG"), ("OwnOpen", "ChartQA_TEST")):
        shutil.copy(root / "data" / f"{like}.tsv", root / "data" / f"{own}.tsv")
    for name, numbers in FEW.items():
        rows = frames[name]["index"] % vlmevalkit_data.TURN
        frames[name][rows.isin(numbers)].to_csv(root / "few" / f"{name}.tsv", sep="\t", index=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(
        root=root,
        frames=frames,
        judge=server,
        arguments={
            "eagle_masked": {"pretrained": str(eagle)},
            "cambrian_masked": {"pretrained": str(cambrian), "encoder_weights": str(encoders)},
            "hf_masked": {"pretrained": str(root / "llava"), "encoders": "clip:model.vision_tower"},
            "masked": {
                "base": "tiny_llava",
                "encoders": "clip:model.model.vision_tower",
                "pretrained": str(root / "llava"),
            },
        },
        short={"pretrained": str(root / "short")},
        phi3={"pretrained": str(phi3), "encoder_weights": str(encoders)},
        url=f"http://127.0.0.1:{server.server_port}/v1",
    )
    server.shutdown()


class Lanes(Outcomes):
    """Command lines that are run, and what they left."""

    def __init__(self, world):
        super().__init__(world.root / "jobs")
        self.world = world

    def command(self, out, model="eagle_masked", drop="none", data=("ChartQA_TEST",), more=(), **arguments):
        """A command line of ours; arguments that are None are left out."""
        given = {**self.world.arguments[model], "max_new_tokens": LIMIT, "drop": drop, **arguments}
        text = ",".join(f"{key}={value}" for key, value in given.items() if value is not None)
        return ["vlmevalkit", "--model", model, "--model_args", text, "--data", *data,
                "--work-dir", str(self.world.root / out), *more]  # fmt: skip

    def by_lmms_eval(self, model, drops, data):
        """A command line that puts the same questions to the lmms-eval side."""
        asked = dict(
            model=model, arguments=self.world.arguments[model], drops=drops, data=data, max_new_tokens=LIMIT,
            batch_size=3, out=str(self.jobs / f"{model}.answers.json"),
        )  # fmt: skip
        path = self.jobs / f"{model}.asked.json"
        path.write_text(json.dumps(asked))
        return ["lmms-eval", str(path)]

    def job(self, name, *commands, record=False, few=False, env=(), **settings):
        injected = settings.pop("inject", {})
        if record:
            injected = {**injected, "record": str(self.jobs / f"{name}.record")}
        data = self.world.root / ("few" if few else "data")
        return dict(
            name=name, commands=commands, inject=injected, env={"LMUData": str(data), **dict(env)}, **settings
        )  # fmt: skip

    def run(self, *lanes):
        path = self.jobs / "lanes.json"
        path.write_text(json.dumps(lanes))
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "tests.helpers.offline_vlmevalkit", str(path)],
            cwd=self.world.root, env={**os.environ, **OFFLINE}, capture_output=True, text=True, timeout=800,
        )  # fmt: skip
        (self.jobs / "log").write_text(f"{done.stdout}\n{done.stderr}\n{time.monotonic() - started:.0f} s\n")
        assert done.returncode == 0, done.stderr[-3000:]

    def record(self, name):
        """What reached the masked models."""
        path = self.jobs / f"{name}.record"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def at(self, out, model="eagle_masked", drop="none"):
        """The one folder of a mask."""
        (folder,) = (self.world.root / out).glob(f"{model}_drop-{drop}_*")
        return folder

    def predictions(self, out, data, model="eagle_masked", drop="none"):
        """Index -> answer."""
        folder = self.at(out, model, drop)
        found = {row["index"]: plain(row["prediction"]) for row in table(folder / f"{folder.name}_{data}.xlsx")}
        assert found
        return found


def run_all(world):
    """Everything that shares one import of VLMEvalKit, in two lanes."""
    lanes = Lanes(world)
    command, job = lanes.command, lanes.job
    batch = ("--batch-size", "4")
    killed = command("killed", data=("ChartQA_TEST", "MME"), more=batch)
    slow, crashing = command("slow", data=("ChartQA_TEST",)), command("crash", data=("ChartQA_TEST", "MME"))
    judged = ("--judge", "my-judge", "--judge-base-url", world.url, f"--judge-key={SECRET}", "--judge-retry", "1")
    absent = ("--judge", "my-judge", "--judge-base-url", NOWHERE, "--judge-retry", "1")
    two = ("MathVista_MINI", "ChartQA_TEST")
    remote = {"OPENAI_API_BASE": f"{world.url}/chat/completions", "OPENAI_API_KEY": "sk-x"}
    published = dict(dtype="float32", max_new_tokens=None)
    settings = ({}, {}, {"more": batch}, {"max_new_tokens": 7}, {"more": ("--limit", "3")})
    settings += ({"attn_implementation": "eager"},)

    first = [
        job("eagle", *(command("eagle", drop=drop, data=DATA, more=batch) for drop in EAGLE_MASKS)),
        job("single", *(command("single", drop=drop, data=DATA) for drop in ("none", "clip")),
            inject={"written": str(lanes.jobs / "written")}),
        job("eagle lmms", lanes.by_lmms_eval("eagle_masked", EAGLE_MASKS, DATA)),
        job("crash", crashing, inject={"crash_at": 20}),
        job("crash report", ["report", str(world.root / "crash"), "--taxonomy", "paper"]),
        job("crash again", crashing, record=True),
        job("kill 1", killed, inject={"kill_at": 6 + 14}, record=True),
        job("kill 1 report", ["report", str(world.root / "killed"), "--taxonomy", "paper"]),
        job("kill 2", ["touch", str(world.root / "killed" / "eagle_masked_*" / "status.json.lock")], killed,
            inject={"kill_at": 14}),
        job("kill 3", killed, killed, record=True),
        job("slow", slow, inject={"seconds": 0.7}, record=True, background=True),
        job("meanwhile", slow, wait_for=str(lanes.jobs / "slow.record")),
        job("settings", *(command("settings", **changes) for changes in settings), record=True),
        job("judge", command("judge", data=("MMMU_DEV_VAL",), more=judged)),
        job("no judge", command("no judge", data=("MMMU_DEV_VAL",), more=absent), env={"OPENAI_API_KEY": SECRET}),
        job("odd replies", command("odd", data=("SEEDBench_IMG", "MME", "ChartQA_TEST", "OwnChoice")),
            inject={"say": ["None", "A", "7", "n/a", "Yes"]}),
        job("modes", *(command("modes", more=("--mode", mode)) for mode in ("eval", "infer", "eval"))),
        job("own", command("own", data=("OwnChoice", "OwnOpen")), record=True),
        job("own published", command("own published", data=("OwnChoice",), more=("--as-published",), **published),
            inject={"most": LIMIT}, record=True),
    ]  # fmt: skip
    second = [
        job("mathvista", command("mathvista", data=two), background=True, env=remote),
        job("cambrian", *(
            command("cambrian", "cambrian_masked", drop, FEW, batch) for drop in CAMBRIAN_MASKS
        ), few=True),
        job("cambrian single", command("cambrian single", "cambrian_masked", "dinov2", FEW), few=True),
        job("cambrian lmms", lanes.by_lmms_eval("cambrian_masked", COMPARED["cambrian_masked"], list(FEW)), few=True),
        job("cambrian mmmu", *(
            command("cambrian mmmu", "cambrian_masked", data=("MMMU_DEV_VAL",), more=batch, **settings)
            for settings in ({}, {"many_images": "first"})
        ), record=True),
        job("published", *(
            command("published", drop=drop, data=CHOICE, more=("--as-published",), **published)
            for drop in ("none", "clip")
        ), inject={"most": LIMIT}, record=True),
        job("published again", command(
            "published again", data=CHOICE[::-1], more=("--as-published", *batch), **published
        ), inject={"most": LIMIT}, record=True),
        job("published cambrian", *(
            command("published cambrian", "cambrian_masked", drop, CHOICE, ("--as-published",), **published)
            for drop in ("none", "clip")
        ), few=True, inject={"most": LIMIT}, record=True),
        job("hooked",
            command("hooked", "masked", data=("ChartQA_TEST", "MMMU_DEV_VAL"), max_new_tokens=None),
            command("hooked", "masked", "clip", data=("ChartQA_TEST", "MMMU_DEV_VAL"), max_new_tokens=None),
            ["vlmeval", "--model", "tiny_llava", "--data", "ChartQA_TEST", "MMMU_DEV_VAL",
             "--work-dir", str(world.root / "bare"), "--judge", "exact_matching"],
            command("idle", "masked", "clip", encoders="clip:idle", max_new_tokens=None),
            command("unknown", "masked", "clip", base="no_such_model", max_new_tokens=None),
            env={"TINY_LLAVA": str(world.root / "llava")}),
        job("hf", *(
            command("hf", "hf_masked", drop, ("ChartQA_TEST", "MMMU_DEV_VAL"), batch) for drop in ("none", "clip")
        )),
        job("hf lmms", lanes.by_lmms_eval("hf_masked", ("none", "clip"), ["ChartQA_TEST"])),
        job("wrong", *(command(*arguments, **settings) for arguments, settings, _, _ in wrong(world))),
        job("no data folder", slow, env={"LMUData": str(world.root / "nowhere")}),
        job("elsewhere", slow, env={"MMEVAL_ROOT": str(world.root)}),
    ]  # fmt: skip
    lanes.run(first, second)
    return lanes


def wrong(world):
    """Command lines that fail at once: arguments of `command`, the exit code, and what is said."""
    own = (
        "eagle_masked has no argument 'nonsense'; it takes pretrained, drop, keep, device, ablation,",
        "--as-published is known for eagle_masked, cambrian_masked; the authors' code for hf_masked was not found",
    )
    return [
        (("w",), {"data": ("MMBench_DEV_ENN",)}, 2, "VLMEvalKit has no data set 'MMBench_DEV_ENN'"),
        (("w",), {"data": ("Video-MME_8frame",)}, 2, "Video-MME_8frame is a video data set; the masked models take im"),
        (("w",), {"drop": "siglip"}, 2, "unknown encoder 'siglip'; this model has: clip, convnext"),
        (("w",), {"nonsense": "1"}, 2, own[0]),
        (("w", "hf_masked"), {"more": ("--as-published",)}, 2, own[1]),
        (("w", "cambrian_masked"), {**world.phi3, "more": ("--as-published",), "dtype": "float32"}, 2,
         "--as-published cannot give what was done for Cambrian-1 3B"),
        (("w",), world.short, 3, "tokens with its images; the model's limit is 40"),
        (("w",), {"max_new_tokens": "many"}, 2, "max_new_tokens must be a positive number; not 'many'"),
        (("w",), {"more": ("--batch-size", "0")}, 2, "--batch-size must be positive; not 0"),
        (("w",), {"more": ("--config=models.json",)}, 2, "with --config use VLMEvalKit itself"),
        (("w",), {"more": ("--lim", "3")}, 2, "write --lim in full"),
        (("w",), {"more": ("--mode", "nonsense")}, 2, "argument --mode: invalid choice: 'nonsense' (choose from "),
        (("w",), {"more": (f"--judge-k={SECRET}",)}, 2, "write --judge-k in full"),
    ]  # fmt: skip
