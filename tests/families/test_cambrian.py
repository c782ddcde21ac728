"""The Cambrian-1 family: loading with encoders of their own, masks at two sites, updates inside the language model."""

import gzip
import json
import re
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from PIL import Image
from safetensors.torch import load_file, save_file

from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.families import language_models, templates
from redundancy_eval.model_wrappers.families import recording as recordings
from redundancy_eval.model_wrappers.families.cambrian import card as cambrian_card
from redundancy_eval.model_wrappers.families.cambrian import model as cambrian
from redundancy_eval.model_wrappers.families.cambrian import sva
from redundancy_eval.model_wrappers.families.cambrian.recording import CambrianRecording
from redundancy_eval.model_wrappers.masking import loading, native
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.conftest import golden
from tests.helpers import tiny_cambrian

RECORDING = CambrianRecording(cambrian_card.FAMILY)
pytestmark = pytest.mark.models
NAMES = ("siglip", "clip", "dinov2", "convnext")
MASKS = [*((name,) for name in NAMES), *combinations(NAMES, 2), NAMES]
SITES = ("encoder", {}), ("projected", {"global_context": "keep"}), ("projected", {"global_context": "zero"})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tiny_cambrian.write(tmp_path_factory.mktemp("tiny") / "cambrian")


@pytest.fixture(scope="module")
def full(folders):
    return load(folders)


@pytest.fixture(scope="module")
def phi3(tmp_path_factory):
    return load(tiny_cambrian.write(tmp_path_factory.mktemp("tiny") / "phi3", "phi3"))


def load(folders, drop=None, **options):
    folder, weights = folders
    return loading.load("cambrian_masked", str(folder), drop, device="cpu", encoder_weights=str(weights), **options)


def picture(seed, size=(70, 50)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def pictures():
    return [picture(1), picture(2, (40, 90)), picture(3, (64, 64))]


def equal(ours, others):
    """Bit-identical, with what the language model's samplers see."""
    return len(ours) == len(others) and all(
        torch.equal(a.embeddings, b.embeddings)
        and all(map(torch.equal, (*a.extra.features, *a.extra.allowed), (*b.extra.features, *b.extra.allowed)))
        and torch.equal(a.extra.context, b.extra.context)
        for a, b in zip(ours, others, strict=True)
    )


# --- against the original code -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_parity_with_recorded_tensors(capsys):
    assert main(["parity", str(golden("cambrian", "llama3_tiny"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("FAIL") or "refused" in line]
    errors = [float(line.split()[1]) for line in lines if line.startswith("ok") and "e-" in line.split()[1]]
    assert len(errors) > 200 and max(errors) < 1e-5
    conditions = {line.split(": all")[0].split(maxsplit=3)[-1] for line in lines if line.rstrip().endswith("tensors")}
    assert {"nomask", "zero_aux:all", "zero_tower:all", "zero_aux:siglip+clip", "zero_tower:siglip"} <= conditions
    assert any("d nomask llm_sva1/queries_out" in line for line in lines)


def test_parity_knows_its_conditions(full):
    condition = RECORDING.condition
    assert condition("zero_tower:all", full.model) == recordings.Condition(NAMES)
    zeroed = recordings.Condition(("clip",), "projected", {"global_context": "zero"})
    assert condition("zero_aux:clip", full.model) == zeroed
    for text in ("mean:clip", "zero_aux:sam", "all"):
        with pytest.raises(SetupError, match="no such condition|has no condition"):
            condition(text, full.model)


def test_a_recorded_prompt_with_the_image_elsewhere_is_refused():
    folder = golden("cambrian", "llama3_tiny")
    model, tokenizer, report = RECORDING.load(folder / "checkpoint")
    assert report.skipped == 0 and model.template == "llama_3"
    subject = native.MaskedModel(model, tokenizer, template=templates.TEMPLATES["llama_3"])
    inputs = json.loads((folder / "inputs" / "inputs.json").read_text())["inputs"]
    image = picture(1)
    for name in ("a", "b"):
        entry = inputs[name]
        assert subject.prompt_ids(Prompt(entry["messages"][0], (image,), name)) == entry["input_ids"]
    with pytest.raises(DataError, match="d: image at token 258, but this checkpoint takes one image, at token 248"):
        subject.prompt_ids(Prompt(inputs["d"]["messages"][0], (image,), "d"))


@pytest.mark.parametrize("name", ["cambrian-8b", "cambrian-13b", "cambrian-phi3-3b"])
def test_full_size_names_and_shapes(name):
    with gzip.open(golden("cambrian", "manifests") / f"manifest_{name}.json.gz", "rt") as handle:
        manifest = json.load(handle)
    kind = "cambrian_phi3" if "phi3" in name else "cambrian_llama"
    with torch.device("meta"):
        model = cambrian.Cambrian({**manifest["config"], "model_type": kind})
    ours = {own: tuple(value.shape) for own, value in model.state_dict().items()}
    shapes = {entry["name"]: tuple(entry["shape"]) for entry in manifest["entries"]}
    assert {model.rename(released): shape for released, shape in shapes.items()} == ours
    assert {model.release(own) for own in ours} == set(shapes)
    assert model.shapes("encoder") == {
        "siglip": (576, 1152), "clip": (576, 1024), "dinov2": (576, 1536), "convnext": (9216, 5760),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"), list(zip(("siglip", "clip", "dinov2-giant", "convnext-xxlarge"), NAMES, strict=True))
)
def test_full_size_encoders(name, kind):
    with gzip.open(golden("cambrian", "manifests") / f"manifest_tower_{name}.json.gz", "rt") as handle:
        manifest = json.load(handle)
    assert manifest["hub_id"] == cambrian_card.REPOSITORIES[kind]
    with torch.device("meta"):
        grid = 96 if kind == "convnext" else 24
        tower = cambrian.build_tower(kind, cambrian.RELEASED[kind], grid, -2, "offset", "sdpa")
    found = {}
    for entry in manifest["entries"]:
        target = tower.rename(manifest["prefix_in_hub_file"] + entry["name"])
        parts = target if isinstance(target, Mapping) else {target: lambda whole: whole}
        whole = torch.empty(entry["shape"], device="meta")
        found |= {own: tuple(part(whole).shape) for own, part in parts.items() if own}
    assert found == {own: tuple(value.shape) for own, value in tower.state_dict().items()}
    assert tower.input_size == {"siglip": 384, "clip": 336, "dinov2": 378, "convnext": 1024}[kind]


# --- masks at both sites -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", MASKS, ids="+".join)
@pytest.mark.parametrize(("site", "settings"), SITES, ids=("encoder", "keep", "zero"))
def test_skipping_is_bit_identical_to_running_and_zeroing(full, mask, site, settings):
    model, images = full.model, pictures()
    features = full.features(images)
    with torch.inference_mode():
        if site == "encoder":
            features = {k: torch.zeros_like(v) if k in mask else v for k, v in features.items()}
        projected = model.project(features)
        if site == "projected":
            gone = {*mask, "global_context"} if settings["global_context"] == "zero" and "siglip" in mask else set(mask)
            projected = {k: torch.zeros_like(v) if k in gone else v for k, v in projected.items()}
        expected = model.fuse(projected, model.layouts(images))
    ran = []
    handles = [
        tower.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, tower in model.encoders.items()
    ]
    subject = native.MaskedModel(model, full.tokenizer, mask, template=full.template, site=site, settings=settings)
    got = subject.visuals(images)
    for handle in handles:
        handle.remove()
    assert equal(got, expected) and not equal(got, full.visuals(images))
    kept = [name for name in NAMES if name not in mask]
    context = site == "projected" and settings["global_context"] == "keep"
    assert ran == (["siglip", *kept] if context and "siglip" in mask else kept)


def test_dropped_encoders_are_not_loaded(folders, full):
    images = pictures()
    for drop, site, settings, there in (
        ("clip+convnext", "encoder", {}, {"siglip", "dinov2"}),
        ("siglip+dinov2", "projected", {}, {"siglip", "clip", "convnext"}),
        ("siglip+dinov2", "projected", {"global_context": "zero"}, {"clip", "convnext"}),
        ("siglip+dinov2", "encoder", {}, {"clip", "convnext"}),
        ("all", "encoder", {}, set()),
    ):
        subject = load(folders, drop, site=site, **settings)
        assert set(subject.model.encoders) == there
        running = native.MaskedModel(
            full.model, full.tokenizer, subject.mask, site=site, settings=settings, template=full.template
        )
        assert equal(subject.visuals(images), running.visuals(images))
    assert equal(load(folders, "none").visuals(images), full.visuals(images))


def test_the_authors_mask_of_siglip_keeps_the_global_context(full):
    """No recording holds it: keys and values are zero as in `zero_aux`, the global context is the unmasked one."""
    model, images = full.model, pictures()
    plain = full.projected(images)
    subject = native.MaskedModel(model, full.tokenizer, ("siglip",), template=full.template, site="projected")
    got = subject.projected(images)
    assert torch.equal(got["global_context"], plain["global_context"]) and got["global_context"].any()
    assert torch.equal(got["global_context"][:, 0], plain["siglip"].mean(1))
    assert not got["siglip"].any()
    assert all(torch.equal(got[name], plain[name]) for name in NAMES[1:])
    composed = {**plain, "siglip": torch.zeros_like(plain["siglip"])}
    with torch.inference_mode():
        assert equal(subject.visuals(images), model.fuse(composed, model.layouts(images)))
    (prompt,) = [Prompt("What is it?", (images[0],))]
    scores = []
    for site, context in (("projected", "keep"), ("projected", "zero"), ("encoder", "keep")):
        one = native.MaskedModel(
            model, full.tokenizer, ("siglip",), template=full.template, site=site,
            settings={"global_context": context},
        )  # fmt: skip
        scores.append(one.loglikelihood([prompt], [" a red circle"])[0][0])
    scores.append(full.loglikelihood([prompt], [" a red circle"])[0][0])
    assert len(set(scores)) == 4


def test_a_mask_before_the_projector_leaves_a_constant(full):
    """Zero features become one token, the same for all positions and images; so does SigLIP's global context."""
    for name in NAMES:
        projected = native.MaskedModel(full.model, full.tokenizer, (name,), template=full.template).projected(
            pictures()
        )
        assert projected[name].any() and torch.equal(
            projected[name], projected[name][:1, :1].expand_as(projected[name])
        )
        if name == "siglip":
            assert torch.allclose(projected["global_context"], projected[name][:, :1], atol=1e-6)


def test_shapes_are_those_of_what_runs(full):
    for site, outputs in (("encoder", full.features([picture(1)])), ("projected", full.projected([picture(1)]))):
        assert {name: tuple(value.shape[1:]) for name, value in outputs.items()} == full.model.shapes(site)


# --- grids, windows and padding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((512, 230), 24, (7, 0)), ((200, 440), 24, (0, 7)), ((360, 300), 24, (2, 0)), ((5, 5), 24, (0, 0)),
     ((512, 230), 96, (26, 0)), ((1000, 10), 24, (12, 0))],
)  # fmt: skip
def test_margins(size, side, expected):
    assert sva.margins(size, side) == expected


def test_windows_are_squares_of_the_map():
    tokens = torch.arange(64)[:, None]
    windows = sva.cut(tokens, 2)
    assert windows.shape == (2, 2, 16, 1)
    assert windows[0, 1, :, 0].tolist() == [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31]


def test_masks_are_rounded_on_the_encoder_s_own_grid():
    size = (512, 230)  # 24: rows 7 to 16 hold image; 96: rows 26 to 69
    coarse, fine = (sva.allowed(size, 24, r, torch.device("cpu")) for r in (1, 4))
    assert coarse.all()  # a window of one key is all padding or none
    assert fine[0, 0].all() and fine[10, 0].all()  # all padding is all allowed
    assert fine[6, 0].tolist() == [False] * 8 + [True] * 8  # the query is cropped, and its window reaches the image
    assert fine[17, 0].tolist() == [True] * 8 + [False] * 8


def test_padding_is_cropped_and_rows_end_with_newlines(full):
    for image in (picture(1, (80, 40)), picture(2, (40, 80)), picture(3, (64, 64))):
        (visual,) = full.visuals([image])
        rows, columns = full.model.grid(image.size)
        assert (rows, columns) == (visual.extra.rows, visual.extra.columns)
        grid = visual.embeddings.unflatten(0, (rows, columns + 1))
        assert torch.equal(grid[:, -1], full.model.image_newline.expand(rows, -1))
        assert [len(f) for f in visual.extra.features] == [rows * columns] * 4
    assert full.model.grid((80, 40)) == (2, 4) and full.model.grid((40, 80)) == (4, 2)


def test_an_extremely_long_image_leaves_nothing(full):
    image = picture(1, (200, 10))
    assert full.visuals([image])[0].embeddings.shape[0] == 0
    batch = [Prompt("What?", (image,)), Prompt("What?", (picture(2),))]
    assert full.generate(batch, 4) == [full.generate([prompt], 4)[0] for prompt in batch]


# --- inside the language model -------------------------------------------------------------------------------------


def prompts_of_all_kinds():
    return [
        Prompt("What is written in the image?\nAnswer with one word.", (picture(1),)),
        Prompt("How many shapes are there?", (picture(2, (30, 60)),)),
        Prompt("Say something."),
        Prompt("Where is it, seen from the blue square?\nA. left\nB. right", (picture(4, (64, 64)),)),
    ]


@pytest.fixture(params=["llama", "phi3"])
def subject(request):
    return request.getfixturevalue("full" if request.param == "llama" else "phi3")


def test_left_padded_batches_answer_as_single_prompts_do(subject):
    batch = prompts_of_all_kinds()
    together = subject.generate(batch, 12)
    assert together == [subject.generate([prompt], 12)[0] for prompt in batch]
    words = [" red", " 3", " blue circle", " A"]
    scored = subject.loglikelihood(batch, words)
    for (total, greedy), prompt, word in zip(scored, batch, words, strict=True):
        assert subject.loglikelihood([prompt], [word])[0] == (pytest.approx(total, abs=1e-4), greedy)


def test_beams_answer_as_single_prompts_do(full):
    batch = prompts_of_all_kinds()
    assert full.generate(batch, 5, num_beams=3) == [full.generate([p], 5, num_beams=3)[0] for p in batch]


def test_answers_are_those_of_full_passes(subject):
    """With the cache, decode steps do not touch the image's rows; without it, every pass updates them."""
    (prompt,) = prompts_of_all_kinds()[:1]
    (sequence,), visuals = subject.embed_prompts([prompt])
    table, tokens = subject.model.language_model.get_input_embeddings(), []
    with torch.inference_mode(), subject.model.prefill(visuals, [0]):
        for _ in range(6):
            inputs = torch.cat([sequence, table(torch.tensor(tokens, dtype=torch.long))])
            tokens.append(subject.model.language_model(inputs_embeds=inputs[None]).logits[0, -1].argmax().item())
    endless = native.MaskedModel(subject.model, subject.tokenizer, template=subject.template, eos=[-1])
    assert endless.generate([prompt], 6)[0].text == subject.tokenizer.decode(tokens, skip_special_tokens=True).strip()


def test_only_the_image_s_rows_are_updated_and_not_its_newlines(full):
    model = full.model
    batch = [prompts_of_all_kinds()[i] for i in (1, 2, 0)]
    sequences, visuals = full.embed_prompts(batch)
    inputs, attention = full.batch(sequences)
    offsets = (attention == 0).sum(-1).tolist()
    seen = {}

    def look(name):
        return model.language_model.model.layers[0].register_forward_hook(
            lambda layer, args, out: seen.__setitem__(name, out.clone())
        )

    with torch.inference_mode():
        before = look("before")
        with model.prefill(visuals, offsets):
            after = look("after")
            model.language_model(inputs_embeds=inputs, attention_mask=attention)
            after.remove()
        before.remove()
    changed = (seen["before"] != seen["after"]).any(-1)
    for row, (own, offset) in enumerate(zip(visuals, offsets, strict=True)):
        expected = torch.zeros_like(changed[row])
        for visual in own:
            rows, columns = visual.extra.rows, visual.extra.columns
            start = offset + model.image_position
            expected[start : start + rows * (columns + 1)] = True
            expected[start + columns : start + rows * (columns + 1) : columns + 1] = False
        assert torch.equal(changed[row], expected)
    assert max(offsets) > 0 and visuals[1] == []


def test_hooks_are_gone_after_the_pass_and_after_a_failure(full):
    layers = full.model.language_model.model.layers
    prompt = prompts_of_all_kinds()[0]
    full.generate([prompt], 2)
    assert not [layer for layer in layers if layer._forward_hooks]
    _, visuals = full.embed_prompts([prompt])
    with pytest.raises(RuntimeError, match="in the middle"), full.model.prefill(visuals, [0]):
        assert [i for i, layer in enumerate(layers) if layer._forward_hooks] == [0, 2]
        raise RuntimeError("in the middle")
    assert not [layer for layer in layers if layer._forward_hooks]
    with full.model.prefill([[]], [0]):
        assert not [layer for layer in layers if layer._forward_hooks]


def test_prompts_that_the_architecture_can_t_run_are_refused(full):
    image = picture(1)
    with pytest.raises(
        DataError, match="gqa 7: image at token 3[0-9], but this checkpoint takes one image, at token 32"
    ):
        full.generate([Prompt("Is <image> red?", (image,), "gqa 7")], 2)
    with pytest.raises(DataError, match="mmmu 3: 2 images; this architecture takes 1"):
        full.generate([Prompt("Which?", (image, image), "mmmu 3")], 2)
    cutting = native.MaskedModel(full.model, full.tokenizer, long_prompt="cut", template=full.template)
    cutting.model.max_length, most = 40, cutting.model.max_length
    try:
        with pytest.raises(DataError, match="cut within its image"):
            cutting.generate([Prompt("What?", (image,))], 2)
    finally:
        full.model.max_length = most
    assert full.generate([Prompt("Is it red?")], 2)[0].new_tokens


def test_phi3_checkpoints(phi3):
    config = phi3.model.language_model.config
    assert (
        phi3.template is templates.TEMPLATES["phi3"] and config.model_type == "phi3" and config.sliding_window is None
    )
    assert language_models.phi3({**tiny_cambrian.config("phi3"), "sliding_window": 7}).sliding_window == 7
    text = templates.TEMPLATES["phi3"].render(["<image>\nWhat?"])
    assert text == (
        "<|system|>\nYou are a helpful AI assistant.<|end|>\n<|user|>\n<image>\nWhat?<|end|>\n<|assistant|>\n"
    )


# --- loading -------------------------------------------------------------------------------------------------------


def bent(folders, tmp_path, change_tensors=None, **settings):
    copy = tmp_path / "bent"
    copy.mkdir()
    for path in folders[0].iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    config = {**json.loads((copy / "config.json").read_text()), **settings}
    kept = {key: value for key, value in config.items() if value is not None}
    (copy / "config.json").write_text(json.dumps(kept))
    if change_tensors:
        tensors = load_file(copy / "model.safetensors")
        change_tensors(tensors)
        save_file(tensors, copy / "model.safetensors")
    return copy, folders[1]


def refused(folders, match, **options):
    with pytest.raises(SetupError, match=match) as error:
        load(folders, **options)
    assert "\n" not in str(error.value)


def test_missing_and_unexpected_tensors(folders, tmp_path):
    key = "model.vision_sampler_layers.1.layers.0.pos_embed_3"
    refused(
        bent(folders, tmp_path, lambda t: t.pop(key)), f"1 tensors are missing from the checkpoint: {re.escape(key)}"
    )
    model, _, report = cambrian.Cambrian.load(folders[0], encoder_weights=folders[1])
    assert report.skipped == 1 and model.template == "vicuna_v1"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"mm_projector_type": "mlp2x_gelu"}, "not a Cambrian-1 checkpoint"),
        ({"model_type": "cambrian_gemma"}, "must be Llama or Phi-3; model_type is 'cambrian_gemma'"),
        ({"query_num_list": [16, 4]}, r"query_num_list must be \[16\]"),
        ({"connector_only": True}, "connector_only must be False"),
        ({"mm_vision_tower_aux_list": list(tiny_cambrian.RELEASED[::-1])}, "the first tower must be siglip"),
        ({"mm_vision_tower_aux_token_len_list": [16, 16, 16, 250]}, "does not fit 4 towers and 16"),
        ({"stride_of_vision_sampler_layers": 4}, "after layer 4, but num_hidden_layers is 4"),
        ({"image_position": None}, "config.json lacks image_position"),
        ({"encoder_configs": {"clip": {}}}, "encoder_configs names 'clip'"),
    ],
)
def test_configs_that_are_not_ours(folders, tmp_path, settings, match):
    refused(bent(folders, tmp_path, **settings), match)


def test_other_mistakes(folders, tmp_path):
    refused(folders, "global_context must be one of keep, zero", global_context="mean")
    refused(folders, "dino_positions must be one of offset, size", dino_positions="new")
    refused(folders, "no argument 'encoders'", encoders="x")
    refused((folders[0], tmp_path), "has no folder timm/ViT-SO400M-14-SigLIP-384")
    config = json.loads((folders[0] / "config.json").read_text())
    config["encoder_configs"][tiny_cambrian.CLIP] = {}

    def widen(tensors):
        key = "model.mm_projector_aux_1.0.weight"
        tensors[key] = torch.zeros(tensors[key].shape[0], 1024)

    wrong = bent(folders, tmp_path, widen, encoder_configs=config["encoder_configs"])
    refused(wrong, "clip-vit-large-patch14-336 has 16 channels; the checkpoint was made for 1024")


def test_the_position_table_of_dinov2_is_resized_as_asked(folders, full):
    other = load(folders, dino_positions="size")
    ours, theirs = full.features([picture(1)]), other.features([picture(1)])
    assert not torch.allclose(ours["dinov2"], theirs["dinov2"])
    assert all(torch.equal(ours[name], theirs[name]) for name in NAMES if name != "dinov2")


def test_half_precision_runs_in_its_own_type(folders):
    subject = load(folders, "clip", dtype="bf16")
    assert {p.dtype for p in subject.model.parameters()} == {torch.bfloat16}
    (visual,) = subject.visuals([picture(1)])
    assert visual.embeddings.dtype == visual.extra.context.dtype == torch.bfloat16
    assert isinstance(subject.generate([Prompt("What?", (picture(1),))], 3)[0].text, str)
