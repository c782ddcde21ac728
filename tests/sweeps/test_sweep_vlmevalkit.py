"""Sweeps in VLMEvalKit: the files of separate runs, whoever is killed; foreign folders are left alone.

Everything that needs a framework runs in other processes: one import of it serves most of them. What they left behind
is looked at here.
"""

import json
import random
import zipfile
from collections import Counter
from importlib.util import find_spec

import pytest

pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval import api, records
from redundancy_eval.cli import main
from redundancy_eval.options import Options
from tests.helpers import tiny, tiny_cambrian, tiny_hf, vlmevalkit_data
from tests.helpers.sweep_places import (
    BATCHES,
    OWN,
    Place,
    asked,
    check_asked,
    check_nothing_torn,
    check_store,
    folders,
    torchrun,
    without,
)

pytestmark = [pytest.mark.framework, pytest.mark.models]

_RANDOM = random.Random(20261159)
FEW = {"MMBench_DEV_EN": (1, 2), "MME": range(1, 31), "ChartQA_TEST": range(1, 5), "OCRBench": (1, 4, 10)}
KIT_MASKS = {"eagle_masked": ("none", "clip", "convnext", "all"), "cambrian_masked": ("none", "siglip+clip", "all")}
KIT_DATA = {"eagle_masked": tuple(FEW), "cambrian_masked": ("MMBench_DEV_EN", "MME", "OCRBench")}
KIT_CHAIN = [
    ("lock", 1), ("flush", 1), ("write", 2), ("record", 1), ("flush", _RANDOM.randint(2, 4)), ("eval", 2),
    ("clear", 1), ("manifest", 1), ("eval", _RANDOM.randint(3, 5)), ("clear", _RANDOM.randint(2, 5)), ("record", 1),
    ("manifest", 2), ("done", 1),
]  # fmt: skip
QUICK = ("MME", "OCRBench")
SECRET = "sk-nobody-may-read-this"


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """Everything that shares one import of VLMEvalKit, in two lanes."""
    if find_spec("vlmeval") is None:
        pytest.skip("needs the extra vlmevalkit")
    place = Place(tmp_path_factory.mktemp("vlmevalkit"), "vlmevalkit")
    root = place.root
    length = dict(tokenizer_model_max_length=1024, max_position_embeddings=2048)
    eagle = tiny.write(root / "eagle", "clip-448;convnext-1024", seed=2, tokenizer_model_max_length=1024)
    cambrian, towers = tiny_cambrian.write(root / "cambrian", **length)
    phi3, _ = tiny_cambrian.write(root / "phi3", "phi3", **length)
    tiny_hf.llava(root / "llava")
    place.given = {
        "eagle_masked": {"pretrained": eagle},
        "cambrian_masked": {"pretrained": cambrian, "encoder_weights": towers},
        "masked": {"base": "tiny_llava", "encoders": "clip:model.model.vision_tower", "pretrained": root / "llava"},
    }
    (root / "data").mkdir()
    frames = vlmevalkit_data.write(root / "data", vlmevalkit_data.noise)
    place.rows = {}
    for name, numbers in FEW.items():
        rows = frames[name][(frames[name]["index"] % vlmevalkit_data.TURN).isin(numbers)]
        rows.to_csv(root / "data" / f"{name}.tsv", sep="\t", index=False)
        place.rows[name] = len(rows)
    place.env = {"LMUData": str(root / "data")}

    def job(name, *commands, **inject):
        return place.job(name, *commands, env=place.env, **inject)

    def command(kind, out, *more, model="eagle_masked", data=tuple(FEW), **arguments):
        given = {**place.given[model], "max_new_tokens": 6, **arguments}
        text = ",".join(f"{key}={value}" for key, value in given.items() if value is not None)
        start = ["sweep", "--framework", "vlmevalkit"] if kind == "sweep" else ["vlmevalkit", "--batch-size", "4"]
        return [*start, "--model", model, "--model_args", text, "--data", *data, "--work-dir", out, *more]

    place.command = command
    killed = command("sweep", "killed", "--batch_size", "30", data=QUICK)
    hooked = command("sweep", "hooked killed", model="masked", data=("OCRBench",))
    hidden = ("--judge", "my-judge", "--judge-base-url", "http://127.0.0.1:9/v1", "--judge-key", SECRET)
    published = dict(model="cambrian_masked", data=QUICK, dtype="float32")
    first = [
        job("eagle", *[command("sweep", "eagle sweep")] * 2, note="eagle.note"),
        job("eagle separate", *(command("run", "eagle separate", drop=mask) for mask in KIT_MASKS["eagle_masked"])),
        *(job(f"killed {n}", killed, note="killed.note", kill=kill, at=at) for n, (kill, at) in enumerate(KIT_CHAIN)),
        job("killed end", killed, killed, note="killed.note"),
        job("unkilled", command("sweep", "unkilled", data=QUICK)),
    ]
    second = [
        {**job("mathvista", command(
            "sweep", "mathvista", "--masks", "none;all", "--judge-retry", "1", data=("MathVista_MINI", "OCRBench")
        )), "background": True},
        job("cambrian", command("sweep", "cambrian sweep", "--masks", ";".join(KIT_MASKS["cambrian_masked"]),
                                model="cambrian_masked", data=KIT_DATA["cambrian_masked"]), note="cambrian.note"),
        job("cambrian separate", *(
            command("run", "cambrian separate", model="cambrian_masked", drop=mask, data=KIT_DATA["cambrian_masked"])
            for mask in KIT_MASKS["cambrian_masked"]
        )),
        job("published", command("sweep", "published", "--as-published", "--masks", "clip;all", **published), *(
            command("run", "published separate", "--as-published", drop=mask, **published) for mask in ("clip", "all")
        )),
        job("drawn", command("sweep", "drawn", "--as-published", data=QUICK)),
        job("phi3", command("sweep", "phi3 sweep", "--as-published", **published, pretrained=phi3)),
        job("judge", command("sweep", "judge", *hidden, "--masks", "none", data=("OCRBench",))),
        job("hooked", command("sweep", "hooked", model="masked", data=QUICK),
            command("run", "hooked separate", model="masked", data=QUICK, drop="all")),
        job("hooked killed", hooked, note="hooked.note", kill="flush", at=2),
        job("hooked end", hooked, hooked, note="hooked.note"),
        job("other data", command("sweep", "eagle sweep", "--masks", "none", data=QUICK)),
        job("wrong", command("sweep", "w", data=("MMBench_DEV_ENN",)), command("sweep", "w", "--limit", "many"),
            command("sweep", "w", nonsense="1"), command("sweep", "w", "--masks", "siglip")),
    ]  # fmt: skip
    first.append(second.pop(-2))  # behind the sweep in whose folder it is refused
    place.run_lanes(first, second)
    return place


def kit_files(folder):
    """Name -> content of what VLMEvalKit wrote for a mask, without times, and its own record of the run."""
    found = {}
    for path in folder.iterdir():
        if path.suffix == ".xlsx":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name != "docProps/core.xml"]  # which holds the time
                found[path.name] = [(name, archive.read(name)) for name in sorted(names)]
        elif path.suffix in (".csv", ".pkl") or path.name.endswith("_score.json"):
            found[path.name] = path.read_bytes()
    return found


def check_kit(place, out, other, model, mask):
    """Fail unless a mask's files are those of another folder."""
    mine, theirs = (place.root / part for part in (out, other))
    (mine,), (theirs,) = (list(part.glob(f"{model}_drop-{mask}_*")) for part in (mine, theirs))
    assert mine.name == theirs.name
    here, there = kit_files(mine), kit_files(theirs)
    assert set(here) == set(there) and len(here) > 3
    assert not [name for name in here if here[name] != there[name]]
    kept = [records.read([folder]) for folder in (mine, theirs)]
    assert without(kept[0], "sweep", *OWN) == without(kept[1], "sweep", *OWN)
    statuses = [json.loads((folder / "status.json").read_text())["datasets"] for folder in (mine, theirs)]
    assert {name: told["status"] for name, told in statuses[0].items()} == {
        name: told["status"] for name, told in statuses[1].items()
    }
    return mine


@pytest.mark.parametrize(("model", "mask"), [(model, mask) for model in KIT_MASKS for mask in KIT_MASKS[model]])
def test_vlmevalkit_s_files_are_those_of_a_separate_run(kit, model, mask):
    name = model.partition("_")[0]
    kit.done(name)
    kit.done(f"{name} separate")
    folder = check_kit(kit, f"{name} sweep", f"{name} separate", model, mask)
    assert json.loads((folder / "manifest.json").read_text())["mask"] == mask


@pytest.mark.parametrize("model", KIT_MASKS)
def test_a_sweep_in_vlmevalkit_asks_each_question_once(kit, model, capsys):
    name = model.partition("_")[0]
    out, notes = kit.root / f"{name} sweep", kit.notes(f"{name}.note")
    count = sum(kit.rows[data] for data in KIT_DATA[model])
    assert [said["loaded"] for said in notes if "loaded" in said] == ["none"]
    put = asked(notes)
    assert set(put.values()) == {1} and len(check_asked(notes)) == len(put)
    by_mask = Counter(label for label, _ in put)
    assert by_mask.pop("all") <= count and set(by_mask.values()) == {count}
    assert check_store(out, count * len(KIT_MASKS[model])) == 0
    check_nothing_torn(out)
    if model == "eagle_masked":
        assert kit.said("eagle", 1) == "finished: 4 masks in eagle sweep\n"
    printed, store = [], out / "store"
    store.rename(store.with_name("aside"))  # separate runs have none, so their report knows no confidence
    for folder in (f"{name} sweep", f"{name} separate"):
        assert main(["report", str(kit.root / folder), "--taxonomy", "paper"]) == 0
        printed.append(BATCHES.sub("", capsys.readouterr().out))
    store.with_name("aside").rename(store)
    assert printed[0] == printed[1] and f"masks:{len(KIT_MASKS[model])}/" in printed[0]
    (table,) = api.read([out], Options("paper"))
    assert len(table.masks) == len(KIT_MASKS[model]) and len(table.benchmarks) == len(KIT_DATA[model])


def test_killed_anywhere_in_vlmevalkit_it_goes_on(kit):
    for number, kill in enumerate(KIT_CHAIN):
        assert kit.codes(f"killed {number}") == [-9], (kill, kit.said(f"killed {number}")[-2000:])
    kit.done("killed end")
    kit.done("unkilled")
    out, count = kit.root / "killed", sum(kit.rows[name] for name in QUICK)
    check_asked(kit.notes("killed.note"))
    assert check_store(out, count * 4) == sum(kill == "write" for kill, _ in KIT_CHAIN)
    check_nothing_torn(out)
    for mask in KIT_MASKS["eagle_masked"]:
        check_kit(kit, "killed", "unkilled", "eagle_masked", mask)
    assert kit.said("killed end", 1) == "finished: 4 masks in killed\n"


def test_a_data_set_without_a_result_is_told_beside_those_with_one(kit, capsys):
    assert kit.codes("mathvista") == [2]
    said = kit.error("mathvista")
    assert said.startswith("results are missing for 2 of 2 masks: drop=none: VLMEvalKit failed on MathVista_MINI: ")
    assert said.count("requires a working OPENAI API") == 2 and "drop=all: VLMEvalKit failed on MathVista_MINI" in said
    assert "OCRBench" not in said
    out = kit.root / "mathvista"
    assert not (out / "sweep.json").exists() and len(folders(out)) == 2
    for folder in folders(out):
        assert not (out / folder / "manifest.json").exists()
        assert (out / folder / f"{folder}_OCRBench_score.json").exists()
    assert main(["report", str(out), "--taxonomy", "paper"]) == 0
    printed = capsys.readouterr().out
    assert "no results on MathVista_MINI; VLMEvalKit says: " in printed and "tasks:OCRBench|" in printed
    assert check_store(out, 2 * (kit.rows["OCRBench"] + 9)) == 0


def test_as_published(kit):
    kit.done("published")
    for mask in ("clip", "all"):
        check_kit(kit, "published", "published separate", "cambrian_masked", mask)
    assert kit.codes("drawn") == [2] and "--as-published draws eagle_masked's answers" in kit.error("drawn")
    assert kit.codes("phi3") == [2]
    assert "--as-published cannot give what was done for Cambrian-1 3B" in kit.error("phi3")
    assert not list((kit.root / "phi3 sweep").rglob("answers-*"))


def test_a_judge_s_key_is_written_nowhere(kit):
    kit.done("judge")
    files = [path for path in (kit.root / "judge").rglob("*") if path.is_file()]
    assert len(files) > 5 and not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert "my-judge@http://127.0.0.1:9/v1" in next((kit.root / "judge").glob("*/redundancy_eval.json")).read_text()


def test_masked_models_of_vlmevalkit_s_own(kit):
    kit.done("hooked")
    check_kit(kit, "hooked", "hooked separate", "masked", "all")
    assert len(folders(kit.root / "hooked")) == 2
    assert check_store(kit.root / "hooked", 2 * sum(kit.rows[name] for name in QUICK)) == 0


def test_killed_a_sweep_of_vlmevalkit_s_own_model_goes_on_by_answers(kit):
    assert kit.codes("hooked killed") == [-9], kit.said("hooked killed")[-2000:]
    kit.done("hooked end")
    out, notes, count = kit.root / "hooked killed", kit.notes("hooked.note"), 2 * kit.rows["OCRBench"]
    assert len(check_asked(notes)) == count and asked(notes).total() == count
    assert check_store(out, count) == 0
    check_nothing_torn(out)
    for mask in ("none", "all"):
        here, there = (next(part.glob(f"masked_drop-{mask}_*")) for part in (out, kit.root / "hooked"))
        here, there = (
            {name.partition("_OCRBench")[2]: told for name, told in kit_files(part).items() if "_OCRBench" in name}
            for part in (here, there)
        )
        assert here and here == there
    assert kit.said("hooked end", 1) == "finished: 2 masks in hooked killed\n"


def test_mistakes_in_vlmevalkit_are_one_line(kit):
    assert kit.codes("wrong") == [2, 2, 2, 2]
    said = {
        0: "VLMEvalKit has no data set 'MMBench_DEV_ENN'",
        1: "argument --limit: invalid int value: 'many' (see redundancy-eval sweep --help)",
        2: "eagle_masked has no argument 'nonsense'",
        3: "unknown",
    }
    for number, wanted in said.items():
        assert kit.error("wrong", number).startswith(wanted)
    assert kit.codes("other data") == [2]
    assert " holds a sweep that was made otherwise: data differs: " in kit.error("other data")


def test_two_processes_in_vlmevalkit(kit):
    command = kit.command("sweep", "two", "--masks", "none;clip;all", data=("MME",))
    code, said = torchrun(kit, command, note="two.note")
    assert code == 0, said[-3000:]
    out, notes = kit.root / "two", kit.notes("two.note")
    check_asked(notes)
    assert set(asked(notes).values()) == {1} and {said["rank"] for said in notes if "asked" in said} == {"0", "1"}
    assert check_store(out, kit.rows["MME"] * 3) == 0
    check_nothing_torn(out)
    for mask in ("none", "clip", "all"):
        (mine,) = out.glob(f"eagle_masked_drop-{mask}_*")
        (theirs,) = (kit.root / "unkilled").glob(f"eagle_masked_drop-{mask}_*")
        here, there = kit_files(mine), kit_files(theirs)
        assert here and {name: there.get(name) for name in here} == here
