"""`ablation=predicted` in every family: the calibration's guess in features and in a checkpoint, refused elsewhere."""

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from safetensors.torch import load_file, save_file

from redundancy_eval import pruned
from redundancy_eval.cli import main
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.masking import ablations, calibration, loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from redundancy_eval.model_wrappers.prune import checking, writing
from tests.helpers import (
    tiny,
    tiny_cambrian,
    tiny_deepseek_ocr,
    tiny_deepseek_vl,
    tiny_eagle2,
    tiny_hf,
    tiny_imof,
    tiny_mgm,
    tiny_prismatic,
)
from tests.helpers.pictures import picture

pytestmark = pytest.mark.models
COUNT = 24
DROPS = {
    "eagle_masked": "clip+sam", "cambrian_masked": "convnext", "imof_masked": "dinov2",
    "deepseek_vl_masked": "siglip", "eagle2_masked": "siglip", "deepseek_ocr_masked": "clip",
    "prismatic_masked": "dinov2",
}  # fmt: skip
HALVES = "clip:model.multi_modal_projector@input[:16]+sam:model.multi_modal_projector@input[16:]"


PICTURES = [picture(seed, (60 + 60 * (seed % 2), 50)) for seed in range(COUNT)]
NEW = [picture(100), picture(101, (120, 50))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Model id -> model arguments and calibration of a tiny checkpoint; made when asked for."""
    root, known = tmp_path_factory.mktemp("predicted"), {}

    def write(model_id):
        folder = root / model_id
        apart = {"cambrian_masked": tiny_cambrian, "imof_masked": tiny_imof, "prismatic_masked": tiny_prismatic}
        if model_id in apart:
            made = apart[model_id].write(folder)
            return dict(zip(("pretrained", "encoder_weights"), map(str, made), strict=True))
        if model_id == "deepseek_ocr_masked":
            return {"pretrained": str(tiny_deepseek_ocr.write(folder)), "base_size": "128", "chain": "cut"}
        if model_id == "hf_masked":
            return {"pretrained": str(tiny_hf.unlimited_ocr(folder)), "encoders": HALVES}
        kinds = {"eagle_masked": tiny, "deepseek_vl_masked": tiny_deepseek_vl, "eagle2_masked": tiny_eagle2}
        return {"pretrained": str(kinds[model_id].write(folder))}

    def get(model_id):
        if model_id not in known:
            given, file = write(model_id), root / f"{model_id}.safetensors"
            calibration.make(model_id, {**given, "device": "cpu"}, PICTURES, 5, file)
            known[model_id] = given, str(file)
        return known[model_id]

    return get


def load(made, model_id, drop="none", **more):
    given, file = made(model_id)
    asked = {**given, "ablation": "predicted", "calibration": file, "device": "cpu", **more}
    return loading.load(model_id, drop=drop, **asked)


def answers(model):
    embeddings = [visual.embeddings for visual in model.visuals(NEW)]
    return embeddings, [model.generate([Prompt("What is it?", (image,))], 6)[0] for image in NEW]


def by_place(model, features):
    """(units * places, channels) of each encoder, as section 3 of the specification has it, by hand."""
    if "convnext" in features and len({value.shape[1] for value in features.values()}) > 1:  # Cambrian's 4 x 4
        value = features["convnext"]
        side = round(value.shape[1] ** 0.5)
        grid = value.reshape(len(value), side // 4, 4, side // 4, 4, -1)
        features = {**features, "convnext": grid.mean((2, 4)).reshape(len(value), (side // 4) ** 2, -1)}
    return {name: value.reshape(-1, value.shape[-1]).double() for name, value in features.items()}


@pytest.mark.parametrize("model_id", list(DROPS))
def test_the_stand_in_is_ridge_regression_on_the_sample_s_features(made, model_id):
    subject, full = load(made, model_id, DROPS[model_id]), load(made, model_id)
    mask = subject.mask
    seen, kept = full.features(PICTURES), [name for name in full.encoder_names if name not in mask]
    rows = by_place(full, seen)
    x, y = (torch.cat([rows[name] for name in names], 1) for names in (kept, mask))
    centred = (x - x.mean(0)) / x.std(0, correction=0)
    ridge = ablations.read(Path(made(model_id)[1])).sums.guess(mask).ridge
    gram = centred.T @ centred + ridge * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(gram, centred.T @ (y - y.mean(0))) / x.std(0, correction=0)[:, None]
    new, got = by_place(full, full.features(NEW)), subject.features(NEW)
    want = y.mean(0) + (torch.cat([new[name] for name in kept], 1) - x.mean(0)) @ weight
    mine = torch.cat([by_place(full, got)[name] for name in mask], 1)
    torch.testing.assert_close(mine, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))
    assert all(got[name].shape == seen[name][: len(got[name])].shape for name in mask)
    assert not set(mask) & set(subject.model.encoders), "a dropped encoder is not loaded"


@pytest.mark.parametrize("model_id", list(DROPS))
def test_a_sweep_s_view_answers_as_the_model_that_is_loaded_under_the_mask(made, model_id):
    full = load(made, model_id)
    for drop in (DROPS[model_id], "all"):
        alone = load(made, model_id, drop)
        shared, own = answers(full.under(alone.mask)), answers(alone)
        assert shared[1] == own[1] and all(map(torch.equal, shared[0], own[0]))
    everything = full.under(full.encoder_names).features(NEW)
    mean = ablations.read(Path(made(model_id)[1])).tensors
    for name, value in everything.items():
        channels = mean[f"{name}/channel_mean"]
        torch.testing.assert_close(value, channels.expand_as(value), rtol=1e-4, atol=1e-5)


def test_prompts_on_images_of_the_sample_are_named(made):
    prompts = [Prompt("What?", (PICTURES[3],), "task 1"), Prompt("What?", (NEW[0],), "task 2")]
    for model_id, drop in (("eagle_masked", "clip"), ("hf_masked", "clip")):
        subject = load(made, model_id, drop)
        subject.generate(prompts, 1)
        (remark,) = [line for line in loading.remarks(subject) if "calibration" in line]
        assert remark.startswith("1 prompts show images that the calibration was made of") and remark.endswith("task 1")
        assert subject.under(subject.mask).known == []


def test_the_full_model_is_the_full_model(made):
    given, _ = made("eagle_masked")
    plain = loading.load("eagle_masked", device="cpu", **given)
    assert answers(load(made, "eagle_masked"))[1] == answers(plain)[1]


def test_an_encoder_that_others_tell_exactly_is_not_missed(made):
    """Its output is made a linear function of the others': under its mask the model is the full one."""
    full = load(made, "eagle_masked")
    draw = torch.Generator().manual_seed(0)
    others = [name for name in full.encoder_names if name != "clip"]
    channels = {name: shape[1] for name, shape in full.model.shapes("encoder").items()}
    map_ = torch.randn(sum(channels[name] for name in others), channels["clip"], generator=draw) / 30
    encode = full.model.encode

    def told(pixels, names):
        found = encode(pixels, full.encoder_names)
        return {**found, "clip": torch.cat([found[name] for name in others], -1) @ map_ + 0.5}

    full.model.encode = told
    distinct = {ablations.image_hash(image): image for image in PICTURES}
    batches = calibration.batches(full, distinct, 8)
    sums = calibration.statistics(batches, distinct, full.model.place_sides()).sums
    found = sums.guess(["clip"])
    assert found.r2 == pytest.approx(1, abs=1e-5)
    full.ablation = ablations.Ablation("predicted", predictor=type(full.ablation.predictor)(sums.layout, sums.guess))
    for with_it, without in zip(answers(full)[0], answers(full.under(["clip"]))[0], strict=True):
        assert (with_it - without).abs().max() < 1e-4 * with_it.abs().max()
    assert answers(full)[1] == answers(full.under(["clip"]))[1]


@pytest.mark.parametrize("model_id", list(DROPS))
@pytest.mark.parametrize("drop", ["own", "all"])
def test_a_refitted_checkpoint_answers_as_the_ablation(made, tmp_path, model_id, drop):
    given, file = made(model_id)
    drop = DROPS[model_id] if drop == "own" else drop
    asked = {**given, "drop": drop, "ablation": "predicted", "calibration": file}
    slicing = model_id == "eagle_masked" and drop != "all"
    out = tmp_path / "small"
    said = writing.write(writing.read(model_id, asked, slicing), out, slicing)
    small = loading.load(model_id, device="cpu", **{**given, "pretrained": str(out)})
    mine, want = answers(small), answers(load(made, model_id, drop))
    assert mine[1] == want[1]
    for a, b in zip(mine[0], want[0], strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()
    assert set(said["held_out_r2"]) >= set(said["dropped"])
    assert said["folded"] == (model_id in ("eagle_masked", "deepseek_ocr_masked", "prismatic_masked"))
    card = (out / "README.md").read_text()
    assert f"fitted on {COUNT} images" in card and said["calibration"]["sample"] in card and "Licence" in card
    assert set(json.loads((out / "pruned.json").read_text())["files"]) == {p.name for p in out.glob("*.safetensors")}


def test_a_folded_one_is_a_plain_release(made, tmp_path):
    """Without a word of ours in its config it answers the same."""
    given, file = made("eagle_masked")
    asked = {**given, "drop": "clip", "ablation": "predicted", "calibration": file}
    writing.write(writing.read("eagle_masked", asked, True), tmp_path / "small", True)
    plain = shutil.copytree(tmp_path / "small", tmp_path / "plain")
    told = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps({k: v for k, v in told.items() if k != pruned.KEY}))
    mine, want = (
        answers(loading.load("eagle_masked", str(tmp_path / name), device="cpu")) for name in ("plain", "small")
    )
    assert mine[1] == want[1] and all(map(torch.equal, mine[0], want[0]))
    whole = load_file(f"{given['pretrained']}/model.safetensors")
    first, bias = (f"model.mm_projector.0.{name}" for name in ("weight", "bias"))
    small = load_file(plain / "model.safetensors")
    assert small[first].shape[1] == whole[first].shape[1] - 32 and not torch.equal(small[bias], whole[bias])


def test_it_is_the_mask_s_row_and_has_no_other_mask(made, tmp_path):
    given, file = made("eagle2_masked")
    asked = {**given, "drop": "siglip", "ablation": "predicted", "calibration": file}
    out = tmp_path / "small"
    writing.write(writing.read("eagle2_masked", asked, False), out, False)
    record = run_record.describe("eagle2_masked", f"pretrained={out}", {}, [])
    whole = ",".join(f"{key}={value}" for key, value in asked.items())
    same = run_record.describe("eagle2_masked", whole, {}, [])
    assert {key: record[key] for key in ("mask", "checkpoint", "calibration")} == {
        key: same[key] for key in ("mask", "checkpoint", "calibration")
    }
    told = pruned.of(record["pruned"], "here")
    assert told.as_mask({"pretrained": str(out)}) == asked
    for more in ({"drop": "convnext"}, {"drop": "all"}):
        with pytest.raises(SetupError, match=r"refitted without siglip; other masks are of the whole model"):
            loading.load("eagle2_masked", str(out), device="cpu", **more)
    with pytest.raises(SetupError, match="ablation=zero: this checkpoint was pruned of siglip with ablation=predicted"):
        loading.load("eagle2_masked", str(out), device="cpu", ablation="zero")
    zeros = {**given, "drop": "siglip"}
    writing.write(writing.read("eagle2_masked", zeros, False), tmp_path / "zeros", False)
    with pytest.raises(SetupError, match="pruned of siglip with ablation=zero, which holds"):
        writing.read("eagle2_masked", {**asked, "drop": "all", "pretrained": str(tmp_path / "zeros")}, False)
    (out / "dropped_guess.safetensors").unlink()
    with pytest.raises(SetupError, match="cannot read .*dropped_guess"):
        loading.load("eagle2_masked", str(out), device="cpu")


def test_prune_by_the_command(made, tmp_path, capsys):
    given, file = made("eagle_masked")
    arguments = f"pretrained={given['pretrained']},drop=clip,device=cpu"
    command = ["prune", "--model", "eagle_masked", "--model_args", arguments, "--refit", file]
    assert main([*command, "-o", str(tmp_path / "a"), "--slice", "--check", "2"]) == 0
    assert "greedy answers of 2" in capsys.readouterr().out
    assert main([*command[:4], f"{arguments},ablation=mean", *command[5:], "-o", str(tmp_path / "b")]) == 2
    assert "leave both out" in capsys.readouterr().err
    assert not checking.Check(1, 0, 1e-3, 1, True).passed(exact=False)


def test_models_by_module_path(made):
    """Halves of what enters the projector: the guess is of the kept half of the very prompt."""
    full, subject = load(made, "hf_masked"), load(made, "hf_masked", "clip")
    image = NEW[0]
    want = subject.ablation.predictor.stand_ins(full.outputs([image]), ["clip.0"], 1, 1, torch.zeros(0))["clip.0"]
    seen = []
    layer = subject.model.model.multi_modal_projector
    handle = layer.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    prompts = [Prompt("What?", (image,)), Prompt("Say."), Prompt("Who?", (NEW[1],))]
    together = subject.generate(prompts, 4)
    # The first pass looks at the kept half, the second is asked under the mask.
    given, asked = seen[0][0], [output for _, output in seen]
    handle.remove()
    masked = torch.cat([want, given[..., 16:]], -1)
    assert any(torch.allclose(output, layer(masked), rtol=1e-4, atol=1e-5) for output in asked)
    assert together == [subject.generate([prompt], 4)[0] for prompt in prompts]
    assert full.under(["clip"]).generate(prompts, 4) == together
    everything = load(made, "hf_masked", "all").generate(prompts[:1], 4)
    assert everything == full.under(["clip", "sam"]).generate(prompts[:1], 4)


def test_module_paths_that_cannot_be_guessed(made, tmp_path):
    given, _ = made("hf_masked")
    fed = "sam:model.vision_tower.sam_encoder+clip:model.vision_tower.vision_encoder"
    asked = {**given, "encoders": fed}
    calibration.make("hf_masked", {**asked, "device": "cpu"}, PICTURES, 1, tmp_path / "c.safetensors")
    with pytest.raises(SetupError, match=r"to predict encoders by: outputs must be \(units, tokens, channels\).*sam.0"):
        loading.load(
            "hf_masked", drop="sam", ablation="predicted", calibration=str(tmp_path / "c.safetensors"), device="cpu",
            **asked,
        )  # fmt: skip
    with pytest.raises(SetupError, match="was made with encoders=clip:.*the model runs with encoders=sam:"):
        load(made, "hf_masked", "sam", encoders=fed)


def test_calibrations_of_another_model_are_refused(made, tmp_path):
    given, file = made("eagle_masked")
    other = str(tiny.write(tmp_path / "other", seed=5))
    with pytest.raises(SetupError, match=f"was made for checkpoint '{given['pretrained']}', not '{other}'"):
        load(made, "eagle_masked", "clip", pretrained=other)
    moved = shutil.copytree(given["pretrained"], tmp_path / "moved")
    assert load(made, "eagle_masked", "clip", pretrained=str(moved)).mask == ("clip",), "the same files elsewhere"
    path = tmp_path / "kept" / "model.safetensors"
    kept = shutil.copytree(given["pretrained"], tmp_path / "kept")
    calibration.make(
        "eagle_masked", {"pretrained": str(kept), "device": "cpu"}, PICTURES, 8, tmp_path / "k.safetensors"
    )
    save_file({name: value * 1.5 for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    with pytest.raises(SetupError, match="was made for other weights than .*kept has now"):
        load(made, "eagle_masked", "clip", pretrained=str(kept), calibration=str(tmp_path / "k.safetensors"))
    with pytest.raises(SetupError, match="was made in float32, the model runs in bfloat16"):
        load(made, "eagle_masked", "clip", dtype="bfloat16")
    with pytest.raises(SetupError, match="was made with none of its own arguments, the model runs with max_tiles=1"):
        load(made, "eagle2_masked", "siglip", max_tiles="1")
    with pytest.raises(SetupError, match="site 'encoder', not 'projected'"):
        load(made, "imof_masked", "clip", site="projected")
    given, _ = made("imof_masked")
    asked = {**given, "site": "projected", "device": "cpu"}
    calibration.make("imof_masked", asked, PICTURES, 8, tmp_path / "p.safetensors")
    with pytest.raises(SetupError, match="encoders are predicted at site=encoder; this is of site=projected"):
        load(made, "imof_masked", "clip", site="projected", calibration=str(tmp_path / "p.safetensors"))
    assert file


def test_calibrations_that_tell_too_little_are_refused(made, tmp_path, capsys):
    given, file = made("eagle_masked")
    asked = {**given, "device": "cpu"}
    for count, said in ((1, "at least two different images"), (3, "48 places for 112 channels, too few to predict by")):
        calibration.make("eagle_masked", asked, PICTURES[:count], 8, tmp_path / f"{count}.safetensors")
        with pytest.raises(SetupError, match=said):
            load(made, "eagle_masked", "clip", calibration=str(tmp_path / f"{count}.safetensors"))
    err = capsys.readouterr().err
    assert "1 images are few for ablation=predicted" in err and "48 places are few for 112 channels" in err
    old = ablations.read(Path(file), sums=False)
    ablations.write(old, tmp_path / "old.safetensors")
    with pytest.raises(SetupError, match="holds nothing to predict encoders by: it is of an earlier version"):
        load(made, "eagle_masked", "clip", calibration=str(tmp_path / "old.safetensors"))
    assert load(made, "eagle_masked", "clip", ablation="mean", calibration=str(tmp_path / "old.safetensors"))
    with pytest.raises(SetupError, match="ablation=predicted needs calibration=FILE"):
        loading.load("eagle_masked", drop="clip", ablation="predicted", **asked)


def test_a_family_without_common_places_says_why(tmp_path, capsys):
    folder, towers = tiny_mgm.write(tmp_path / "mgm")
    asked = {"pretrained": str(folder), "encoder_weights": str(towers), "device": "cpu"}
    file = str(tmp_path / "c.safetensors")
    calibration.make("mgm_masked", asked, PICTURES[:3], 3, tmp_path / "c.safetensors")
    assert "nothing for ablation=predicted: " in capsys.readouterr().err
    with pytest.raises(SetupError, match="holds nothing to predict encoders by: .*(grid|place)"):
        loading.load("mgm_masked", drop="clip", ablation="predicted", calibration=file, **asked)
    assert loading.load("mgm_masked", drop="clip", ablation="mean", calibration=file, **asked).mask == ("clip",)


def test_values_that_are_no_numbers_are_told():
    batch = [([("h", 0)], {"a": torch.full((1, 4, 2), float("inf")), "b": torch.zeros(1, 4, 3)})]
    with pytest.raises(SetupError, match="a: its output for a calibration image holds values that are no numbers"):
        calibration.statistics(batch, ["h"], {"a": 1, "b": 1})


def test_sums_and_statistics_do_not_depend_on_batches(made):
    full = load(made, "eagle2_masked")
    distinct = {ablations.image_hash(image): image for image in PICTURES}
    sides = full.model.place_sides()
    one, many = (
        calibration.statistics(calibration.batches(full, images, size), distinct, sides)
        for images, size in ((distinct, 1), (dict(reversed(distinct.items())), 7))
    )
    assert one.sums.fit.count == many.sums.fit.count and one.sums.places == many.sums.places
    torch.testing.assert_close(one.sums.fit.scatter, many.sums.fit.scatter, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(one.sums.held.mean, many.sums.held.mean, rtol=1e-4, atol=1e-5)
    for name, value in one.tensors.items():
        if not name.endswith(("samples", "owners")):
            torch.testing.assert_close(many.tensors[name], value, rtol=1e-4, atol=1e-5)


def test_the_command_says_how_much_others_tell(made, tmp_path, capsys):
    given, _ = made("eagle_masked")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, image in enumerate(PICTURES):
        image.save(folder / f"{seed:02d}.png")
    command = ["calibrate", "--model", "eagle_masked", "--model_args", f"pretrained={given['pretrained']},device=cpu"]
    assert main([*command, "--images", str(folder), "-o", str(tmp_path / "c.safetensors")]) == 0
    out, err = capsys.readouterr()
    assert "over 24 different images (384 places), sample " in out
    assert "held-out R2 of each encoder from all others: clip " in out and "pix2struct" in out.splitlines()[1]
    assert "24 images are few for ablation=predicted" in err
    assert set(registry.ABLATIONS) == {"zero", "mean", "noise", "shuffle", "predicted"}
