"""The MGM family: patch info mining, its checkpoints and what is refused."""

import gzip
import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

import torch.nn.functional as F
from PIL import Image

from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families import registry, templates
from redundancy_eval.model_wrappers.families.mgm import card, mining
from redundancy_eval.model_wrappers.families.mgm.model import Mgm
from redundancy_eval.model_wrappers.masking import loading, native
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.conftest import RECORDINGS, golden
from tests.helpers import tiny_mgm
from tests.helpers.bent import bent_pair as bent
from tests.helpers.bent import embeddings, load_pair, refused_pair
from tests.helpers.pictures import picture

pytestmark = pytest.mark.models
load, refused = (partial(function, "mgm_masked") for function in (load_pair, refused_pair))
BOTH = ("clip", "convnext")
SITES = ("encoder", "projected")
MASKS = (("clip",), ("convnext",), BOTH)
AUX = "model.vision_tower_aux.vision_"
BEHIND = r"model\.vision_tower\.vision_tower\.vision_model\.(encoder\.layers\.23|post_layernorm)\."  # what is asked for


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return tiny_mgm.write(tmp_path_factory.mktemp("tiny") / "mgm")


@pytest.fixture(scope="module")
def full(written):
    return load(written)


# --- against the original code -------------------------------------------------------------------------------------


def agree(folder, capsys):
    """Conditions of each input, all of which agree with the recording."""
    assert main(["parity", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("FAIL") or "refused" in line]
    errors = [float(line.split()[1]) for line in lines if line.startswith("ok") and "e-" in line.split()[1]]
    assert len(errors) > 30 and max(errors) < 1e-5
    return {match[1] for line in lines if (match := re.search(r"  (\w \S+): all  ", line))}


@pytest.mark.parametrize("folder", [RECORDINGS / "mgm" / "vicuna_hd_tiny", ("mgm", "llama3_hd_tiny")])
@pytest.mark.slow
def test_parity_with_recorded_tensors(folder, capsys):
    """Of one the small recording, of the other the full one: the full one of the first takes a minute (parity)."""
    folder = folder if isinstance(folder, Path) else golden(*folder)
    found = agree(folder, capsys)
    zeros = {f"zero@{site}:{which}" for site in SITES for which in (*BOTH, "all")}
    assert {condition.partition(" ")[2] for condition in found} == {"nomask", *zeros}
    told = json.loads((folder / "inputs" / "inputs.json").read_text())["inputs"]
    assert {condition[0] for condition in found} == set(told)


@pytest.mark.parametrize("size", ["7B", "8B", "13B"])
def test_full_size_names_and_shapes(size):
    with gzip.open(golden("mgm", "manifests") / f"manifest_MGM-{size}-HD.json.gz", "rt") as handle:
        manifest = json.load(handle)
    released = {entry["name"]: tuple(entry["shape"]) for entry in manifest["entries"]}
    # With the checkpoint's own ConvNeXt every tensor of it is looked at; else its copy is what nothing reads.
    for trained, unread in ((True, BEHIND), (False, f"{BEHIND}|{AUX}")):
        config = {**manifest["config"], "architectures": list(card.ARCHITECTURES), "optimize_vision_tower_aux": trained}
        with torch.device("meta"):
            model = Mgm(config)
        model.eval()
        elsewhere = () if trained else ("encoders.convnext.",)
        own = {n: tuple(v.shape) for n, v in model.state_dict().items() if not n.startswith(elsewhere)}
        renamed = {model.rename(name): shape for name, shape in released.items()}
        renamed.pop(None)
        assert renamed == own
        assert {model.release(name) for name in own} <= set(released)
        skipped = [name for name in released if model.rename(name) is None]
        assert skipped and all(re.match(unread, name) for name in skipped)
    assert model.shapes("encoder") == {"clip": (2880, 1024), "convnext": (384**2, 2880)}
    assert model.shapes("projected") == {"clip": (2880, 2048), "convnext": (2880 * 64, 2048)}
    sizes = {name: sum(p.numel() for p in encoder.parameters()) / 1e6 for name, encoder in model.encoders.items()}
    behind = sum(np.prod(shape) for name, shape in released.items() if re.match(BEHIND, name))
    assert sizes["convnext"] == pytest.approx(card.FAMILY.costs["convnext"][0], abs=0.05)
    assert sizes["clip"] + behind / 1e6 == pytest.approx(card.FAMILY.costs["clip"][0], abs=0.05)


# --- mining --------------------------------------------------------------------------------------------------------


def test_windows_are_the_positions_of_each_token_of_each_crop():
    grid, patches, side = 2, 3, 2
    rows = grid * patches * side
    maps = torch.arange(rows * rows * 2.0).reshape(rows, rows, 2)
    found = mining.windows(maps, grid, patches).reshape(grid, grid, patches, patches, side, side, 2)
    for place in np.ndindex(found.shape[:-1]):
        down, right, row, column, y, x = place
        at = (down * patches + row) * side + y, (right * patches + column) * side + x
        assert torch.equal(found[place], maps[at])


def test_the_map_of_the_whole_image_is_the_mean_of_neighbours():
    maps = torch.randn(8, 8, 3, generator=torch.Generator().manual_seed(1))
    expected = maps.reshape(4, 2, 4, 2, 3).mean((1, 3))
    torch.testing.assert_close(mining.smaller(maps, 2), expected)


def test_a_token_looks_at_its_own_window_only():
    make = partial(torch.randn, generator=torch.Generator().manual_seed(2))
    query, key, value = make(5, 4), make(5, 9, 4), make(5, 9, 4)
    attention, mined = mining.mine(query, key, value)
    for token in range(5):
        weights = F.softmax(key[token] @ query[token] / 2, 0)
        torch.testing.assert_close(attention[token], weights)
        torch.testing.assert_close(mined[token], weights @ value[token])
    other = value.clone()
    other[1:] += 1
    assert torch.equal(mining.mine(query, key, other)[1][0], mined[0])
    assert not mining.mine(query * float("nan"), key, value)[1].isnan().any()


# --- masks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("mask", MASKS)
def test_skipping_is_bit_identical_to_running_and_zeroing(written, full, mask, site):
    images = [picture(1), picture(2, (40, 90))]
    features = full.features(images)
    zeroed = {name: torch.zeros_like(v) if name in mask and site == "encoder" else v for name, v in features.items()}
    with torch.inference_mode():
        parts = full.model.project(zeroed)
        parts = {n: torch.zeros_like(v) if n in mask and site == "projected" else v for n, v in parts.items()}
        expected = torch.stack([visual.embeddings for visual in full.model.fuse(parts, [None, None])])
    subject = load(written, "+".join(mask), site=site)
    assert subject.mask == mask and set(subject.model.encoders) == set(BOTH) - set(mask)
    assert torch.equal(embeddings(subject, images), expected)
    assert not torch.equal(expected, embeddings(full, images))
    # What shapes() says is what the encoders and the projectors give.
    outputs = {"encoder": features, "projected": full.projected(images)}[site]
    assert {name: tuple(value.shape[1:]) for name, value in outputs.items()} == full.model.shapes(site)


def test_what_is_left_of_an_image_under_each_mask(written, full):
    model, images = full.model, [picture(3)]
    whole, zero = model.grid**2 * model.tokens, torch.zeros(1)
    order = [*range(whole, whole + model.tokens), *range(whole)]  # the view of the whole image is first in the prompt

    def merged(drop, site):
        projected = load(written, drop, site=site).projected(images)
        return model.merged(projected["clip"][0], projected["convnext"][0])

    with torch.inference_mode():
        clip = full.features(images)["clip"][0][order]
        _, _, _, value = model.parts(*(full.projected(images)[name][0] for name in BOTH))
        constant = model.value(torch.zeros(model.map_channels))
        torch.testing.assert_close(merged("clip", "projected"), value.mean(1)[order])
        torch.testing.assert_close(merged("convnext", "projected"), clip)
        torch.testing.assert_close(merged("convnext", "encoder"), clip + constant)
        torch.testing.assert_close(merged("all", "encoder"), constant.expand_as(clip))
        assert torch.equal(merged("all", "projected"), zero.expand_as(clip))
        query = model.query(torch.zeros(model.channels)).expand_as(clip)
        key = model.parts(*(full.projected(images)[name][0] for name in BOTH))[2]
        torch.testing.assert_close(merged("clip", "encoder"), mining.mine(query, key, value)[1][order])


@pytest.mark.parametrize("site", SITES)
def test_other_stand_ins(written, full, tmp_path, site):
    images, file = [picture(seed) for seed in range(3)], tmp_path / "c.safetensors"
    for seed, image in enumerate(images):
        image.save(tmp_path / f"{seed}.png")
    given = f"pretrained={written[0]},encoder_weights={written[1]},site={site},device=cpu"
    asked = ["--model_args", given, "--images", str(tmp_path), "-o", str(file)]
    assert main(["calibrate", "--model", "mgm_masked", *asked]) == 0
    options = {"site": site, "calibration": str(file)}
    for mask in MASKS:
        subject = load(written, "+".join(mask), ablation="mean", **options)
        outputs = {"encoder": full.features, "projected": full.projected}[site](images)
        with torch.inference_mode():
            mixed = {name: v.mean(0, keepdim=True) if name in mask else v[:1] for name, v in outputs.items()}
            projected = full.model.project(mixed) if site == "encoder" else mixed
            expected = full.model.fuse(projected, [None])[0].embeddings
        torch.testing.assert_close(embeddings(subject, images[:1])[0], expected)
    reason = "do not lie at the same places" if site == "encoder" else "site=encoder"
    refused(written, reason, drop="clip", ablation="predicted", **options)


def test_a_dropped_convnext_s_repository_is_not_needed(written, tmp_path):
    subject = load((written[0], tmp_path), "convnext")
    assert set(subject.model.encoders) == {"clip"}
    refused((written[0], tmp_path), f"has no folder {re.escape(card.CONVNEXT_REPOSITORY)}")
    refused((written[0], tmp_path), "has no folder", drop="clip")


def test_batches_answer_as_single_prompts(full):
    prompts = [
        Prompt("What is this?", (picture(4),)),
        Prompt("Look: <image> Which shape is the largest of all?", (picture(5, (20, 80)),)),
        Prompt("Say something."),
    ]
    together = full.generate(prompts, 6)
    assert together == [full.generate([prompt], 6)[0] for prompt in prompts]
    assert together[0].prompt_tokens > tiny_mgm.VIEWS * tiny_mgm.SIDE**2 > together[2].prompt_tokens


def test_one_image_and_a_limit(full):
    two = Prompt("What?", (picture(1), picture(2)), "document 3")
    with pytest.raises(DataError, match="document 3: 2 images; this architecture takes 1"):
        full.generate([two], 2)
    with pytest.raises(DataError, match="document 4: .* tokens with its images; the model's limit is 200"):
        full.generate([Prompt("very " * 150, (picture(1),), "document 4")], 2)


# --- pixels --------------------------------------------------------------------------------------------------------


def test_clip_s_pixels_are_made_of_convnext_s(full):
    model, image = full.model, picture(6, (90, 40))
    pixels = model.preprocess([image, picture(7)], BOTH)
    assert pixels["convnext"].shape == (2, 3, 64, 64) and pixels["clip"].shape == (10, 3, 56, 56)
    large = F.interpolate(pixels["convnext"][:1], size=(112, 112), mode="bilinear", align_corners=False)
    for index in range(4):
        down, right = divmod(index, 2)
        part = large[0, :, 56 * down : 56 * (down + 1), 56 * right : 56 * (right + 1)]
        assert torch.equal(pixels["clip"][index], part)
    assert torch.equal(pixels["clip"][4], F.interpolate(large, size=(56, 56), mode="bilinear", align_corners=False)[0])
    assert set(model.preprocess([image], ("clip",))) == {"clip"}
    assert tuple(model.preprocess_uint8(image)[0, 0]) == (122, 116, 104), "padded with CLIP's mean colour"


@pytest.mark.parametrize("told", ["square", None, ...])
def test_images_are_cut_where_the_config_does_not_pad(written, full, tmp_path, told):
    subject = load(bent(written, tmp_path, image_aspect_ratio=told))
    flag = Image.new("RGB", (90, 30), (0, 0, 255))
    flag.paste((255, 0, 0), (0, 0, 30, 30))
    flag.paste((0, 255, 0), (60, 0, 90, 30))
    cut, padded = subject.model.preprocess_uint8(flag), full.model.preprocess_uint8(flag)
    assert (cut[2:-2, 2:-2] == (0, 0, 255)).all(), "of three squares the middle one"
    assert (padded[:18] == (122, 116, 104)).all() and (padded[24:40, :20] == (255, 0, 0)).all()


@pytest.mark.parametrize(
    "change, views",
    [
        ({"image_grid": 1, "image_global": False, "image_size_aux": 32}, 1),  # as the releases without HD
        ({"image_grid": ..., "image_global": ..., "image_size_aux": 32}, 1),
        ({"image_global": False}, 4),
        ({"image_grid": 4, "image_size_aux": 64, "tokenizer_model_max_length": None}, 17),
    ],
)
def test_other_views(written, tmp_path, change, views):
    subject = load(bent(written, tmp_path, **change))
    (visual,) = subject.visuals([picture(1)])
    assert visual.embeddings.shape == (views * tiny_mgm.SIDE**2, tiny_mgm.HIDDEN)
    assert subject.model.shapes("encoder")["clip"] == (views * tiny_mgm.SIDE**2, tiny_mgm.CHANNELS)
    for drop in (*BOTH, "all"):
        assert not torch.equal(embeddings(load(bent(written, tmp_path / drop, **change), drop), [picture(1)])[0],
                               visual.embeddings)  # fmt: skip


# --- checkpoints ---------------------------------------------------------------------------------------------------


def test_convnext_comes_from_its_repository_unless_it_was_trained(written, full, tmp_path, caplog):
    image = [picture(1)]
    assert "differs" not in caplog.text, "the copy is rounded, no more"
    twice = lambda tensors: tensors.update({f"{AUX}stem.0.weight": tensors[f"{AUX}stem.0.weight"] * 2})  # noqa: E731
    other = load(bent(written, tmp_path / "frozen", twice))
    assert f"{AUX}stem.0.weight differs from" in caplog.text
    assert torch.equal(embeddings(other, image), embeddings(full, image))
    trained = load(
        bent(written, tmp_path / "trained", twice, optimize_vision_tower_aux=True), encoder_weights="nowhere"
    )
    assert not torch.allclose(embeddings(trained, image), embeddings(full, image), atol=1e-3)
    same = load(bent(written, tmp_path / "same", None, optimize_vision_tower_aux=True))
    torch.testing.assert_close(embeddings(same, image), embeddings(full, image), atol=0.05, rtol=0.05)
    assert registry.folders("mgm_masked", {"pretrained": tmp_path / "same" / "bent"}).keys() == {"checkpoint"}
    lost = lambda tensors: tensors.pop(f"{AUX}stem.0.weight")  # noqa: E731
    refused(bent(written, tmp_path / "lost", lost, optimize_vision_tower_aux=True), f"missing.*: {AUX}stem.0.weight")


def test_convnext_may_lie_where_the_original_code_has_it(written, full, tmp_path):
    shutil.copytree(written[1] / card.CONVNEXT_REPOSITORY, tmp_path / "OpenAI" / card.CONVNEXT)
    assert torch.equal(embeddings(load((written[0], tmp_path)), [picture(1)]), embeddings(full, [picture(1)]))


def test_repositories_of_other_encoders_are_refused(written, tmp_path):
    copy = tmp_path / card.CONVNEXT_REPOSITORY
    shutil.copytree(written[1] / card.CONVNEXT_REPOSITORY, copy)
    told = {"model_cfg": {"vision_cfg": {"timm_model_name": "convnext_base"}}}
    (copy / "open_clip_config.json").write_text(json.dumps(told))
    refused((written[0], tmp_path), "holds timm model 'convnext_base'; expected 'convnext_large'")


@pytest.mark.parametrize(
    "told",
    [
        {"architectures": ["MiniGeminiLlamaForCausalLM"]},
        {"architectures": ["MGMLlamaForCausalLM"], "model_type": "mgm"},
        {"architectures": ..., "model_type": "mini_gemini"},
    ],
)
def test_checkpoints_are_told_by_what_their_config_says(written, tmp_path, told):
    folder, _ = bent(written, tmp_path, **told)
    assert registry.encoders_of("mgm_masked", str(folder)) == BOTH
    takes = []
    for family in registry.FAMILIES.values():
        try:
            family.encoders(hub.read_config(folder))
        except SetupError:
            continue
        takes.append(family.model_id)
    assert takes == ["mgm_masked"]


@pytest.mark.parametrize(
    "change, match",
    [
        ({"architectures": ...}, "not an MGM checkpoint on Llama .*: model_type is None .* architectures is None"),
        ({"architectures": ["MGMMixtralForCausalLM"]}, "on Llama .* architectures is .'MGMMixtralForCausalLM'"),
        ({"model_type": "mgm_gemma"}, "on Llama .* model_type is 'mgm_gemma'"),
        ({"model_type": "llava"}, "not an MGM checkpoint on Llama"),
        (
            {"mm_vision_tower": "x/eva-vit-g"},
            "mm_vision_tower is 'x/eva-vit-g'; the only one that is known here is clip",
        ),
        ({"mm_vision_tower": ...}, "mm_vision_tower is None"),
        ({"mm_vision_tower_aux": "a/openclip-convnext-base-w-320"}, "mm_vision_tower_aux is .* known here is openclip"),
        ({"image_global": True, "image_grid": 1}, "image_global is true, but image_grid is 1"),
        ({"image_size_aux": 80}, "image_size_aux 80 does not fit 2 x 2 crops of 4 x 4 tokens"),
        ({"image_grid": 3}, "image_size_aux 64 does not fit 3 x 3 crops"),
        ({"image_size_aux": ...}, "lacks image_size_aux"),
        ({"mm_hidden_size": 8}, "mm_hidden_size is 8, but its encoder has 16 channels"),
        ({"mm_hidden_size_aux": 2880}, "mm_hidden_size_aux is 2880, but its encoder has 30 channels"),
        ({"mm_projector_type": "linear"}, "mm_projector_type must be mlp2x_gelu; not 'linear'"),
        ({"mm_projector_type": ...}, "lacks mm_projector_type"),
        ({"mm_vision_select_feature": "cls_patch"}, "mm_vision_select_feature must be patch"),
        ({"mm_vision_select_layer": -9}, "CLIP has 3 layers; there is no hidden state -9"),
        ({"aux_img_fold": True}, "aux_img_fold must be False"),
        ({"aux_with_fpn": True}, "aux_with_fpn must be False"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end must be False"),
        ({"vision_fpn": 3}, "vision_fpn is 3, a setting that is not known here"),
    ],
)
def test_configs_that_are_refused(written, tmp_path, change, match):
    refused(bent(written, tmp_path, **change), match)


def test_tensors_that_nothing_reads_are_refused(written, tmp_path):
    def add(tensors):
        tensors["model.vision_fpn.weight"] = torch.zeros(3)

    refused(bent(written, tmp_path, add), "model.vision_fpn.weight")


class Words:
    """A tokenizer with some special tokens."""

    eos_token_id = 7

    def __init__(self, *tokens):
        self.tokens = tokens

    def get_vocab(self):
        return {token: index for index, token in enumerate(self.tokens)}

    def convert_tokens_to_ids(self, token):
        return self.get_vocab()[token]


def test_the_template_is_that_of_the_evaluation_scripts(full):
    llama, chatml = Words("<|start_header_id|>", "<|eot_id|>"), Words("<|im_start|>")
    assert full.model.template_for(Words()) == "vicuna_v1" and full.model.ends(Words()) == ()
    assert full.model.template_for(llama) == "mgm_llama_3" and full.model.ends(llama) == (7, 1)
    assert full.model.template_for(chatml) == "", "of the 34B model, which is not known here"
    with pytest.raises(SetupError, match="trained with a template that is not known here"):
        loading.told_template(chatml, full.model)
    text = templates.template("mgm_llama_3").render(["<image>\nWhat?"])
    assert text.count("<|begin_of_text|>") == 0 and text.endswith("<|start_header_id|>system<|end_header_id|>\n\n")
    assert isinstance(full, native.MaskedModel) and full.template is templates.template("vicuna_v1")
