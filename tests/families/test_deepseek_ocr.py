"""DeepSeek-OCR: views and tiles, loading in both layouts, masks of either half, a blinded CLIP, parity, refusals."""

import gzip
import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from PIL import Image
from safetensors.torch import load_file, save_file

from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.families import registry, templates
from redundancy_eval.model_wrappers.families.deepseek_ocr import card, language, views
from redundancy_eval.model_wrappers.families.deepseek_ocr import model as ocr
from redundancy_eval.model_wrappers.families.deepseek_ocr.recording import DeepseekOcrRecording
from redundancy_eval.model_wrappers.masking import ablations, loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from redundancy_eval.model_wrappers.prune import writing
from tests.conftest import RECORDINGS, golden
from tests.helpers import tiny_deepseek_ocr
from tests.helpers.pictures import picture

RECORDING = DeepseekOcrRecording(card.FAMILY)
pytestmark = pytest.mark.models
BOTH = ("clip", "sam")
SMALL = {"base_size": "128"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_deepseek_ocr.write(tmp_path_factory.mktemp("tiny") / "ocr")


@pytest.fixture(scope="module")
def full(folder):
    return load(folder)


def load(folder, drop=None, **options):
    return loading.load("deepseek_ocr_masked", str(folder), drop, device="cpu", **{**SMALL, **options})


def embeddings(subject, images):
    return torch.cat([visual.embeddings for visual in subject.visuals(images)])


def refused(folder, match, error=SetupError, **options):
    with pytest.raises(error, match=match) as raised:
        load(folder, **options)
    assert "\n" not in str(raised.value)


def bent(folder, tmp_path, tensors=None, **changes):
    copy = tmp_path / "bent"
    shutil.copytree(folder, copy)
    config = {**json.loads((copy / "config.json").read_text()), **changes}
    (copy / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))
    if tensors:
        held = load_file(copy / "model.safetensors")
        tensors(held)
        save_file(held, copy / "model.safetensors")
    return copy


# --- against the original code -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_parity_with_recorded_tensors(capsys):
    assert main(["parity", str(RECORDINGS / "deepseek_ocr" / "tiny")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("FAIL") or "refused" in line]
    errors = [float(line.split()[1]) for line in lines if line.startswith("ok") and "e-" in line.split()[1]]
    assert len(errors) > 40 and max(errors) < 1e-5
    conditions = {line.split(": all")[0].split(maxsplit=2)[-1] for line in lines if line.rstrip().endswith("tensors")}
    masked = {"zero:clip", "zero:sam", "all_masked", "chain:sam"}
    assert conditions == {f"j {name}" for name in (*masked, "nomask")} | {"k nomask"}


@pytest.mark.slow
def test_the_conversion_of_transformers_computes_alike(tmp_path, capsys):
    """Its config beside the original tensors, as transformers writes them."""
    copy = tmp_path / "tiny"
    shutil.copytree(RECORDINGS / "deepseek_ocr" / "tiny", copy)
    inputs = json.loads((copy / "inputs" / "inputs.json").read_text())
    inputs["inputs"] = {"j": inputs["inputs"]["j"]}
    (copy / "inputs" / "inputs.json").write_text(json.dumps(inputs))
    (copy / "checkpoint" / "tiny_overrides.json").unlink()
    native(copy / "checkpoint")
    assert main(["parity", str(copy)]) == 0
    assert "FAIL" not in capsys.readouterr().out


def native(folder):
    """Give a recorded checkpoint the config that transformers would."""
    told = json.loads((folder / "config.json").read_text())
    text = {key: told[key] for key in card.SIZES_OF_LANGUAGE if key in told}
    sam = {
        "hidden_size": 32, "output_channels": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
        "global_attn_indexes": [1, 3], "mlp_dim": 128, "downsample_channels": [24, 32],
    }  # fmt: skip
    clip = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    made = {
        "architectures": ["UnlimitedOcrForConditionalGeneration"],
        "model_type": "unlimited_ocr",
        "image_token_id": 418,
        "text_config": {**text, "model_type": "unlimited_ocr_text", "sliding_window": 128},
        "vision_config": {"model_type": "unlimited_ocr_vision", "sam_config": sam, "encoder_config": clip},
    }
    (folder / "config.json").write_text(json.dumps(made))


def test_pixels():
    inputs = golden("deepseek_ocr", "tiny", "inputs")
    recorded = load_file(inputs / "preprocessed.safetensors")
    entries = json.loads((inputs / "inputs.json").read_text())["inputs"]
    with torch.device("meta"):
        model = ocr.DeepseekOcr(tiny_deepseek_ocr.config(), ())
    for name in "bdfghj":  # tiles; odd padding; narrow; alpha; a palette, squeezed; turned by EXIF
        with RECORDING.as_recorded(model, entries[name]):
            *tiles, whole = map(ocr.normalise, model.preprocess_uint8(Image.open(inputs / entries[name]["image_file"])))
        for kind, value in {"global_pixels": whole, **({"tile0_pixels": tiles[0]} if tiles else {})}.items():
            assert torch.equal(value[:, ::32, ::32], recorded[f"{name}/{kind}_stride32"])


def test_full_size_names_and_shapes():
    with gzip.open(golden("deepseek_ocr", "manifests") / "manifest_DeepSeek-OCR.json.gz", "rt") as handle:
        manifest = json.load(handle)
    with torch.device("meta"):
        model = ocr.DeepseekOcr(manifest["config"])
    ours = {own: tuple(value.shape) for own, value in model.state_dict().items()}
    found, unused = {}, []
    for entry in manifest["entries"]:
        target, value = model.rename(entry["name"]), torch.empty(entry["shape"], device="meta")
        if target is None:
            unused.append(entry["name"])
            continue
        parts = {target: lambda whole: whole} if isinstance(target, str) else target
        found |= {own: tuple(part(value).shape) for own, part in parts.items()}
        assert {model.release(own) for own in parts} == {entry["name"]}
    assert found == ours and len(manifest["entries"]) == 2710
    assert unused == ["model.vision_model.embeddings.patch_embedding.weight"]  # SAM's map stands in its place
    sizes = {name: sum(p.numel() for p in encoder.parameters()) for name, encoder in model.encoders.items()}
    assert sizes == {"clip": 302575616, "sam": 95569152}


# --- views ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((900, 900), (2, 2)),  # as near as 3 x 3, which is too large
        ((1500, 1500), (3, 3)),
        ((641, 200), (3, 1)),  # two at least, whatever the size
        ((1100, 430), (3, 1)),
        ((300, 720), (1, 2)),
        ((5000, 10), (9, 1)),
    ],
)
def test_the_tile_rule(size, grid):
    assert views.tile_grid(*size, 9) == grid


def test_unlimited_ocr_cuts_more_tiles():
    assert views.tile_grid(1100, 430, 32) == (5, 2)
    with torch.device("meta"):
        other = {"model_type": "unlimited-ocr", "architectures": ["UnlimitedOCRForCausalLM"], "sliding_window": 128}
        model = ocr.DeepseekOcr(tiny_deepseek_ocr.config(**other), ())
    assert model.max_tiles == 32 and model.language_model.config.sliding_window == 128


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from(list(views.MODES)))
def test_as_many_places_as_the_original_counts(width, height, mode):
    seen = views.layout(Image.new("1", (width, height)), views.MODES[mode], 9)
    assert (seen.tiles > 0) == (mode == "gundam" and max(width, height) > 640)
    assert seen.tiles == 0 or 2 <= seen.tiles <= 9
    assert seen.places == 100 * seen.tiles + {512: 64, 640: 100, 1024: 256, 1280: 400}[views.MODES[mode].side]


def test_an_image_is_turned_first():
    plain = Image.new("RGB", (720, 300))
    plain.getexif()[0x0112] = 6
    assert views.turned_size(plain) == (300, 720)
    layout = views.layout(plain, views.MODES["gundam"], 9)
    assert (layout.columns, layout.rows) == (1, 2)
    straight = Image.new("RGB", (720, 300))
    assert ablations.image_hash(plain) != ablations.image_hash(straight)


def test_tiles_are_cut_row_by_row_and_the_whole_is_last():
    image = Image.new("RGB", (700, 400), (255, 0, 0))
    image.paste((0, 0, 255), (350, 0, 700, 400))
    first, second, whole = views.views(image, views.MODES["gundam"], 9)
    assert first[5, 5].tolist() == [255, 0, 0] and second[600, 600].tolist() == [0, 0, 255]
    assert whole.shape == (1024, 1024, 3) and whole[0, 0].tolist() == [127, 127, 127]
    assert whole[512, 5].tolist() == [255, 0, 0] and whole[512, 1020].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ({}, (1024, 640, True)),
        ({"mode": "tiny"}, (512, 512, False)),
        ({"mode": "large"}, (1280, 1280, False)),
        ({"base_size": 1280}, (1280, 640, True)),
        ({"mode": "base", "crop_mode": "true"}, (1024, 640, True)),
        ({"image_size": "512", "crop_mode": "False"}, (1024, 512, False)),
    ],
)
def test_resolutions(arguments, asked):
    found = views.resolution(**arguments)
    assert (found.base_size, found.image_size, found.crop) == asked


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"mode": "gundam-m"}, "mode must be one of tiny, small, base, large, gundam"),
        ({"image_size": 512}, "image_size=512 with tiles: .* drops features in silence or fails"),
        ({"image_size": 1024}, "image_size=1024 with tiles"),
        ({"mode": "tiny", "base_size": 1024}, "base_size=1024 decides nothing without tiles"),
        ({"base_size": 1000}, "base_size must be a multiple of 64"),
        ({"base_size": "big"}, "base_size must be a multiple of 64"),
        ({"crop_mode": "maybe"}, "crop_mode must be true or false"),
        ({"max_tiles": 1}, "max_tiles must be a whole number from 2"),
        ({"max_tiles": "x"}, "max_tiles must be a whole number from 2"),
        ({"chain": "loose"}, "chain must be one of keep, cut"),
        ({"site": "projected"}, "site must be one of encoder"),
        ({"drop": "siglip"}, "unknown encoder 'siglip'; this model has: clip, sam"),
    ],
)
def test_arguments_that_are_refused(folder, arguments, match):
    with pytest.raises(SetupError, match=match) as error:
        loading.load("deepseek_ocr_masked", str(folder), device="cpu", **arguments)
    assert "\n" not in str(error.value)


def test_images_that_the_original_does_not_look_at(full):
    image = Image.new("RGB", (64, 64))
    image.paste((255, 255, 255), (32, 0, 64, 64))
    with pytest.raises(DataError, match="64 x 64 pixels whose normalised values add up to exactly 0"):
        full.visuals([image])
    with pytest.raises(DataError, match="1 x 3000 pixels is too thin"):
        full.visuals([Image.new("RGB", (1, 3000))])


def test_a_recorded_resolution_that_loses_features_is_refused(full):
    told = {"mode": {"base_size": 128, "image_size": 512, "crop_mode": True}}
    with RECORDING.as_recorded(full.model, told):
        assert full.model.layouts([picture(1)])[0].tiles == 0
        with pytest.raises(SetupError, match="features would be lost"):
            full.model.layouts([picture(1, (700, 30))])
    with pytest.raises(SetupError, match="mode must have base_size"), RECORDING.as_recorded(full.model, {}):
        pass


# --- masks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", ["keep", "cut"])
@pytest.mark.parametrize("mask", [("clip",), ("sam",), BOTH])
def test_skipping_is_bit_identical_to_running_and_zeroing(folder, full, mask, chain):
    images = [picture(1), picture(2, (650, 40))]
    layouts = full.model.layouts(images)
    assert [layout.tiles for layout in layouts] == [0, 9]
    features = full.features(images)
    if chain == "cut" and "sam" in mask:
        features = {**features, "clip": full.encode(images, ("clip",))["clip"]}
    zeroed = {k: torch.zeros_like(v) if k in mask else v for k, v in features.items()}
    with torch.inference_mode():
        expected = torch.cat([visual.embeddings for visual in full.model.fuse(zeroed, layouts)])
    subject = load(folder, "+".join(mask), chain=chain)
    torch.testing.assert_close(embeddings(subject, images), expected, atol=1e-6, rtol=1e-6)
    runs = {("clip",): {"sam"}, ("sam",): {"clip"} if chain == "cut" else {"clip", "sam"}, BOTH: set()}[mask]
    assert set(subject.model.encoders) == set(subject.needed()) == runs
    assert subject.feeds() == (["sam feeds clip"] if chain == "cut" and mask == ("sam",) else [])


def test_a_blinded_clip_sees_no_pixel(folder, full):
    blind = load(folder, "sam", chain="cut")
    one, two = (embeddings(blind, [picture(seed)]) for seed in (1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, embeddings(load(folder, "all"), [picture(1)]))
    seeing = load(folder, "sam")
    assert not torch.equal(*(embeddings(seeing, [picture(seed)]) for seed in (1, 2)))


def test_both_dropped_leaves_the_bias_newlines_and_separator(full):
    nothing = full.under(BOTH)
    (visual,) = nothing.visuals([picture(1)])
    model, rows = nothing.model, visual.embeddings
    assert len(rows) == 2 * 3 + 1 and torch.equal(rows[2], model.image_newline)
    assert torch.equal(rows[0], model.projector.bias) and torch.equal(rows[-1], model.view_seperator)


def test_tiles_stand_as_a_mosaic_before_the_whole(full):
    model, layout = full.model, views.Layout(3, 2, 2)
    rows = torch.arange(float(layout.places))[:, None].expand(-1, 32)
    lines = model._arrange(rows, layout)[: 20 * 31].unflatten(0, (20, 31))
    assert lines[0, :30, 0].tolist() == [*range(10), *range(100, 110), *range(200, 210)]
    assert lines[10, 0, 0] == 300 and torch.equal(lines[7, -1], model.image_newline)
    assert model._arrange(rows, layout)[620:626, 0][:2].tolist() == [600, 601]


def test_batches_answer_as_single_prompts(full):
    prompts = [Prompt("What?", (picture(1),)), Prompt("Say."), Prompt("Who is it?", (picture(2, (90, 30)),))]
    assert full.generate(prompts, 4) == [full.generate([prompt], 4)[0] for prompt in prompts]
    scores = full.loglikelihood(prompts, ["a", "bc", "d"])
    for found, prompt, text in zip(scores, prompts, ["a", "bc", "d"], strict=True):
        assert found[0] == pytest.approx(full.loglikelihood([prompt], [text])[0][0], abs=1e-4)


def test_the_prompt(full):
    mark = templates.IMAGE_ID
    ids = full.prompt_ids(Prompt("What is it? ", (picture(1),)))
    assert ids[:2] == [0, mark] and ids.count(0) == 1
    assert full.tokenizer.decode(ids[2:]) == "\nWhat is it?" and full.eos == [1]
    assert full.prompt_ids(Prompt("Hm?")) == [0, *full.tokenizer("Hm?", add_special_tokens=False).input_ids]
    with pytest.raises(DataError, match="2 images; this architecture takes 1"):
        full.generate([Prompt("Which?", (picture(1), picture(2)))], 2)


@pytest.mark.parametrize("kind", ["mean", "noise"])
def test_stand_ins_are_of_places(folder, tmp_path, kind):
    for seed in (1, 2):
        picture(seed, (60 + 20 * seed, 50)).save(tmp_path / f"{seed}.png")
    file = tmp_path / "c.safetensors"
    arguments = f"pretrained={folder},device=cpu,base_size=128"
    command = ["calibrate", "--model", "deepseek_ocr_masked", "--model_args", arguments, "--images", str(tmp_path)]
    assert main([*command, "-o", str(file)]) == 0
    subject = load(folder, "clip", ablation=kind, calibration=str(file))
    given = subject.features([picture(3)])["clip"]
    assert given.shape == (4, 1, 16) and torch.equal(given[0], given[1]) == (kind == "mean")
    with pytest.raises(SetupError, match="holds nothing of clip without sam"):  # chain=cut is a matter of zeros
        load(folder, "sam", chain="cut", ablation=kind, calibration=str(file)).visuals([picture(3)])


def test_a_sam_that_clip_sees_through_cannot_be_pruned_away(folder):
    given = {"pretrained": str(folder), "drop": "sam"}
    with pytest.raises(SetupError, match="sam runs although it is dropped.*`chain=cut` blinds CLIP and skips it"):
        writing.read("deepseek_ocr_masked", given, False)
    assert writing.read("deepseek_ocr_masked", {**given, "chain": "cut"}, False).mask == ("sam",)


# --- loading -------------------------------------------------------------------------------------------------------


def test_joined_experts_load_as_single_ones(folder, full, tmp_path):
    def join(tensors):
        start = "model.layers.1.mlp.experts"
        gate, up, down = (
            torch.stack([tensors.pop(f"{start}.{n}.{part}_proj.weight") for n in range(4)])
            for part in ("gate", "up", "down")
        )
        tensors |= {f"{start}.gate_up_proj": torch.cat([gate, up], 1), f"{start}.down_proj": down}

    other = load(bent(folder, tmp_path, join)).model.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in full.model.state_dict().items())


def test_missing_and_foreign_tensors(folder, tmp_path):
    gone = "model.vision_model.transformer.layers.0.self_attn.qkv_proj.weight"
    refused(bent(folder, tmp_path, lambda t: t.pop(gone)), rf"1 tensors are missing.*{gone}")
    assert load(tmp_path / "bent", "clip").mask == ("clip",)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "deepseek_ocr2"}, "DeepSeek-OCR-2 has SAM and, behind it, one encoder"),
        ({"architectures": ["DeepseekVLV2ForCausalLM"]}, "not a DeepSeek-OCR checkpoint"),
        ({"use_mla": True}, "use_mla must be False"),
        ({"use_mla": ...}, "lacks use_mla"),
        ({"norm_topk_prob": True}, "norm_topk_prob must be False"),
        ({"topk_method": "group_limited_greedy"}, "topk_method must be greedy"),
        ({"num_hidden_layers": 3}, "language_config.num_hidden_layers is 2, but num_hidden_layers is 3"),
        ({"projector_config": {"projector_type": "mlp_gelu"}}, "projector_config.projector_type must be linear"),
        ({"encoder_configs": {"siglip": {}}}, "encoder_configs names 'siglip'"),
        ({"encoder_configs": {"sam": {"depth": 3}}}, "has unknown settings: depth"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rotary positions of kind 'linear' are not known"),
    ],
)
def test_configs_that_are_not_ours(folder, tmp_path, changes, match):
    refused(bent(folder, tmp_path, **changes), match)


def test_a_config_of_transformers_does_not_say_how_many_tiles():
    told = {"model_type": "unlimited_ocr", "text_config": {"model_type": "unlimited_ocr_text", **LANGUAGE}}
    with torch.device("meta"):
        with pytest.raises(SetupError, match=r"max_tiles=9 \(DeepSeek-OCR\) or max_tiles=32"):
            ocr.DeepseekOcr(told, ())
        assert ocr.DeepseekOcr(told, (), max_tiles="9").max_tiles == 9
        assert ocr.DeepseekOcr(told, (), mode="base").resolution.side == 1024


LANGUAGE = {key: tiny_deepseek_ocr.LANGUAGE[key] for key in card.SIZES_OF_LANGUAGE if key in tiny_deepseek_ocr.LANGUAGE}


def test_unlimited_ocr_s_answers_see_the_prompt_and_their_last_tokens():
    """With a window wider than the answer nothing differs from DeepSeek-OCR; with a narrow one the answer does."""
    torch.manual_seed(0)
    plain = language.LanguageModel(language.text_config(LANGUAGE, "sdpa")).eval()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_(0, 0.4) if parameter.ndim > 1 else parameter.fill_(1)
    given, found = torch.randn(2, 30, 32), {}
    for width in (64, 2):
        windowed = language.LanguageModel(language.text_config({**LANGUAGE, "sliding_window_size": width}, "sdpa"))
        windowed.load_state_dict(plain.state_dict())
        found[width] = answer(windowed.eval(), given)
    assert torch.equal(found[64], answer(plain, given)) and not torch.equal(found[2], found[64])


def answer(model, given):
    with torch.inference_mode():
        mask = torch.ones(given.shape[:2], dtype=torch.long)
        ask = dict(inputs_embeds=given, attention_mask=mask, do_sample=False, pad_token_id=2)
        return model.generate(**ask, min_new_tokens=16, max_new_tokens=16)


def test_half_precision_runs_in_its_own_type(folder):
    subject = load(folder, "clip", dtype="bf16")
    assert {p.dtype for p in subject.model.parameters()} == {torch.bfloat16}
    assert isinstance(subject.generate([Prompt("What?", (picture(1),))], 3)[0].text, str)


def test_it_is_listed():
    family = registry.family("deepseek_ocr_masked")
    assert [c.hub_id for c in family.checkpoints] == ["deepseek-ai/DeepSeek-OCR", "baidu/Unlimited-OCR"]
    assert registry.encoders_of("deepseek_ocr_masked", str(golden("deepseek_ocr", "tiny", "checkpoint"))) == BOTH
