"""What stands in for a dropped encoder: zero, mean, noise, features of another image; batches change nothing."""

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")


from redundancy_eval.cli import main
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.masking import ablations, loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.helpers import tiny, tiny_eagle2, tiny_hf, tiny_imof
from tests.helpers.pictures import picture

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for seed in range(5):
        picture(seed, (60 + 40 * (seed % 2), 50)).save(folder / f"{seed}.png")
    picture(0).save(folder / "again.png")
    return folder


def calibrate(model, arguments, images, out, *more):
    code = main(
        ["calibrate", "--model", model, "--model_args", arguments, "--images", str(images), "-o", str(out), *more]
    )
    assert code == 0
    return ablations.read(out)


@pytest.fixture(scope="module")
def eagle(tmp_path_factory, images):
    root = tmp_path_factory.mktemp("eagle")
    folder = str(tiny.write(root / "checkpoint"))
    calibrate("eagle_masked", f"pretrained={folder},device=cpu", images, root / "c.safetensors")
    return folder, root / "c.safetensors"


def load(eagle, drop="none", **settings):
    folder, calibration = eagle
    return loading.load("eagle_masked", folder, drop, device="cpu", calibration=str(calibration), **settings)


def test_a_calibration_is_the_statistics_of_the_sample(eagle, images):
    made = ablations.read(eagle[1])
    full = load(eagle)
    features = full.features([picture(seed, (60 + 40 * (seed % 2), 50)) for seed in range(5)])
    for name, value in features.items():
        torch.testing.assert_close(made.tensors[f"{name}/mean"], value.mean(0), rtol=1e-5, atol=1e-6)
        channels = value.reshape(-1, value.shape[-1])
        torch.testing.assert_close(made.tensors[f"{name}/channel_mean"], channels.mean(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(made.tensors[f"{name}/channel_std"], channels.std(0), rtol=1e-5, atol=1e-6)
    assert made.identity["count"] == "5" and len(made.images) == 5, "an image that comes twice counts once"
    assert made.identity["model"] == "eagle_masked" and made.identity["site"] == "encoder"


def test_mean_is_the_same_for_every_image(eagle):
    subject = load(eagle, "clip", ablation="mean")
    features = subject.features([picture(1), picture(9)])
    assert torch.equal(features["clip"][0], features["clip"][1]) and features["clip"].abs().sum() > 0
    assert torch.equal(features["clip"][0], ablations.read(eagle[1]).tensors["clip/mean"])
    assert not load(eagle, "clip", ablation="zero").features([picture(1)])["clip"].any()
    assert "clip" not in subject.model.encoders, "a dropped encoder is not loaded"


@pytest.mark.parametrize("kind", ["noise", "shuffle"])
def test_random_stand_ins_depend_on_seed_encoder_and_image_alone(eagle, kind):
    subject = load(eagle, "clip+convnext", ablation=kind)
    one, two, three = picture(1), picture(2), picture(31)
    together = subject.features([one, two, three, one])
    for name in ("clip", "convnext"):
        assert torch.equal(together[name][0], together[name][3])
        assert not torch.equal(together[name][0], together[name][1])
        for row, image in enumerate((one, two, three)):
            assert torch.equal(subject.features([image])[name][0], together[name][row])
            assert torch.equal(load(eagle, name, ablation=kind).features([image])[name][0], together[name][row])
    # Five images give shuffle few choices: over several images another seed must differ somewhere.
    other = load(eagle, "clip", ablation=kind, ablation_seed=1).features([one, two, three])
    assert not torch.equal(other["clip"], together["clip"][:3])


def test_shuffle_takes_another_image_of_the_sample(eagle):
    made, subject = ablations.read(eagle[1]), load(eagle, "clip", ablation="shuffle")
    for seed in range(3):
        image = picture(seed, (60 + 40 * (seed % 2), 50))
        got = subject.features([image])["clip"][0]
        owner = [i for i, sample in enumerate(made.tensors["clip/samples"]) if torch.equal(sample, got)]
        assert len(owner) == 1 and made.images[owner[0]] != ablations.image_hash(image)


def test_noise_has_the_sample_s_moments():
    tensors = {"e/channel_mean": torch.tensor([1.0, -2.0]), "e/channel_std": torch.tensor([0.5, 3.0])}
    noise = ablations.Ablation("noise", ablations.Calibration({}, (), tensors))
    drawn = noise.stand_in("e", (4000, 2), [("image", 0)], torch.float32, torch.device("cpu"))[0]
    assert drawn.mean(0).tolist() == pytest.approx([1, -2], abs=0.2)
    assert drawn.std(0).tolist() == pytest.approx([0.5, 3], rel=0.05)


def test_the_projected_site_has_statistics_of_its_own(tmp_path, images):
    folder, encoders = tiny_imof.write(tmp_path / "imof")
    arguments = f"pretrained={folder},encoder_weights={encoders},site=projected,device=cpu"
    made = calibrate("imof_masked", arguments, images, tmp_path / "c.safetensors")
    settings = dict(
        device="cpu", encoder_weights=str(encoders), site="projected", calibration=str(tmp_path / "c.safetensors")
    )
    subject = loading.load("imof_masked", str(folder), "clip", ablation="mean", **settings)
    assert torch.equal(subject.projected([picture(1)])["clip"][0], made.tensors["clip/mean"])
    with pytest.raises(SetupError, match="was made for site 'projected', not 'encoder'"):
        loading.load("imof_masked", str(folder), "clip", ablation="mean", **{**settings, "site": "encoder"})


def test_tiles_have_stand_ins_each(tmp_path, images):
    folder = tiny_eagle2.write(tmp_path / "eagle2")
    calibrate("eagle2_masked", f"pretrained={folder},device=cpu", images, tmp_path / "c.safetensors")
    subject = loading.load(
        "eagle2_masked",
        str(folder),
        "siglip",
        device="cpu",
        ablation="noise",
        calibration=str(tmp_path / "c.safetensors"),
    )
    wide = picture(3, (180, 60))
    tiles = subject.features([wide])["siglip"]
    assert len(tiles) > 1 and not torch.equal(tiles[0], tiles[1])
    assert torch.equal(subject.features([picture(1), wide])["siglip"][-len(tiles) :], tiles)


@pytest.mark.parametrize("kind", ["mean", "noise", "shuffle"])
def test_models_by_module_path(tmp_path, images, kind):
    folder = tiny_hf.unlimited_ocr(tmp_path / "ocr")
    encoders = "sam:model.vision_tower.sam_encoder+clip:model.vision_tower.vision_encoder"
    calibrate("hf_masked", f"pretrained={folder},encoders={encoders},device=cpu", images, tmp_path / "c.safetensors")
    subject = loading.transformers_model(
        str(folder), encoders, "clip", device="cpu", ablation=kind, calibration=str(tmp_path / "c.safetensors")
    )
    prompts = [Prompt("What?", (picture(1),)), Prompt("Say."), Prompt("Who?", (picture(2),))]
    answers = subject.generate(prompts, 4)
    assert answers == [subject.generate([prompt], 4)[0] for prompt in prompts]
    zero = loading.transformers_model(str(folder), encoders, "clip", device="cpu")
    assert zero.loglikelihood(prompts[:1], [" red"]) != subject.loglikelihood(prompts[:1], [" red"])


def test_mistakes(eagle, tmp_path, capsys, images):
    folder, calibration = eagle
    for settings, match in (
        (dict(ablation="noise"), "ablation=noise needs calibration=FILE"),
        (dict(ablation="mean", calibration=str(tmp_path / "none")), "no such calibration"),
    ):
        with pytest.raises(SetupError, match=match):
            loading.load("eagle_masked", folder, "clip", device="cpu", **settings)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(SetupError, match="cannot read .*x.safetensors"):
        ablations.read(tmp_path / "x.safetensors")
    with pytest.raises(SetupError, match="was made for checkpoint '.*', not 'demo'"):
        loading.load("eagle_masked", "demo", "clip", device="cpu", ablation="mean", calibration=str(calibration))
    ask = ["calibrate", "--model", "eagle_masked", "-o", str(tmp_path / "o"), "--model_args"]
    assert main([*ask, f"pretrained={folder},drop=clip", "--images", str(images)]) == 2
    assert "a calibration is made of the full model" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([*ask, f"pretrained={folder}", "--images", str(tmp_path / "empty")]) == 2
    assert "no images" in capsys.readouterr().err
    (tmp_path / "empty" / "bad.png").write_bytes(b"no image")
    assert main([*ask, f"pretrained={folder}", "--images", str(tmp_path / "empty")]) == 2
    assert "bad.png is no image" in capsys.readouterr().err
    assert main([*ask, f"pretrained={folder}", "--images", str(images), "--count", "0"]) == 2
    with pytest.raises(SetupError, match="ablation_seed must be a whole number"):
        load(eagle, "clip", ablation="noise", ablation_seed="x")
    one = ablations.Calibration({}, ("h",), {"e/samples": torch.ones(1, 2, 3), "e/owners": torch.zeros(1)})
    with pytest.raises(SetupError, match="at least two different images"):
        ablations.Ablation("shuffle", one).stand_in("e", (2, 3), [("h", 0)], torch.float32, torch.device("cpu"))
    with pytest.raises(SetupError, match=r"calibration's e is \(1, 2, 3\), the model's output \(5, 3\)"):
        ablations.Ablation("shuffle", one).stand_in("e", (5, 3), [("g", 0)], torch.float32, torch.device("cpu"))
    with pytest.raises(SetupError, match="holds nothing of f"):
        ablations.Ablation("mean", one).stand_in("f", (2, 3), [("g", 0)], torch.float32, torch.device("cpu"))


def test_images_of_a_task(tmp_path, eagle):
    pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")
    out = tmp_path / "c.safetensors"
    arguments = [
        "calibrate",
        "--model",
        "eagle_masked",
        "--model_args",
        f"pretrained={eagle[0]},device=cpu",
        "-o",
        str(out),
    ]
    assert main([*arguments, "--task", "redundancy_demo_ocr", "--count", "3"]) == 0
    assert ablations.identity(out)["count"] == "3"
    from redundancy_eval.model_wrappers.hosts import run_record

    record = run_record.describe(
        "eagle_masked", f"pretrained={eagle[0]},drop=clip,ablation=mean,calibration={out}", {}, []
    )
    assert record["calibration"]["count"] == "3" and record["calibration"]["sample"]
    assert "mask" not in run_record.describe("other", "odd,arguments", {}, [])
    assert main([*arguments, "--task", "redundancy_demo"]) == 2
