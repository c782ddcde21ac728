"""The I-MoF family and the encoders that lie in repositories of their own."""

import gzip
import json
import re
import shutil
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModel, Dinov2Config, Dinov2Model

from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.encoders import hub_towers, open_clip_towers
from redundancy_eval.model_wrappers.families import base, templates
from redundancy_eval.model_wrappers.families import recording as recordings
from redundancy_eval.model_wrappers.families.imof import card as imof_card
from redundancy_eval.model_wrappers.families.imof import model as imof
from redundancy_eval.model_wrappers.masking import native
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.conftest import golden
from tests.helpers import tiny_imof
from tests.helpers.bent import bent_pair as bent
from tests.helpers.bent import embeddings, load_pair, refused_pair
from tests.helpers.pictures import picture

pytestmark = pytest.mark.models
load, refused = (partial(function, "imof_masked") for function in (load_pair, refused_pair))
BOTH = ("clip", "dinov2")
SITES = ("encoder", "projected")
RECORDED_TOWERS = {  # recording, encoder -> class, repository, sizes that no config holds, settings
    ("imof/vicuna_tiny", "clip"): (hub_towers.ClipTower, tiny_imof.CLIP, {}, {}),
    ("imof/vicuna_tiny", "dinov2"): (
        hub_towers.DinoTower, imof_card.DINO, dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4),
        dict(before_norm=True),
    ),
    ("cambrian/llama3_tiny", "clip"): (hub_towers.ClipTower, tiny_imof.CLIP, {}, {}),
    ("cambrian/llama3_tiny", "dinov2"): (
        hub_towers.DinoTower, "facebook/dinov2-giant", {}, dict(input_size=378, grid=24),
    ),
    ("cambrian/llama3_tiny", "siglip"): (
        open_clip_towers.SiglipTower, "timm/ViT-SO400M-14-SigLIP-384", dict(embed_dim=40, depth=3, num_heads=4), {},
    ),
    ("cambrian/llama3_tiny", "convnext"): (
        open_clip_towers.ConvNextTower, "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-soup",
        dict(depths=(1, 1, 2, 1), dims=(6, 8, 12, 16)), {},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return tiny_imof.write(tmp_path_factory.mktemp("tiny") / "imof")


@pytest.fixture(scope="module")
def full(written):
    return load(written)


# --- against the original code -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_parity_with_recorded_tensors(capsys):
    assert main(["parity", str(golden("imof", "vicuna_tiny"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("FAIL") or "refused" in line]
    errors = [float(line.split()[1]) for line in lines if line.startswith("ok") and "e-" in line.split()[1]]
    assert len(errors) > 60 and max(errors) < 1e-5
    found = {match[1] for line in lines if (match := re.search(r"  [abc] (\S+): all  ", line))}
    zeros = {f"zero_{site}:{which}" for site in ("tower", "proj") for which in ("clip", "dinov2", "all")}
    assert found == {"nomask", *zeros}


def test_full_size_names_and_shapes():
    with gzip.open(golden("imof", "manifests") / "manifest_imof-llava-v1.5-13b.json.gz", "rt") as handle:
        manifest = json.load(handle)
    with torch.device("meta"):
        model = imof.IMof(manifest["config"])
        clip, dino = hub_towers.ClipTower(), hub_towers.DinoTower(before_norm=True)
    ours = {own: tuple(value.shape) for own, value in model.state_dict().items() if not own.startswith("encoders.")}
    renamed = {model.rename(entry["name"]): tuple(entry["shape"]) for entry in manifest["entries"]}
    renamed.pop(None)
    assert renamed == ours
    unread = [entry for entry in manifest["entries"] if not entry["read_from_checkpoint_by_upstream"]]
    assert unread and not any(model.rename(entry["name"]) for entry in unread)
    assert model.shapes("encoder") == {"clip": (576, 1024), "dinov2": (576, 1024)}
    assert model.shapes("projected") == {"clip": (576, 5120), "dinov2": (576, 5120)}
    # The encoders' tensors, in the names of their own releases.
    for prefix, tower, whole in (
        ("model.vision_tower.vision_tower.", clip, False),
        ("model.dino_tower.vision_tower.", dino, True),
    ):
        shapes = {e["name"].removeprefix(prefix): tuple(e["shape"]) for e in unread if e["name"].startswith(prefix)}
        assert fitted(tower, shapes) == {own: tuple(value.shape) for own, value in tower.state_dict().items()}
        skipped = [name for name in shapes if tower.rename(name) is None]
        assert all(re.match(r"mask_token|norm\." if whole else r".*(layers\.23|post_layernorm)\.", n) for n in skipped)


def fitted(tower, shapes):
    """Own names and shapes of released tensors."""
    found = {}
    for released, shape in shapes.items():
        target = tower.rename(released)
        if target is None:
            continue
        for own, part in ({target: lambda value: value} if isinstance(target, str) else target).items():
            assert own not in found
            found[own] = tuple(part(torch.empty(shape, device="meta")).shape)
    return found


# --- encoders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("recording", "name"), RECORDED_TOWERS, ids=["-".join(key) for key in RECORDED_TOWERS])
@pytest.mark.slow
def test_recorded_towers(recording, name):
    kind, repository, sizes, settings = RECORDED_TOWERS[recording, name]
    folder = golden(*recording.split("/"))
    weights = hub.locate_encoder(repository, folder / "towers")
    with torch.device("meta"):
        tower = kind({**kind.sizes(weights), **sizes}, **settings)
    base.fill(tower, weights, torch.float32, "cpu")
    image = Image.open(folder / "inputs" / "a.png")
    # I-MoF's DINOv2 sees CLIP's pixels.
    pixels = (tower if recording.startswith("cambrian") else hub_towers.ClipTower()).preprocess([image])
    expected = load_file(folder / "expected" / "a.safetensors")[f"nomask/tower/{name}"]
    with torch.inference_mode():
        got = tower(pixels)
    assert got.shape == (1, tower.tokens, tower.channels)
    assert recordings.relative_error(got[0], expected) < 1e-5


@pytest.mark.parametrize(
    ("kind", "manifest", "sizes", "settings", "skipped"),
    [
        (hub_towers.ClipTower, "clip", {}, {}, r".*(layers\.23|post_layernorm)\."),
        (
            hub_towers.DinoTower, "dinov2-giant",
            dict(hidden_size=1536, num_hidden_layers=40, num_attention_heads=24, use_swiglu_ffn=True),
            dict(input_size=378, grid=24), r"embeddings\.mask_token$",
        ),
        (open_clip_towers.SiglipTower, "siglip", {}, {}, r"attn_pool\."),
        (open_clip_towers.ConvNextTower, "convnext-xxlarge", {}, {}, r"head\."),
    ],
)  # fmt: skip
def test_full_size_towers(kind, manifest, sizes, settings, skipped):
    with gzip.open(golden("cambrian", "manifests") / f"manifest_tower_{manifest}.json.gz", "rt") as handle:
        listed = json.load(handle)
    prefix = listed["prefix_in_hub_file"]
    shapes = {prefix + entry["name"]: tuple(entry["shape"]) for entry in listed["entries"]}
    with torch.device("meta"):
        tower = kind(sizes, **settings)
    assert fitted(tower, shapes) == {own: tuple(value.shape) for own, value in tower.state_dict().items()}
    rest = [name.removeprefix(prefix) for name in shapes if tower.rename(name) is None]
    assert rest and all(re.match(skipped, name) for name in rest)
    released = {"clip": (576, 1024), "dinov2": (576, 1536), "siglip": (576, 1152), "convnext": (9216, 5760)}
    assert (tower.tokens, tower.channels) == released[manifest.partition("-")[0]]


def test_towers_compute_what_transformers_does(written):
    _, weights = written
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))

    def run(kind, repository, **settings):
        with torch.device("meta"):
            tower = kind(kind.sizes(weights / repository), **settings)
        base.fill(tower, weights / repository, torch.float32, "cpu")
        with torch.inference_mode():
            return tower(pixels)

    clip = CLIPVisionModel.from_pretrained(weights / tiny_imof.CLIP).eval()
    dino = Dinov2Model.from_pretrained(weights / imof_card.DINO).eval()
    with torch.inference_mode():
        states = clip(pixels, output_hidden_states=True).hidden_states
        output = dino(pixels, output_hidden_states=True)
    for layer in (-1, -2, 1):
        torch.testing.assert_close(run(hub_towers.ClipTower, tiny_imof.CLIP, select_layer=layer), states[layer][:, 1:])
    plain = dict(input_size=56, positions="size")
    torch.testing.assert_close(run(hub_towers.DinoTower, imof_card.DINO, **plain), output.last_hidden_state[:, 1:])
    before = run(hub_towers.DinoTower, imof_card.DINO, **plain, before_norm=True)
    torch.testing.assert_close(before, output.hidden_states[-1][:, 1:])
    assert not torch.allclose(
        run(hub_towers.DinoTower, imof_card.DINO, input_size=56, before_norm=True), before, atol=1e-2
    )
    assert run(hub_towers.DinoTower, imof_card.DINO, **plain, grid=3).shape == (2, 9, tiny_imof.CHANNELS)


@pytest.mark.parametrize("swiglu", [False, True])
def test_dino_weights_of_the_original_release(tmp_path, swiglu):
    sizes = {**tiny_imof.DINO, "use_swiglu_ffn": swiglu}
    module = Dinov2Model(Dinov2Config(**sizes))
    tiny_imof.randomise(module)
    module.save_pretrained(tmp_path / imof_card.DINO)
    theirs, original = load_file(tmp_path / imof_card.DINO / "model.safetensors"), {}
    for name, value in theirs.items():
        name = re.sub(r"^embeddings\.((cls|mask)_token)", r"\1", name.replace("encoder.layer.", "blocks."))
        name = name.replace("embeddings.position_embeddings", "pos_embed").replace("layernorm.", "norm.")
        name = name.replace("embeddings.patch_embeddings.projection", "patch_embed.proj")
        name = name.replace("attention.output.dense", "attn.proj").replace("weights_in", "w12")
        name = re.sub(r"layer_scale(\d)\.lambda1", r"ls\1.gamma", name.replace("weights_out", "w3"))
        original[name] = value
    for name in [name for name in original if ".query." in name]:
        parts = [original.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        original[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    file = tmp_path / "original" / "facebookresearch" / "dinov2" / "dinov2_vitl14_pretrain.pth"
    file.parent.mkdir(parents=True)
    torch.save(original, file)
    outputs = []
    for root in (tmp_path, tmp_path / "original"):
        weights = hub.locate_encoder(imof_card.DINO, root)
        with torch.device("meta"):
            tower = hub_towers.DinoTower({**sizes, **hub_towers.DinoTower.sizes(weights)}, input_size=56)
        base.fill(tower, weights, torch.float32, "cpu")
        with torch.inference_mode():
            outputs.append(tower(torch.ones(1, 3, 56, 56)))
    assert torch.equal(*outputs)


def test_towers_refuse_other_repositories(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    for kind in (hub_towers.ClipTower, hub_towers.DinoTower):
        with pytest.raises(SetupError, match="model_type is 'siglip'"):
            kind.sizes(tmp_path)
    with pytest.raises(SetupError, match=r"open_clip_config\.json is missing"):
        open_clip_towers.SiglipTower.sizes(tmp_path)
    (tmp_path / "open_clip_config.json").write_text(
        '{"model_cfg": {"vision_cfg": {"timm_model_name": "convnext_base"}}}'
    )
    with pytest.raises(SetupError, match="holds timm model 'convnext_base'; expected 'convnext_xxlarge'"):
        open_clip_towers.ConvNextTower.sizes(tmp_path)
    with pytest.raises(SetupError, match="no weights in .*: expected open_clip_model.safetensors or open_clip_pyt"):
        hub.weight_files(tmp_path)
    with pytest.raises(SetupError, match="positions of DINOv2 must be one of offset, size; not 'bicubic'"):
        hub_towers.DinoTower(tiny_imof.DINO, positions="bicubic")
    with pytest.raises(SetupError, match="CLIP has 3 layers; there is no hidden state -5"):
        hub_towers.ClipTower(dict(num_hidden_layers=3), select_layer=-5)


def test_open_clip_weights_are_downloaded_one_kind_only(tmp_path, monkeypatch):
    asked = []

    def download(repo, revision=None, allow_patterns=None):
        asked.append(allow_patterns)
        for name in {"*.json": ["open_clip_config.json"]}.get(allow_patterns[0], allow_patterns):
            if name != "open_clip_model.safetensors":  # what this repository lacks
                (tmp_path / name).write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert hub.locate_encoder("timm/ViT-SO400M-14-SigLIP-384") == tmp_path
    assert asked[1:] == [["open_clip_model.safetensors"], ["open_clip_pytorch_model.bin"]]
    assert hub.weight_files(tmp_path) == [tmp_path / "open_clip_pytorch_model.bin"]


# --- masks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("mask", [("clip",), ("dinov2",), BOTH])
def test_skipping_is_bit_identical_to_running_and_zeroing(written, full, mask, site):
    images = [picture(1), picture(2, (40, 90))]
    features = full.features(images)
    zeroed = {name: torch.zeros_like(v) if name in mask and site == "encoder" else v for name, v in features.items()}
    with torch.inference_mode():
        tokens = full.model.project(zeroed)
        tokens = {n: torch.zeros_like(v) if n in mask and site == "projected" else v for n, v in tokens.items()}
        expected = torch.stack([visual.embeddings for visual in full.model.fuse(tokens, [None, None])])
    subject = load(written, "+".join(mask), site=site)
    assert subject.mask == mask and set(subject.model.encoders) == set(BOTH) - set(mask)
    assert torch.equal(embeddings(subject, images), expected)
    assert not torch.equal(expected, embeddings(full, images))
    # What shapes() says is what the encoders and the projectors give.
    outputs = {"encoder": features, "projected": full.projected(images)}[site]
    assert {name: tuple(value.shape[1:]) for name, value in outputs.items()} == full.model.shapes(site)


def test_clip_has_the_even_tokens_and_dinov2_the_odd_ones(written, full):
    images = [picture(3)]
    whole, projected = embeddings(full, images), full.projected(images)
    assert whole.shape == (1, 2 * tiny_imof.GRID**2, tiny_imof.HIDDEN)
    assert torch.equal(whole[:, 0::2], projected["clip"]) and torch.equal(whole[:, 1::2], projected["dinov2"])
    # Behind the projector a dropped encoder's tokens are zero; before it they are its answer to zero.
    behind = embeddings(load(written, "dinov2", site="projected"), images)
    assert not behind[:, 1::2].any() and torch.equal(behind[:, 0::2], whole[:, 0::2])
    before = embeddings(load(written, "dinov2"), images)[:, 1::2]
    assert before.any() and torch.equal(before, before[:, :1].expand_as(before))


def test_a_dropped_encoder_s_repository_is_not_needed(written, tmp_path):
    folder, weights = written
    shutil.copytree(weights / tiny_imof.CLIP, tmp_path / tiny_imof.CLIP)
    subject = load((folder, tmp_path), "dinov2")
    assert not [name for name, _ in subject.model.named_parameters() if name.startswith("encoders.dinov2")]
    refused((folder, tmp_path), "encoder_weights=.* has no folder facebook/dinov2-large")
    refused((folder, tmp_path), f"encoder_weights=.* has no folder {tiny_imof.CLIP}", drop="dinov2",
            encoder_weights=str(tmp_path / "none"))  # fmt: skip
    refused(written, f"cannot get {tiny_imof.CLIP} from the hub", encoder_weights=None)
    # With both dropped there is nothing to look for.
    assert load((folder, tmp_path / "none"), "all").mask == BOTH


def test_image_modes(written):
    wide = picture(4, (112, 56))
    pad, crop = load(written).model, load(written, image_mode="crop").model
    padded = pad.preprocess_uint8(wide)
    assert padded[0, 0].tolist() == padded[-1, -1].tolist() == [122, 116, 104]
    assert np.array_equal(crop.preprocess_uint8(wide), np.asarray(wide)[:, 28:84])
    assert np.array_equal(crop.preprocess_uint8(picture(4, (56, 56))), pad.preprocess_uint8(picture(4, (56, 56))))
    refused(written, "image_mode must be one of pad, crop; not 'squash'", image_mode="squash")


# --- loading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["model.mm_projector", "model.dino_mm_projector"])
def test_a_checkpoint_without_a_projector_is_refused(written, tmp_path, prefix):
    def remove(tensors):
        for name in [name for name in tensors if name.startswith(f"{prefix}.")]:
            del tensors[name]

    refused(bent(written, tmp_path, remove), rf"4 tensors are missing from the checkpoint: {prefix}\.0\.bias, ")


def test_encoders_in_the_checkpoint_are_not_read(written):
    folder, weights = written
    _, _, report = imof.IMof.load(folder, encoder_weights=weights)
    assert report.skipped == 4


def test_missing_encoder_tensors_are_listed(written, tmp_path):
    folder, weights = written
    shutil.copytree(weights, tmp_path / "towers")
    file = tmp_path / "towers" / imof_card.DINO / "model.safetensors"
    tensors = load_file(file)
    del tensors["encoder.layer.1.layer_scale2.lambda1"]
    save_file(tensors, file)
    refused((folder, tmp_path / "towers"), r"1 tensors are missing.*: encoder\.layer\.1\.layer_scale2\.lambda1")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model_type": "eagle_llama"}, "not an I-MoF checkpoint: model_type is 'eagle_llama'"),
        ({"mm_vision_tower": "google/siglip"}, "not an I-MoF checkpoint"),
        ({"mm_projector_type": "linear"}, "mm_projector_type must be mlp2x_gelu; not 'linear'"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end must be False; not True"),
        ({"mm_hidden_size": 7}, "clip gives 16 tokens of 16 channels at 56 px; the checkpoint expects 16 of 7 at 56"),
        ({"grid_size": 5}, "the checkpoint expects 25 of 16 at 56 px"),
    ],
)
def test_configs_that_are_not_ours(written, tmp_path, settings, match):
    refused(bent(written, tmp_path, **settings), match)


def test_other_mistakes(written):
    refused(written, "site must be one of encoder, projected for imof_masked; not 'fused'", site="fused")
    refused(written, "unknown encoder 'sam'; this model has: clip, dinov2", drop="sam")
    refused(written, "imof_masked has no argument 'colour'", colour="red")


def test_half_precision_runs_in_its_own_type(written):
    subject = load(written, "clip", dtype="bf16")
    assert {p.dtype for p in subject.model.parameters()} == {torch.bfloat16}
    assert embeddings(subject, [picture(1)]).dtype == torch.bfloat16


# --- prompts and answers -------------------------------------------------------------------------------------------


def test_templates(full):
    assert full.template is templates.TEMPLATES["vicuna_v1"]
    assert "a curious human and" in templates.template("llava_v1").render(["What?"])


@pytest.mark.parametrize(("drop", "site"), [(None, "encoder"), ("clip", "encoder"), ("dinov2", "projected")])
def test_batches_answer_as_single_prompts_do(written, drop, site):
    subject = load(written, drop, site=site)
    batch = [
        Prompt("What is written in the image?\nAnswer with one word.", (picture(1),)),
        Prompt("Say something."),
        Prompt("Where is the red circle?\nA. left\nB. right", (picture(2, (30, 60)),)),
    ]
    together = subject.generate(batch, 8)
    assert together == [subject.generate([prompt], 8)[0] for prompt in batch]
    scored = subject.loglikelihood(batch, [" red", " 3", " A"])
    for (total, greedy), prompt, word in zip(scored, batch, [" red", " 3", " A"], strict=True):
        assert subject.loglikelihood([prompt], [word])[0] == (pytest.approx(total, abs=1e-4), greedy)


def test_several_images_are_refused(full):
    prompt = Prompt("What changed?", (picture(1), picture(2)), "muirbench document 3")
    with pytest.raises(DataError, match="muirbench document 3: 2 images; this architecture takes 1"):
        full.generate([prompt], 2)


def test_the_first_image_may_be_kept(full):
    kept = native.MaskedModel(full.model, full.tokenizer, template=full.template, eos=full.eos, many_images="first")
    two = Prompt("What changed?", (picture(1), picture(2)), "muirbench document 3")
    assert kept.generate([two], 4) == full.generate([Prompt("What changed?", (picture(1),))], 4)
    assert kept.first == ["muirbench document 3"]
    with pytest.raises(SetupError, match="many_images must be error or first"):
        native.MaskedModel(full.model, full.tokenizer, many_images="all", template=full.template)
