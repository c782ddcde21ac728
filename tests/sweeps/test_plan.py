"""The plan of a sweep: its numbers by hand and by torch's own counter, and that a sweep asks just that."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")
pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")

from PIL import Image
from safetensors import safe_open
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from redundancy_eval import cli
from redundancy_eval.model_wrappers.checkpoints import hub, identity, weights
from redundancy_eval.model_wrappers.costs import operations
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.families.eagle import model as eagle
from redundancy_eval.model_wrappers.hosts.lmms_eval import listen, task_index
from redundancy_eval.model_wrappers.masking import loading, native
from redundancy_eval.model_wrappers.sweeps import plan, plan_text
from redundancy_eval.model_wrappers.sweeps.planned import Plan, Task
from redundancy_eval.model_wrappers.sweeps.question import Heard
from redundancy_eval.model_wrappers.sweeps.subject import Subject
from redundancy_eval.store import HEADER, Store
from tests.helpers import tiny, tiny_models, vlmevalkit_data
from tests.helpers.runs import DEMO_TASKS
from tests.hosts.test_demo_benchmark import CATEGORIES, read

pytestmark = [pytest.mark.framework, pytest.mark.models]
ENCODERS = ("clip", "convnext", "pix2struct", "eva02")
LIMIT = 4
WAYS = ("sweep", "separate")


def arguments(out, pretrained="demo", tasks="redundancy_demo", more=(), **given):
    told = ",".join(f"{key}={value}" for key, value in {"pretrained": pretrained, "dtype": "float32", **given}.items())
    return ["--model", "eagle_masked", "--model_args", told, "--tasks", tasks, "--limit", str(LIMIT),
            "--device", "cpu", "--output_path", str(out), *map(str, more)]  # fmt: skip


def planned(capsys, *asked):
    """The numbers that a command prints."""
    assert cli.main(["plan", *asked, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module", autouse=True)
def tasks_indexed_once():
    with task_index.read_once():
        yield


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")


@pytest.fixture
def weightless(tmp_path):
    """The demo checkpoint as someone has it who has not fetched the weights."""
    folder = tmp_path / "weightless"
    folder.mkdir()
    for path in hub.locate("demo").glob("*.json"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def forbidden(monkeypatch):
    """Nothing may read weights or ask who the checkpoint is."""

    def fail(*_, **__):
        raise AssertionError("a plan reads no weights")

    monkeypatch.setattr(weights, "load", fail)
    monkeypatch.setattr(weights, "tensors", fail)
    monkeypatch.setattr(identity, "of", fail)
    monkeypatch.setattr(loading, "load", fail)


def test_the_demo_by_hand(capsys, tmp_path, weightless, forbidden):
    told = planned(capsys, *arguments(tmp_path / "out", weightless))
    assert told["encoders"] == list(ENCODERS)
    assert len(told["masks"]) == 16 and told["masks"][0] == "none" and told["masks"][-1] == "all"
    assert {task["name"]: task["questions"] for task in told["tasks"]} == dict.fromkeys(DEMO_TASKS, LIMIT)
    assert (told["documents"], told["questions"], told["images"]) == (20, 20, 20)
    assert told["distinct_images"] is None  # drawn by code: no column of images
    assert told["passes"]["sweep"] == dict.fromkeys(ENCODERS, 20)
    assert told["passes"]["separate"] == dict.fromkeys(ENCODERS, 8 * 20)
    texts = {document["prompt"] for category in CATEGORIES for document in read(category)[:LIMIT]}
    shared = 20 - len(texts)
    assert told["prefills"] == {
        "sweep": 16 * 20 - shared, "separate": 16 * 20, "blind_shared": shared, "images_shared": 0,
        "full_model_again": 0,
    }  # fmt: skip
    # 36 tokens of 96 + 128 + 96 + 96 channels; two layers of an MLP to 128.
    flops, memory = told["flops"], told["memory"]
    assert flops["visual_tokens"] == 36 and flops["fusion"] == 2 * 36 * (416 * 128 + 128 * 128)
    assert memory["outputs_an_image"] == 36 * 416 * 4
    assert memory["cache_a_token"] == 2 * 4 * 128 * 4  # keys and values of 4 layers of 4 heads of 32
    with safe_open(hub.locate("demo") / "model.safetensors", "pt") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    parameters = sum(int(np.prod(shape)) for key, shape in shapes.items() if "freqs" not in key)
    assert memory["parameters"] == parameters and memory["weights"] == 4 * parameters
    assert memory["weight_files"] is None and told["store"] is None
    for task in told["tasks"]:
        assert task["token_limits"] == {"16": LIMIT} and task["prompt_tokens"] == task["text_tokens"] + 36
    # Prompts of the length of each task's mean.
    language = SimpleNamespace(layers=4 * (4 * 128 * 128 + 3 * 128 * 384), head=512 * 128)
    lengths = [task["prompt_tokens"] for task in told["tasks"]]
    prefill = sum(2 * language.layers * n + 4 * 4 * 128 * n * n + 2 * language.head for n in lengths) * LIMIT
    assert flops["separate"]["prefill"] == pytest.approx(16 * prefill)
    assert flops["sweep"]["prefill"] == pytest.approx(prefill * (16 - shared / 20))
    assert flops["separate"]["encoders"] == pytest.approx(8 * flops["sweep"]["encoders"])
    assert flops["separate"]["fusion"] == flops["sweep"]["fusion"] == 16 * 20 * flops["fusion"]
    steps = {
        new: sum((new - 1) * 2 * (language.layers + language.head)
                 + 4 * 4 * 128 * sum(n + k for k in range(1, new)) for n in lengths) * LIMIT
        for new in (plan.EXPECTED, 16)
    }  # fmt: skip
    assert flops["separate"]["decode_expected"] == pytest.approx(16 * steps[plan.EXPECTED])
    assert flops["separate"]["decode_worst"] == pytest.approx(steps[plan.EXPECTED] + 15 * steps[16])
    for way in WAYS:
        parts = flops[way]["encoders"] + flops[way]["fusion"] + flops[way]["prefill"]
        assert flops[way]["worst"] == pytest.approx(parts + flops[way]["decode_worst"])


def test_the_numbers_as_json_are_what_they_were(capsys, tmp_path, monkeypatch):
    """Byte for byte, names and order: other people's scripts read them."""
    monkeypatch.chdir(tmp_path)
    asked = arguments("out", more=["--masks", "leave-one-out", "--feature_memory", "0.5"])
    assert cli.main(["plan", *asked, "--json"]) == 0
    assert capsys.readouterr().out == Path(__file__).with_name("plan_demo.json").read_text(encoding="utf-8")


def test_leave_one_out_in_half_precision(capsys, tmp_path, weightless):
    (weightless / "model.safetensors").write_bytes(b"not to be read")
    asked = arguments(
        tmp_path / "out", weightless, "redundancy_demo_ocr",
        ["--masks", "leave-one-out", "--batch_size", 10, "--feature_memory", 0.001], dtype="bfloat16",
    )  # fmt: skip
    told = planned(capsys, *asked)
    assert told["masks"] == ["none", *ENCODERS, "all"] and told["dtype"] == "bfloat16"
    assert told["passes"] == {"sweep": dict.fromkeys(ENCODERS, 4), "separate": dict.fromkeys(ENCODERS, 4 * 4)}
    prefills = told["prefills"]
    assert prefills["full_model_again"] == 4 and prefills["separate"] == 24
    assert prefills["sweep"] == 24 + 4 - prefills["blind_shared"]
    memory = told["memory"]
    assert memory["weights"] == 2 * memory["parameters"] and memory["weight_files"] == len(b"not to be read")
    assert memory["feature_memory"] == int(0.001 * 2**30) and memory["images_kept"] == 2**30 // 1000 // (36 * 416 * 2)
    assert memory["batch_size"] == 10
    longest = max(task["prompt_tokens"] for task in told["tasks"]) + 16
    assert memory["cache_a_batch"] == round(10 * longest * 2 * 4 * 128 * 2)


def test_what_is_read_is_what_is_counted(capsys, tmp_path, weightless):
    told = planned(capsys, *arguments(tmp_path / "out", weightless))
    assert cli.main(["plan", *arguments(tmp_path / "out", weightless)]) == 0
    printed = capsys.readouterr().out
    assert told["command"][:2] == ["redundancy-eval", "plan"]
    made = msgspec.convert(told, Plan)
    assert plan_text.text(made) == printed and json.loads(plan_text.as_json(made)) == told
    for words in ("16 masks of clip, convnext, pix2struct, eva02: none, clip", "different images: at most 20",
                  "| in all ", "answered already: nothing", "assumed:"):  # fmt: skip
        assert words in printed
    assert not (tmp_path / "out").exists()


def test_a_sweep_asks_what_was_planned(capsys, tmp_path, monkeypatch):
    asked = arguments(tmp_path / "out", more=["--masks", "none;clip;convnext+eva02;all"])
    before = planned(capsys, *asked)
    decoded, encoded = [], Counter()
    decode, encode = native.MaskedModel.decode, native.MaskedModel.encode

    def counting_decode(self, sequences, *rest, **settings):
        decoded.extend(map(len, sequences))
        return decode(self, sequences, *rest, **settings)

    def counting_encode(self, images, names, pixels=()):
        encoded.update({name: len(images) for name in names})
        return encode(self, images, names, pixels)

    monkeypatch.setattr(native.MaskedModel, "decode", counting_decode)
    monkeypatch.setattr(native.MaskedModel, "encode", counting_encode)
    assert cli.main(["sweep", *asked]) == 0
    capsys.readouterr()
    assert len(decoded) == before["prefills"]["sweep"]
    assert all(0 < encoded[name] <= before["passes"]["sweep"][name] for name in ENCODERS)
    after = planned(capsys, *asked)
    masks = dict.fromkeys(["none", "clip", "convnext+eva02", "all"], before["questions"])
    assert after["store"]["answered"] == masks and after["store"]["of"] == before["questions"] == 20
    assert after["store"]["to_other_questions"] == 0
    header = hub.read_config(tmp_path / "out" / "store", HEADER)["identity"]
    with Store.open(tmp_path / "out" / "store", header) as kept:
        answers = dict(kept.items())
    assert Counter(key.task for key in answers) == {task["name"]: 4 * task["questions"] for task in before["tasks"]}
    new = sum(stored.new_tokens for stored in answers.values()) / len(answers)
    assert after["expected_new_tokens"] == after["store"]["mean_new_tokens"] == pytest.approx(new)
    # Every prompt was tokenised: the means are exact.
    lengths = {task["name"]: [] for task in before["tasks"]}
    for key, stored in answers.items():
        lengths[key.task].append(stored.prompt_tokens)
    assert {task["name"]: task["prompt_tokens"] for task in before["tasks"]} == {
        name: pytest.approx(np.mean(found)) for name, found in lengths.items()
    }
    few = planned(capsys, *arguments(tmp_path / "out", tasks="redundancy_demo_ocr", more=["--masks", "none;eva02"]))
    assert few["store"]["answered"] == {"none": 4, "eva02": 0} and few["store"]["to_other_questions"] == 64
    # What the sweep would refuse is refused.
    assert cli.main(["plan", *arguments(tmp_path / "out", dtype="bfloat16")]) == 2
    assert "holds answers of another model: arguments.dtype differs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model_args", "more", "message"),
    [
        ("pretrained=demo", ["--tasks", "no_such_task"], "Tasks not found: no_such_task"),
        ("pretrained=demo", ["--masks", "none;sam"], "unknown encoder 'sam'; this model has: clip, convnext"),
        ("pretrained=demo,drop=clip", [], "a sweep sets the masks itself"),
        ("pretrained=/nowhere", [], "no such checkpoint folder: /nowhere"),
        ("pretrained=demo,dtype=int8", [], "dtype must be one of auto, bfloat16"),
        ("pretrained=demo", ["--batch_size", "0"], "--batch_size must be auto or a positive number"),
        ("pretrained=demo,conv_template=other", [], "conv_template must be one of"),
        ("pretrained=demo", ["--gen_kwargs", "do_sample=true,temperature=0.5"], "draws its answers"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, model_args, more, message):
    asked = ["--model", "eagle_masked", "--model_args", model_args, "--output_path", str(tmp_path / "out")]
    tasks = [] if "--tasks" in more else ["--tasks", "redundancy_demo_ocr"]
    assert cli.main(["plan", *asked, "--limit", "2", *tasks, *more]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("redundancy-eval: error: ") and message in said.err


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["plan", "--help"])
    assert stop.value.code == 0 and cli.main(["plan"]) == 2
    said = capsys.readouterr()
    for words in ("--json", "--masks MASKS", "leave-one-out", "-o OUT, --out OUT, --output_path OUT", "example:"):
        assert words in said.out
    assert said.err.count("\n") == 1 and "--model" in said.err


def test_behind_hooks_nothing_is_known_or_shared(capsys, tmp_path):
    asked = ["--model", "hf_masked", "--model_args", "pretrained=none/none,encoders=a:x+b:y,dtype=float32"]
    asked += ["--tasks", "redundancy_demo_ocr", "--limit", "3", "--output_path", str(tmp_path / "out")]
    told = planned(capsys, *asked)
    assert told["masks"] == ["none", "a", "b", "all"] and told["flops"] is None
    assert told["passes"] == {way: {"a": 12, "b": 12} for way in WAYS} and told["memory"] is None
    assert told["prefills"]["sweep"] == told["prefills"]["separate"] == 12
    assert "unknown" in plan_text.text(msgspec.convert(told, Plan))


# --- operations ----------------------------------------------------------------------------------------------------


def picture(size=operations.PICTURE):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    made = tiny_models.write(tmp_path_factory.mktemp("tiny"))
    made["eagle2_masked"]["max_tiles"] = "3"
    made["deepseek_ocr_masked"] = {"pretrained": made["deepseek_ocr_masked"]["pretrained"], "max_tiles": "2"}
    return made


@pytest.mark.parametrize("model_id", registry.FAMILIES)
def test_operations_are_those_that_torch_counts(checkpoints, model_id):
    given = {key: str(value) for key, value in checkpoints[model_id].items()}
    folder = hub.locate(given["pretrained"])
    bare = operations.skeleton(model_id, folder, given)
    assert all(parameter.is_meta for parameter in bare.parameters())
    found = operations.of(bare, model_id, hub.read_config(folder))
    loaded = loading.load(model_id, device="cpu", **given)
    model, image = loaded.model, picture()

    def counted(function):
        # Under the math kernel: torch 2.14's counter sees no operations in a CPU's flash attention.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            made = function()
        return made, counter.get_total_flops()

    pixels = model.preprocess([image], model.encoder_names)
    for name in model.encoder_names:
        spent = counted(lambda name=name: model.encode(pixels, [name]))[1]
        # Encoders that their own repositories describe are told by the table, where they are the released ones.
        elsewhere = set(registry.family(model_id).elsewhere(hub.read_config(folder))) - bare.encoders.keys()
        assert found.encoders[name] == (None if name in elsewhere else spent)
    outputs = loaded.encode([image], model.encoder_names)
    if model.router() is not None:  # the passes that choose encoders are left out, and all are taken, as plans say
        loaded.settings = {**loaded.settings, "routing": "+".join(model.router().pool)}
    assert found.outputs == sum(output.numel() for output in outputs.values())
    (visual,), spent = counted(lambda: loaded.visuals([image], outputs))
    assert found.visual_tokens == len(visual.embeddings)
    # MoVA's adapter also reads the question, whose length a plan does not know here.
    assert found.fusion == pytest.approx(spent, rel=0.01 if model.router() is not None else 0)
    if bare.encoders:
        assert found.parameters == sum(parameter.numel() for parameter in model.parameters())

    prompt = torch.randn(1, 40, model.language_model.config.hidden_size)
    ask = dict(inputs_embeds=prompt, attention_mask=torch.ones(1, 40, dtype=torch.long), do_sample=False)
    for new in (1, 5):
        _, spent = counted(lambda new=new: model.language_model.generate(**ask, min_new_tokens=new, max_new_tokens=new))
        assert found.language.prefill(40) + found.language.decode(40, new) == spent
    text = model.language_model.config
    made = model.language_model(inputs_embeds=prompt, use_cache=True)[native.CACHE]
    kept = sum(layer.keys.numel() + layer.values.numel() for layer in made.layers)
    assert len(made.layers) == text.num_hidden_layers and found.language.cache(4) == kept / 40 * 4


@pytest.mark.slow
def test_released_sizes_cost_what_the_table_of_families_says():
    config = hub.read_config(hub.locate("demo"))
    for key in ("encoder_configs", "image_size", "grid_size"):
        del config[key]
    config |= dict(
        mm_vision_tower=tiny.TOWERS, mm_hidden_size=7680, hidden_size=4096, intermediate_size=11008, vocab_size=32000,
        num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32,
    )  # fmt: skip
    with torch.device("meta"):
        model = eagle.Eagle(config)
    found = operations.of(model.eval().requires_grad_(False), "eagle_masked", config)
    for name, (million, giga) in registry.FAMILIES["eagle_masked"].costs.items():
        assert found.encoders[name] == pytest.approx(giga * 1e9, rel=0.01)
        assert sum(p.numel() for p in model.encoders[name].parameters()) == pytest.approx(million * 1e6, rel=0.01)
    assert found.visual_tokens == 1024 and found.outputs == 1024 * 7680
    assert found.language.prefill(1100) == pytest.approx(14.6e12, rel=0.02)  # facts: Vicuna-7B, 1100 tokens
    assert found.language.cache(2) == 2 * 32 * 4096 * 2
    tasks = [Task("t", 1, 1, 1, 0, {"100": 1}, 76.0, 1100.0)]
    subject = Subject("eagle_masked", {"pretrained": "demo"}, "cuda", torch.bfloat16, model, found, None, "")
    labels = ["none", "clip", "all"]
    told = plan._memory(subject, found, labels, tasks, 8, 2**30)
    assert told.cache_a_batch == 8 * 1200 * 2 * 32 * 4096 * 2 and told.images_kept == 2**30 // (1024 * 7680 * 2)
    assert told.stand_ins == told.covariances == 0
    subject = replace(subject, given={"pretrained": "demo", "ablation": "predicted"})
    guessed = plan._memory(subject, found, labels, tasks, 8, 2**30)
    assert guessed.stand_ins == 4 * 1024 * (7680 - 1024) and guessed.covariances == 2 * 8 * 7680**2
    assert "linear stand-ins 26 MiB for all masks" in plan_text._memory_text(guessed, "bfloat16")


# --- images --------------------------------------------------------------------------------------------------------


def test_images_are_told_apart_without_decoding(tmp_path, monkeypatch):
    import datasets

    shown = [picture((40 + n, 30)) for n in (0, 1, 0, 2)]
    kinds = datasets.Features({"a": datasets.Image(), "question": datasets.Value("string"), "b": datasets.Image()})
    rows = {"a": shown, "question": list("wxyz"), "b": [None, shown[0], None, None]}
    documents = datasets.Dataset.from_dict(rows, features=kinds)
    monkeypatch.setattr(datasets.Image, "decode_example", lambda *_, **__: pytest.fail("decoded"))
    found = listen._pictures(documents, [3, 0, 2, 1])
    assert [len(found[n]) for n in range(4)] == [1, 2, 1, 1]
    assert found[0] == found[2] and found[1][1] == found[0][0] and len({x for p in found.values() for x in p}) == 3
    assert set(listen._pictures(documents, [2])) == {2}
    assert listen._pictures(documents.remove_columns(["a", "b"]), [0]) == {}
    assert listen._pictures([{"a": 1}], [0]) == {}


def test_one_pass_for_an_image_of_many_questions(checkpoints, tmp_path):
    """Two questions to one image, one to two of them; the architecture takes one."""
    given = {key: str(value) for key, value in checkpoints["cambrian_masked"].items()}

    def subject(**more):
        return Subject.of(
            SimpleNamespace(
                model="cambrian_masked", model_arguments={**given, **more}, resolved=lambda: {"device": "cpu"}
            )
        )

    def numbers(*arguments):
        return asdict(plan.numbers(*arguments))

    def heard(number, text, *pictures):
        question = SimpleNamespace(task="t", split="s", document=str(number), text=text, generation="g", limit=9,
                                   settings={}, key=lambda mask: (number, mask))  # fmt: skip
        return Heard(question, pictures)

    asked = [heard(1, "What?", "x"), heard(2, "Who?", "x"), heard(3, "Which?", "x", "y"), heard(4, "What?", "z")]
    names = ("siglip", "clip", "dinov2", "convnext")
    told = numbers(subject(), names, ["none", "clip", "all"], asked, None, 4, None)
    assert told["images"] == 4 and told["distinct_images"] == 3
    assert told["passes"]["sweep"] == dict.fromkeys(told["encoders"], 3)
    assert told["passes"]["separate"] == {"siglip": 8, "clip": 4, "dinov2": 8, "convnext": 8}
    never = numbers(subject(), names, ["clip", "siglip+clip"], asked, None, 4, None)
    assert never["passes"]["sweep"] == {"siglip": 3, "clip": 0, "dinov2": 3, "convnext": 3}
    assert told["prefills"]["blind_shared"] == 1 and told["flops"]["sweep"]["encoders"] is None
    assert any("a question shows 2 images, this architecture takes 1" in line for line in told["assumptions"])
    printed = plan_text.text(msgspec.convert({**told, "framework": "lmms-eval"}, Plan))
    assert "| siglip" in printed and "unknown" in printed and "different images: 3" in printed
    kept = numbers(subject(site="projected"), names, ["none", "all"], asked, None, 4, None)
    # At the site after the projectors SigLIP runs even when all are dropped.
    assert kept["passes"]["separate"] == {"siglip": 8, "clip": 4, "dinov2": 4, "convnext": 4}
    assert kept["prefills"]["blind_shared"] == 0
    # Under `none` and `clip` the language model sees x once for the first two questions.
    assert told["prefills"]["images_shared"] == 2 and [task["repeats"] for task in told["tasks"]] == [1]
    apart = numbers(subject(), names, ["none", "clip", "all"], asked[::2] + asked[1::2], None, 2, None)
    assert apart["prefills"]["images_shared"] == 0
    language = subject().costs.language
    saved = language.prefill(told["flops"]["visual_tokens"]) - 2 * language.output
    assert apart["flops"]["sweep"]["prefill"] - told["flops"]["sweep"]["prefill"] == pytest.approx(2 * saved)
    assert "2 prompts are on the images of another in their batch" in printed


@pytest.mark.skipif(find_spec("vlmeval") is None, reason="needs the extra vlmevalkit")
def test_vlmevalkit(tmp_path):
    frames = vlmevalkit_data.write(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    for name, source in (("MyOpen", "ChartQA_TEST"), ("MyChoice", "MMMU_DEV_VAL")):
        frames[source].to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    asked = ["--framework", "vlmevalkit", "--model", "eagle_masked", "--model_args",
             "pretrained=demo,dtype=float32,max_new_tokens=5", "--data", "MyOpen", "MyChoice", "--limit", "5",
             "--work-dir", str(tmp_path / "out"), "--masks", "none;eva02", "--mode", "infer"]  # fmt: skip
    script = (
        "import json, sys\n"
        "from redundancy_eval.cli import main\n"
        "asked = json.loads(sys.argv[1])\n"
        "for command in ('plan', 'sweep', 'plan'):\n"
        "    print('#' + command, flush=True)\n"
        "    assert main([command, *asked, *(['--json'] if command == 'plan' else [])]) == 0\n"
    )
    env = {"LMUData": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(asked)], capture_output=True, text=True, timeout=600, cwd=tmp_path,
        env={**os.environ, **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    _, first, rest = done.stdout.split("#plan\n")
    before, after = json.loads(first.split("#sweep")[0]), json.loads(rest)
    assert {task["name"]: task["questions"] for task in before["tasks"]} == {"MyOpen": 5, "MyChoice": 5}
    assert before["store"] is None and before["questions"] == 10
    several = frames["MMMU_DEV_VAL"]["image"].iloc[:5].map(lambda cell: cell.startswith("["))
    assert before["images"] == 10 + int(several.sum()) and before["distinct_images"] <= before["images"]
    assert after["store"]["answered"] == {"none": 10, "eva02": 10} and after["store"]["to_other_questions"] == 0
