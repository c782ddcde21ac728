"""The Prismatic family, OpenVLA among it: `.pt` files, timm's encoders, three policies of images, action tokens."""

import gzip
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

import timm
from PIL import Image
from safetensors.torch import load_file, save_file

from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, identity
from redundancy_eval.model_wrappers.encoders.timm_vits import TimmVit
from redundancy_eval.model_wrappers.families import registry, templates
from redundancy_eval.model_wrappers.families.prismatic import actions, card, names, pixels, tokens
from redundancy_eval.model_wrappers.families.prismatic import model as prismatic
from redundancy_eval.model_wrappers.families.prismatic import recording as recordings
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from redundancy_eval.model_wrappers.prune import writing
from tests.conftest import golden
from tests.helpers import tiny_prismatic

pytestmark = pytest.mark.models
BOTH = ("dinov2", "siglip")
FORMS = ("original", "prismatic", "openvla")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Form -> checkpoint and its encoders' folder."""
    root = tmp_path_factory.mktemp("tiny")
    return {form: tiny_prismatic.write(root / form, form) for form in FORMS}


def load(made, drop=None, **options):
    folder, towers = made
    return loading.load(
        "prismatic_masked", str(folder), drop, device="cpu", **{"encoder_weights": str(towers), **options}
    )


def refused(made, match, error=SetupError, **options):
    with pytest.raises(error, match=match) as raised:
        load(made, **options)
    assert "\n" not in str(raised.value)


def embeddings(subject, images):
    return torch.stack([visual.embeddings for visual in subject.visuals(images)])


def picture(seed, size=(70, 50)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def bent(made, tmp_path, part="", **settings):
    """A copy of the checkpoint with other settings in a part of its config, and the folder of the encoders."""
    folder, towers = made
    copy = tmp_path / "bent"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (config[part] if part else config).update(settings)
    (copy / "config.json").write_text(json.dumps(config))
    return copy, towers


def original(pair="dinosiglip-vit-so-384px", language="llama2-7b-pure", **model):
    told = {"vision_backbone_id": pair, "llm_backbone_id": language, "image_resize_strategy": "resize-naive"}
    return {"model": {"arch_specifier": "no-align+fused-gelu-mlp", **told, **model}}


# --- against the original code -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dinosiglip384_tiny", "dinoclip336_tiny", "openvla_tiny"])
@pytest.mark.slow
def test_parity_with_recorded_tensors(capsys, name):
    folder = golden("prismatic", name)
    assert main(["parity", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("FAIL") or "refused" in line]
    errors = [float(line.split()[1]) for line in lines if line.startswith("ok") and "e-" in line.split()[1]]
    assert len(errors) > 14 and max(errors) < 1e-5
    second = "clip" if "clip" in name else "siglip"
    listed = json.loads((folder / "inputs" / "inputs.json").read_text())["inputs"]
    found = {match.groups() for line in lines if (match := re.search(r"  ([a-e]) (\S+): all  ", line))}
    conditions = ("nomask", "zero:dino", f"zero:{second}", "all_masked")
    assert found == {
        (key, condition)
        for key, entry in listed.items()
        for condition in (conditions if entry["image_file"] else ("nomask",))
    }


@pytest.mark.parametrize(
    ("manifest", "towers"),
    [
        ("prism-dinosiglip-7b", {"dino": "dinov2", "siglip": "siglip"}),
        ("prism-dinosiglip-224px-7b", {"dino": "dinov2", "siglip": "siglip"}),
        ("dinoclip-336px-7b", {"dino": "dinov2", "clip": "clip"}),
    ],
)
def test_full_size_names_and_shapes(manifest, towers):
    with gzip.open(golden("prismatic", "manifests") / f"manifest_{manifest}.json.gz", "rt") as handle:
        listed = json.load(handle)
    with torch.device("meta"):
        model = prismatic.Prismatic(original(listed["config"]["vision_backbone_id"]))
    ours = {own: tuple(value.shape) for own, value in model.state_dict().items() if not own.startswith("encoders.")}
    assert {model.rename(e["name"]): tuple(e["shape"]) for e in listed["entries"]} == ours  # nothing is left over
    assert {model.release(own) for own in ours} == {f"model/{e['name']}" for e in listed["entries"]}
    for recorded, name in towers.items():
        told, tower = listed["towers"][recorded], model.encoders[name]
        assert told["timm_model"].partition(".")[0] == tower.name and told["image_size"] == tower.input_size
        assert_fits(tower, {entry["name"]: tuple(entry["shape"]) for entry in told["entries"]})
    assert model.shapes("encoder")["dinov2"] == ((model.encoders["dinov2"].input_size // 14) ** 2, 1024)


def assert_fits(tower, shapes):
    """A tower has what is released but for the last block and what follows it."""
    used = {name: tower.rename(name) for name in shapes}
    own = {target if isinstance(target, str) else next(iter(target)): shapes[n] for n, target in used.items() if target}
    assert own == {name: tuple(value.shape) for name, value in tower.state_dict().items()}
    assert {tower.release(name) for name in own} == {name for name, target in used.items() if target}
    rest = [name for name, target in used.items() if target is None]
    assert rest and all(re.match(rf"blocks\.{tower.depth}\.|norm\.|attn_pool\.", name) for name in rest)


def test_full_size_names_and_shapes_of_openvla():
    with gzip.open(golden("prismatic", "manifests") / "manifest_openvla-7b.json.gz", "rt") as handle:
        listed = json.load(handle)
    told = {"model_type": "openvla", "text_config": {"model_type": "llama", "vocab_size": 32064}, **listed["config"]}
    card.FAMILY.check(told)
    with torch.device("meta"):
        model = prismatic.Prismatic(told)
    assert model.language_model.config.rms_norm_eps == 1e-6  # what the release's config leaves out
    ours, renamed = {own: tuple(value.shape) for own, value in model.state_dict().items()}, {}
    unused = []
    for entry in listed["entries"]:
        target = model.rename(entry["name"])
        if target is None:
            unused.append(entry)
        else:
            renamed[target if isinstance(target, str) else next(iter(target))] = tuple(entry["shape"])
    assert renamed == ours
    assert len(unused) == 43 and sum(int(np.prod(entry["shape"])) for entry in unused) == 43080480
    assert {model.release(own) for own in ours} == {e["name"] for e in listed["entries"]} - {e["name"] for e in unused}


def test_prompts_of_all_builders():
    folder = golden("prismatic", "dinosiglip384_tiny")
    tokenizer = tokens.read(folder / "llm", None)
    listed = json.loads((folder / "inputs" / "prompt_builders.json").read_text())["prompts"]
    seen = set()
    for entry in listed:
        template = templates.template(recordings._BUILDERS[entry["builder"]])
        if entry["system_prompt"] and template.system.startswith(("<<SYS>", "A chat")):
            text = entry["system_prompt"]
            template = replace(template, system=f"<<SYS>\n{text}\n<</SYS>>\n\n" if template.inside else text)
        turns = [turn.replace(templates.IMAGE, "") for _, turn in entry["turns"]]
        prompt = template.render(turns)
        assert prompt == entry["prompt"]
        if "input_ids" in entry:
            assert templates.tokenize(tokenizer, prompt, template) == entry["input_ids"]
            seen.add(entry["builder"])
    assert {entry["builder"] for entry in listed} == set(recordings._BUILDERS) and len(seen) >= 3


# --- masks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["original", "openvla"])
@pytest.mark.parametrize("mask", [("dinov2",), ("siglip",), BOTH])
def test_skipping_is_bit_identical_to_running_and_zeroing(written, mask, form):
    images, full = [picture(1), picture(2, (40, 90))], load(written[form])
    features = full.features(images)
    zeroed = {name: torch.zeros_like(value) if name in mask else value for name, value in features.items()}
    with torch.inference_mode():
        expected = torch.stack([visual.embeddings for visual in full.model.fuse(zeroed, [None, None])])
    subject = load(written[form], "+".join(mask))
    assert subject.mask == mask and set(subject.model.encoders) == set(BOTH) - set(mask)
    assert torch.equal(embeddings(subject, images), expected)
    assert not torch.equal(expected, embeddings(full, images))
    assert {name: tuple(value.shape[1:]) for name, value in features.items()} == full.model.shapes("encoder")
    if mask == BOTH:
        assert torch.equal(expected, expected[:1, :1].expand_as(expected)) and expected.any()


def test_encoders_are_what_timm_s_intermediate_layers_give(written):
    model, towers = load(written["original"]).model, written["original"][1]
    for name, encoder in card.VISIONS[tiny_prismatic.PAIR].encoders.items():
        whole = timm.create_model(encoder.timm_model, img_size=224, num_classes=0, **tiny_prismatic.SIZES[name]).eval()
        held = load_file(towers / encoder.repository / "model.safetensors")
        held["pos_embed"] = model.encoders[name].positions(held["pos_embed"])
        whole.load_state_dict(held)
        seen = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            (expected,) = whole.get_intermediate_layers(seen, n={len(whole.blocks) - 2})
            assert torch.equal(model.encoders[name](seen), expected)


def test_a_dropped_encoder_s_repository_is_not_needed(written, tmp_path):
    folder, towers = written["original"]
    repository = card.VISIONS[tiny_prismatic.PAIR].encoders["siglip"].repository
    shutil.copytree(towers / repository, tmp_path / repository)
    assert set(load((folder, tmp_path), "dinov2").model.encoders) == {"siglip"}
    refused((folder, tmp_path), "encoder_weights=.* has no folder timm/vit_large_patch14_reg4_dinov2.lvd142m")
    (tmp_path / repository / "config.json").write_text('{"architecture": "vit_base_patch16_siglip_224"}')
    refused((folder, tmp_path), "holds timm model 'vit_base_patch16_siglip_224'; expected 'vit_so400m", drop="dinov2")


def test_clip_has_the_exact_gelu_and_the_converted_form_says_its_own(tmp_path):
    made = {
        form: tiny_prismatic.write(tmp_path / form, form, pair="dinoclip-vit-l-336px")
        for form in ("original", "prismatic")
    }
    acts = {form: type(load(made[form]).model.encoders["clip"].trunk.blocks[0].mlp.act) for form in made}
    assert acts["original"] is not acts["prismatic"] and acts["original"].__name__ == "GELU"
    assert acts["prismatic"].__name__ == "QuickGELU"
    told = bent(made["prismatic"], tmp_path, timm_override_act_layers=[None, None])
    assert type(load(told).model.encoders["clip"].trunk.blocks[0].mlp.act).__name__ == "GELU"


@pytest.mark.parametrize(("form", "vision"), [("original", "clip-vit-l"), ("prismatic", "siglip-vit-so400m")])
def test_models_of_one_encoder_were_trained_alike(tmp_path, form, vision):
    made = tiny_prismatic.write(tmp_path / form, form, pair=vision, arch_specifier="no-align+gelu-mlp")
    subject = load(made)
    (name,) = subject.encoder_names
    assert type(subject.model.encoders[name].trunk.blocks[0].mlp.act).__name__ == (
        "QuickGELU" if name == "clip" else "GELU"
    )
    assert len([part for part in subject.model.projector if hasattr(part, "weight")]) == 2
    asked = [Prompt("What is it?", (picture(1),))]
    assert len(subject.generate(asked, 4)) == 1 and load(made, "all").mask == (name,)


@pytest.mark.parametrize("kind", ["linear", "align+gelu-mlp", "no-align+fused-gelu-mlp"])
def test_projectors(tmp_path, kind):
    made = tiny_prismatic.write(tmp_path / "tiny", arch_specifier=kind)
    if kind == "linear":  # whose names have no number
        file = made[0] / "checkpoints" / "latest-checkpoint.pt"
        held = torch.load(file, weights_only=True)
        parts = held["model"]["projector"]
        assert set(parts) == {"projector.weight", "projector.bias"}
    layers = [part for part in load(made).model.projector.modules() if hasattr(part, "weight")]
    assert len(layers) == {"linear": 1, "align+gelu-mlp": 2}.get(kind, 3)


# --- pixels --------------------------------------------------------------------------------------------------------


def test_policies():
    black, wide = (0, 0, 0), picture(1, (9, 4))
    naive = pixels.square(wide, 4, "resize-naive", black)
    assert np.array_equal(naive, np.asarray(wide.resize((4, 4), Image.Resampling.BICUBIC)))
    # A border of 2.5 rows: 2 of 7 after the cut of halves, so that the padded image is 9 x 8.
    boxed = pixels.square(wide, 8, "letterbox", (7, 7, 7))
    assert (boxed[:2] == 7).all() and (boxed[-2:] == 7).all() and np.array_equal(boxed[2:6], np.asarray(wide)[:, :8])
    assert np.array_equal(pixels.square(wide, 4, "resize-crop", black), np.asarray(wide)[:, 2:6])  # 2.5 to even
    assert np.array_equal(
        pixels.square(picture(1, (2, 1)), 1, "letterbox", black), np.asarray(picture(1, (2, 1)))[:, :1]
    )
    grey = Image.new("LA", (4, 4), (9, 0))
    assert (pixels.square(grey, 4, "resize-naive", black) == 9).all()  # alpha is dropped


def test_padding_has_each_encoder_s_colour_and_in_the_converted_form_the_last_one_s(written, tmp_path):
    colours = {}
    for form, part in (("original", "model"), ("openvla", "")):
        model = load(bent(written[form], tmp_path / form, part, image_resize_strategy="letterbox")).model
        colours[form] = [tuple(model.preprocess_uint8(picture(1, (90, 30)), name)[0, 0]) for name in BOTH]
    assert colours == {"original": [(123, 116, 103), (127, 127, 127)], "openvla": [(127, 127, 127)] * 2}


def test_an_image_processor_that_differs_is_refused(written, tmp_path):
    made = bent(written["openvla"], tmp_path)
    told = {
        "image_resize_strategy": "resize-naive", "means": [[0.485, 0.456, 0.406], [0.5] * 3], "tvf_do_letterbox": False,
        "input_sizes": [[3, 224, 224]] * 2, "interpolations": ["bicubic"] * 2,
    }  # fmt: skip
    for key, value in (("", ""), ("image_resize_strategy", "letterbox"), ("means", [[0.5] * 3] * 2)):
        (made[0] / "preprocessor_config.json").write_text(json.dumps({**told, **({key: value} if key else {})}))
        if key:
            refused(made, rf"preprocessor_config.json: {key} must be .*; not ")
        else:
            load(made)


# --- loading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "part", "settings", "match"),
    [
        (
            "original",
            "model",
            {"vision_backbone_id": "in1k-vit-l"},
            "vision_backbone_id is 'in1k-vit-l'; supported are",
        ),
        ("original", "model", {"llm_backbone_id": "phi-2-3b"}, "llm_backbone_id is 'phi-2-3b'; supported are"),
        ("original", "model", {"image_resize_strategy": "corner-pad"}, "model.image_resize_strategy must be one of"),
        ("original", "model", {"arch_specifier": "honeybee"}, "arch_specifier must be linear, or end with gelu-mlp"),
        ("original", "model", {"windows": 4}, "model.windows is 4, a setting that is not known"),
        ("original", "", {"stage": "full-finetune"}, "stage must be finetune; not 'full-finetune'"),
        ("original", "", {"model": None}, "not a Prismatic or OpenVLA checkpoint"),
        ("openvla", "", {"model_type": "llava"}, "not a Prismatic or OpenVLA checkpoint: model_type is 'llava'"),
        ("openvla", "", {"use_fused_vision_backbone": False}, "use_fused_vision_backbone is False, and there are 2"),
        ("openvla", "", {"timm_model_ids": ["vit_b", "vit_l"]}, "timm_model_ids must be of vit_large_patch14_reg4"),
        ("openvla", "", {"image_sizes": [224, 280]}, "the encoders give 16 and 25 tokens"),
        ("openvla", "", {"norm_stats": {"a": {"action": {"q01": [1]}}}}, "norm_stats of 'a': q01, q99 and mask must"),
    ],
)
def test_configs_that_are_not_ours(written, tmp_path, form, part, settings, match):
    refused(bent(written[form], tmp_path, part, **settings), match)


def test_what_a_pt_file_may_hold(written, tmp_path):
    folder, towers = bent(written["original"], tmp_path)
    file = folder / "checkpoints" / "latest-checkpoint.pt"
    held = torch.load(file, weights_only=True)["model"]
    trained_on = {"dino.cls_token": torch.zeros(1)}
    for change, match in (
        ({"vision_backbone": trained_on}, "1 tensors of .* none of this model's: model/vision_backbone/dino.cls_token"),
        ({"projector": {}}, "6 tensors are missing from the checkpoint: model/projector/projector.0.bias, "),
        ({"epoch": 3}, "holds 'model/epoch', not tensors"),
    ):  # fmt: skip
        torch.save({"model": {**held, **change}}, file)
        refused((folder, towers), match)
    torch.save({"model": held, "run": np.float64(1)}, file)
    refused((folder, towers), "holds more than tensors")
    file.unlink()
    refused((folder, towers), "no weights in .*: expected model.safetensors or pytorch_model.bin or checkpoints/latest")


def test_a_folder_of_a_hub_repository(tmp_path, monkeypatch):
    asked = []

    def download(repo, revision=None, allow_patterns=None):
        asked.append((repo, *allow_patterns))
        inside = tmp_path / "prism+7b"
        (inside / "checkpoints").mkdir(parents=True, exist_ok=True)
        for name in allow_patterns:
            if name.endswith((".pt", "prism+7b/*.json")):
                (tmp_path / name.replace("*.json", "config.json")).write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert hub.locate("TRI-ML/prismatic-vlms/prism+7b") == tmp_path / "prism+7b"
    assert {repo for repo, *_ in asked} == {"TRI-ML/prismatic-vlms"}
    assert asked[0][1:] == tuple(f"prism+7b/{name}" for name in ("*.json", "*.model", "*.txt", "*.jinja"))
    assert asked[-1][1:] == ("prism+7b/checkpoints/latest-checkpoint.pt",)
    assert hub.weight_files(tmp_path / "prism+7b") == [tmp_path / "prism+7b" / "checkpoints" / "latest-checkpoint.pt"]
    with pytest.raises(SetupError, match="the hub's TRI-ML/prismatic-vlms has no folder other"):
        hub.locate("TRI-ML/prismatic-vlms/other")


def test_the_tokenizer_may_lie_elsewhere_and_counts_for_identity(written, tmp_path):
    (folder, towers), words = bent(written["original"], tmp_path), tmp_path / "words"
    words.mkdir()
    for path in folder.glob("tokenizer*"):
        shutil.move(path, words)
    refused((folder, towers), "cannot get meta-llama/Llama-2-7b-hf from the hub: .*tokenizer=FOLDER says where")
    there, here = load((folder, towers), tokenizer=str(words)), load(written["original"])
    prompt = Prompt("What?", (picture(1),))
    assert there.generate([prompt], 4) == here.generate([prompt], 4)
    given = {"pretrained": str(folder), "encoder_weights": str(towers), "tokenizer": str(words)}
    places = registry.folders("prismatic_masked", given)
    assert set(places) == {"checkpoint", *BOTH, "tokenizer"}
    first = identity.of(places)
    (words / "model.safetensors").write_text("weights of the language model, which are not read")
    assert identity.of(places) == first
    (words / "tokenizer_config.json").write_text('{"bos_token": "</s>"}')
    assert identity.of(places) != first


def test_pruned_checkpoints_answer_as_their_masks(written, tmp_path):
    for form in ("original", "openvla"):
        folder, towers = written[form]
        given = {"pretrained": str(folder), "encoder_weights": str(towers), "drop": "dinov2"}
        asked = writing.read("prismatic_masked", given, False)
        summary = writing.write(asked, tmp_path / form, False)
        assert summary["encoder_weights"] == ("elsewhere" if form == "original" else "in the checkpoint")
        assert bool(summary["tensors_dropped"]) == (form == "openvla")
        assert (tmp_path / form / "model.safetensors").is_file() and not list((tmp_path / form).rglob("*.pt"))
        small, whole = load((tmp_path / form, towers)), load(written[form], "dinov2")
        assert small.mask == ("dinov2",)
        assert torch.equal(embeddings(small, [picture(1)]), embeddings(whole, [picture(1)]))


# --- prompts and answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "images", "expected", "moved"),
    [
        ("What?", 1, [-200, "In: What?\nOut:"], False),
        ("<image>\nWhat?", 1, [-200, "In: What?\nOut:"], False),
        ("Which <image> is it? ", 1, [-200, "In: Which  is it?\nOut:"], False),
        ("<image> or <image>?", 1, [-200, "In: image or image?\nOut:"], True),
        ("What?", 0, ["In: What?\nOut:"], False),
    ],
)
def test_an_image_stands_after_the_first_token(written, text, images, expected, moved):
    subject = load(written["original"])
    ids = subject.prompt_ids(Prompt(text, (picture(1),) * images, "one"))
    prompt = subject.tokenizer(expected[-1]).input_ids
    assert ids == [prompt[0], *expected[:-1], *prompt[1:]]
    assert bool(subject.moved) == moved


def test_several_images_and_long_prompts_are_refused(written):
    subject = load(written["original"])
    with pytest.raises(DataError, match="mmmu 3: 2 images; this architecture takes 1"):
        subject.generate([Prompt("What changed?", (picture(1), picture(2)), "mmmu 3")], 2)
    long = Prompt("very " * 120, (picture(1),), "mmmu 4")
    with pytest.raises(DataError, match="mmmu 4: .* the model's limit is 112"):  # 96 of the text, and the image's 16
        subject.generate([long], 2)
    assert load(written["original"], long_prompt="cut").generate([long], 2)[0].prompt_tokens == 112


@pytest.mark.parametrize(("form", "drop"), [("original", None), ("original", "siglip"), ("openvla", "dinov2")])
def test_batches_answer_as_single_prompts_do(written, form, drop):
    subject = load(written[form], drop)
    batch = [
        Prompt("What is written in the image?\nAnswer with one word.", (picture(1),)),
        Prompt("Say something."),
        Prompt("Where is the red circle?", (picture(2, (30, 60)),)),
    ]
    assert subject.generate(batch, 6) == [subject.generate([prompt], 6)[0] for prompt in batch]


def test_actions():
    stats = {"q01": [-1.0, -0.5, 0.0], "q99": [1.0, 0.5, 2.0], "mask": [True, True, False]}
    assert actions.bins([31999, 31744, 0, 32063], 32000) == [0, 254, 254, 0]
    assert actions.values([0, 254, 127], stats) == pytest.approx([-254 / 255, 127 / 255, 0])
    assert actions.text([31999, 31872, 31745], 32000, stats) == "-0.996078431 0 0.996078431"
    assert actions.text([31999, 31872], 32000, None) == "<bin 0> <bin 127>"
    # Neither a sentence nor an action that ended early is an action.
    assert actions.text([31999, 31872], 32000, stats) is None
    assert actions.text([450, 31872, 31745], 32000, stats) is None and actions.text([], 32000, None) is None


def test_answers_of_openvla_are_actions(written, tmp_path):
    vocabulary = 512
    subject = load(written["openvla"])
    shown = subject.model.answer(subject.tokenizer, [vocabulary - 1, vocabulary - 128, vocabulary - 255])
    assert shown == "-0.996078431 0 1.99607843"  # the only data set's units
    assert subject.model.answer(subject.tokenizer, [40, 41]) == subject.tokenizer.decode([40, 41]).strip()
    stats = {**tiny_prismatic.STATS, "other": {"action": {"q01": [0.0], "q99": [1.0]}}}
    two = bent(written["openvla"], tmp_path, norm_stats=stats)
    assert load(two).model.answer(None, [vocabulary - 1]) == "<bin 0>"
    assert load(two, actions="other").model.answer(None, [vocabulary - 128]) == "0.5"
    refused(two, "actions must be one of toy_set, other", actions="third")
    refused(written["original"], "actions= is for OpenVLA", actions="other")
    ends = subject.prompt_ids(Prompt("What?", (picture(1),)))
    assert subject.tokenizer.decode(ends[2:]).endswith("Out: ")  # the empty token of predict_action


def test_names_are_told_back():
    for own in ("language_model.model.layers.0.mlp.up_proj.weight", "projector.2.bias"):
        assert names.original_name(names.original_release(own)) == own
        assert names.converted_name(names.converted_release(own)) == own
    gamma = "blocks.0.ls1.gamma"
    assert names.of_encoder(names.encoder_release(1, gamma)) == (1, gamma)
    assert names.encoder_release(0, gamma) == "vision_backbone.featurizer.blocks.0.ls1.scale_factor"


def test_openai_s_names_of_clip(tmp_path):
    """open_clip's file of OpenAI's CLIP, as timm 0.9.10 reads it."""
    sizes = dict(depth=3, embed_dim=24, num_heads=2, patch_size=84)
    tower = TimmVit("vit_large_patch14_clip_336", 336, sizes)
    for released, own in {
        "visual.class_embedding": {"trunk.cls_token"},
        "visual.positional_embedding": {"trunk.pos_embed"},
        "visual.conv1.weight": "trunk.patch_embed.proj.weight",
        "visual.transformer.resblocks.0.attn.in_proj_weight": "trunk.blocks.0.attn.qkv.weight",
        "visual.transformer.resblocks.1.mlp.c_proj.bias": "trunk.blocks.1.mlp.fc2.bias",
        "visual.transformer.resblocks.2.ln_1.weight": None,
        "visual.ln_post.weight": None,
        "visual.proj": None,
        "transformer.resblocks.0.ln_1.weight": None,
        "positional_embedding": None,
        "logit_scale": None,
    }.items():
        target = tower.rename(released)
        assert (set(target) if isinstance(target, dict) else target) == own
    save_file({"a": torch.zeros(1)}, tmp_path / "open_clip_model.safetensors")
    assert hub.weight_files(tmp_path) == [tmp_path / "open_clip_model.safetensors"]
    with pytest.raises(SetupError, match="of 1 block has none before its last one"):
        TimmVit("vit_large_patch14_clip_336", 336, {**sizes, "depth": 1})
