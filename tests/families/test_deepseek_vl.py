"""The DeepSeek-VL family: both checkpoint layouts, pixels, masking at the aligner, parity with recorded tensors."""

import gzip
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from PIL import Image
from safetensors.torch import load_file, save_file

from redundancy_eval.cli import main
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.families import registry, templates
from redundancy_eval.model_wrappers.families.deepseek_vl import card
from redundancy_eval.model_wrappers.families.deepseek_vl import model as deepseek_vl
from redundancy_eval.model_wrappers.families.deepseek_vl import recording as recorded_deepseek_vl
from redundancy_eval.model_wrappers.masking import loading, native
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.conftest import golden
from tests.helpers import tiny_deepseek_vl

RECORDING = recorded_deepseek_vl.DeepseekVlRecording(card.FAMILY)
pytestmark = pytest.mark.models
ENCODERS = ("sam", "siglip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_deepseek_vl.write(tmp_path_factory.mktemp("tiny") / "deepseek_vl")


@pytest.fixture(scope="module")
def full(folder):
    return loading.load("deepseek_vl_masked", str(folder), device="cpu")


@pytest.fixture(scope="module")
def original():
    return RECORDING.load(golden("deepseek_vl", "tiny", "checkpoint"))


@pytest.fixture(scope="module")
def converted():
    return loading.load("deepseek_vl_masked", str(golden("deepseek_vl", "tiny", "checkpoint_native")), device="cpu")


def embeddings(subject, images):
    return torch.stack([visual.embeddings for visual in subject.visuals(images)])


def picture(seed, size=(70, 50)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def recorded_input(name):
    return Image.open(golden("deepseek_vl", "tiny", "inputs") / f"{name}.png")


@torch.inference_mode()
def last_logits(subject, image, ids):
    inputs, attention = subject.batch([subject.embed(ids, subject.visuals([image]))])
    return subject.model.language_model(inputs_embeds=inputs, attention_mask=attention).logits[0, -1]


def recorded_ids(name):
    listed = json.loads((golden("deepseek_vl", "tiny", "inputs") / "inputs.json").read_text())
    return RECORDING.input_ids(listed["inputs"][name])


# --- against the original code -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_parity_with_recorded_tensors(capsys):
    assert main(["parity", str(golden("deepseek_vl", "tiny"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("FAIL") or "refused" in line]
    errors = [float(line.split()[1]) for line in lines if line.startswith("ok") and "e" in line.split()[1]]
    assert len(errors) > 80 and max(errors) < 1e-5
    for name in "abc":
        for condition in ("nomask", "zero:sam", "zero:siglip", "all_masked"):
            assert any(f"{name} {condition}: all" in line for line in lines)
        assert any(line.startswith("ok") and line.endswith(f"{name} high_pixels_normalised") for line in lines)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_pixels_are_the_recorded_ones(original, name):
    recorded = load_file(golden("deepseek_vl", "tiny", "inputs") / "preprocessed.safetensors")
    made, compared = recorded_deepseek_vl.pixels(original[0], recorded_input(name)), 0
    for key, expected in recorded.items():
        whose, _, what = key.partition("/")
        if whose != name:
            continue
        kind, _, cut = what.rpartition("_stride")
        if kind:
            mine = made[kind][:, :: int(cut), :: int(cut)]
        else:
            kind, _, cut = what.partition("_crop_")
            start, end = map(int, cut.split("_"))
            mine = made[kind][:, start:end, start:end]
        error = (mine - expected).abs().max().item()
        assert error == 0 if kind.startswith("high") else error < 2e-5
        compared += 1
    assert compared == 6


def test_both_layouts_are_the_same_model(original, converted):
    model, tokenizer, report = original
    theirs = converted.model.state_dict()
    assert report.skipped == 17
    assert {name: value.shape for name, value in model.state_dict().items()} == {k: v.shape for k, v in theirs.items()}
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())
    assert model.eos == converted.model.eos == (401,) and converted.eos == [401]
    subject = native.MaskedModel(model, tokenizer, template=converted.template)
    for name, mask in (("a", ()), ("b", ("sam",))):
        one, other = (
            native.MaskedModel(m, tokenizer, mask, template=converted.template) for m in (model, converted.model)
        )
        assert torch.equal(embeddings(one, [recorded_input(name)]), embeddings(other, [recorded_input(name)]))
    ids = recorded_ids("c")
    assert torch.equal(*(last_logits(m, recorded_input("c"), ids) for m in (subject, converted)))


def test_native_pixels_move_the_logits_as_measured(converted):
    """transformers rounds 458.8 rows to 459 where the original has 458, and resizes 8-bit images."""
    path = str(golden("deepseek_vl", "tiny", "checkpoint_native"))
    other = loading.load("deepseek_vl_masked", path, device="cpu", processor="native")
    for name, least, most in (("b", 0.05, 0.2), ("c", 1e-4, 0.01)):
        image, ids = recorded_input(name), recorded_ids(name)
        moved = (last_logits(other, image, ids) - last_logits(converted, image, ids)).abs().max().item()
        assert least < moved < most
    rows = [
        (pixels[0] - pixels[0, :, :1]).abs().amax(dim=(0, 2)).gt(0).sum().item()
        for pixels in (converted.model.preprocess([recorded_input("b")])["pixels"],
                       other.model.preprocess([recorded_input("b")])["sam"])
    ]  # fmt: skip
    assert rows == [458, 459]


def test_full_size_names_and_shapes():
    with gzip.open(golden("deepseek_vl", "manifests") / "manifest_deepseek-vl-7b-chat.json.gz", "rt") as handle:
        manifest = json.load(handle)
    with torch.device("meta"):
        model = deepseek_vl.DeepseekVl(manifest["config"])
    ours = {own: tuple(value.shape) for own, value in model.state_dict().items()}
    found, unused = {}, []
    for entry in manifest["entries"]:
        target, value = model.rename(entry["name"]), torch.empty(entry["shape"], device="meta")
        if target is None:
            unused.append(entry)
        elif isinstance(target, str):
            found[target] = tuple(value.shape)
        else:
            found.update({own: tuple(part(value).shape) for own, part in target.items()})
    assert found == ours
    assert len(unused) == 17 and {entry["owner"] for entry in unused} == {
        "unused layer norms",
        "siglip pooling head (unused)",
    }
    assert model.shapes("encoder") == {"sam": (576, 1024), "siglip": (576, 1024)} and model.max_length == 16384
    # The conversion's names, in the depths of transformers 4 and 5, come to the same.
    with torch.device("meta"):
        converted = deepseek_vl.DeepseekVl({"model_type": "deepseek_vl_hybrid"})
    released = {own: tiny_deepseek_vl.release(own) for own in ours}
    assert {converted.rename(name) for name in released.values()} == set(ours)
    assert {converted.rename(name.replace("vision_model.vision_model", "vision_model")) for name in released.values()} \
        == set(ours)  # fmt: skip


# --- masks at the aligner ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [("sam",), ("siglip",), ENCODERS])
def test_skipping_is_bit_identical_to_running_and_zeroing(folder, full, mask):
    images = [picture(1), picture(2, (40, 90))]
    features = full.features(images)
    zeroed = {k: torch.zeros_like(v) if k in mask else v for k, v in features.items()}
    expected = torch.stack([visual.embeddings for visual in full.model.fuse(zeroed, [None, None])])
    subject = loading.load("deepseek_vl_masked", str(folder), "+".join(mask), device="cpu")
    assert subject.mask == mask and torch.equal(embeddings(subject, images), expected)
    assert not torch.equal(expected, embeddings(full, images))
    assert {name: features[name].shape[1:] for name in features} == full.model.shapes("encoder")


def test_a_dropped_encoder_is_neither_loaded_nor_run(folder, full, monkeypatch):
    subject = loading.load("deepseek_vl_masked", str(folder), "sam", device="cpu")
    assert not [name for name, _ in subject.model.named_parameters() if "high_res_vision_model" in name]
    assert subject.model.vision.high_res_vision_alpha is None
    other = loading.load("deepseek_vl_masked", str(folder), "siglip", device="cpu")
    assert other.model.vision.vision_model is None and other.model.vision.high_res_vision_model is not None
    ran = []
    for part in ("get_low_res_image_features", "get_high_res_image_features"):
        run = getattr(full.model.vision, part)
        monkeypatch.setattr(full.model.vision, part, lambda x, part=part, run=run: ran.append(part) or run(x))
    embeddings(native.MaskedModel(full.model, full.tokenizer, ("sam",), template=full.template), [picture(4)])
    assert ran == ["get_low_res_image_features"]
    everything = native.MaskedModel(full.model, full.tokenizer, ENCODERS, template=full.template)
    tokens = embeddings(everything, [picture(4), picture(5)])
    assert ran == ["get_low_res_image_features"]
    # The biases of the up-projections remain: equal tokens, not zero ones.
    assert tokens.shape[:2] == (2, 9) and tokens.eq(tokens[0, 0]).all() and tokens.ne(0).all()


def test_halves_stand_in_the_released_order(full):
    features = full.features([picture(6)])
    half = full.model.concatenate(features).shape[-1] // 2
    changed = full.model.concatenate({**features, "sam": features["sam"] + 1}) - full.model.concatenate(features)
    assert changed[..., :half].abs().sum() > 0 and not changed[..., half:].any()
    whole = full.model.vision.aligner.proj(torch.nn.functional.gelu(full.model.concatenate(features)))
    assert torch.allclose(whole[0], full.model.fuse(features, [None])[0].embeddings)


# --- loading -------------------------------------------------------------------------------------------------------


def bent(folder, tmp_path, change_tensors=None, **settings):
    copy = tmp_path / "bent"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    config = {**json.loads((copy / "config.json").read_text()), **settings}
    (copy / "config.json").write_text(json.dumps(config))
    if change_tensors:
        tensors = load_file(copy / "model.safetensors")
        change_tensors(tensors)
        save_file(tensors, copy / "model.safetensors")
    return copy


def refused(copy, match, **options):
    with pytest.raises(SetupError, match=match) as error:
        loading.load("deepseek_vl_masked", str(copy), device="cpu", **options)
    assert "\n" not in str(error.value)


def test_missing_tensors_are_listed(folder, tmp_path):
    copy = bent(folder, tmp_path, lambda t: t.pop("model.high_res_vision_alpha"))
    refused(copy, r"1 tensors are missing.*model\.high_res_vision_alpha")
    assert loading.load("deepseek_vl_masked", str(copy), "sam", device="cpu").mask == ("sam",)


def test_the_output_layer_is_not_tied(folder, tmp_path):
    assert json.loads((folder / "config.json").read_text()).get("tie_word_embeddings") is None
    subject = loading.load("deepseek_vl_masked", str(folder), device="cpu")
    language = subject.model.language_model
    assert not torch.equal(language.lm_head.weight, language.get_input_embeddings().weight)
    refused(bent(folder, tmp_path, lambda t: t.pop("lm_head.weight")), r"missing from the checkpoint: lm_head\.weight")


def test_original_layout_with_missing_or_misshapen_tensors(tmp_path):
    def take(tensors):
        tensors.pop("vision_model.vision_tower_low.vision_tower.blocks.1.attn.qkv.bias")
        tensors["something.new"] = torch.zeros(3)

    source = golden("deepseek_vl", "tiny", "checkpoint")
    copy = bent(source, tmp_path, take)
    with pytest.raises(
        SetupError,
        match=r"1 tensors are missing.*blocks\.1\.attn\.qkv\.bias; 1 are of another model, e.g. some",
    ):
        RECORDING.load(copy)
    tensors = load_file(source / "model.safetensors")
    tensors["vision_model.vision_tower_low.vision_tower.blocks.1.attn.qkv.bias"] = torch.zeros(141)
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(SetupError, match=r"attn\.qkv\.bias has shape \(47,\), the model expects \(48,\)"):
        RECORDING.load(copy)
    config = RECORDING.config(
        json.loads((copy / "config.json").read_text()), json.loads((copy / "tiny_overrides.json").read_text())
    )
    model, _, report = deepseek_vl.DeepseekVl.load(copy, ["sam"], config=config)
    assert report.skipped > 17 and model.vision.vision_model is None


def test_one_tensor_may_fill_several(tmp_path):
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 1, bias=False), "b": torch.nn.Linear(2, 1, bias=False)})
    save_file({"ab": torch.arange(4.0).reshape(2, 2)}, tmp_path / "model.safetensors")

    def rename(released):
        return {"a.weight": lambda v: v[:1], "b.weight": lambda v: v[1:]} if released == "ab" else released

    report = weights.load(module, tmp_path, rename, torch.bfloat16, "cpu")
    assert report.loaded == 2 and module["b"].weight.tolist() == [[2, 3]]
    assert module["a"].weight.dtype == torch.bfloat16


ONE_ENCODER = "DeepSeek-VL-1.3B has one vision encoder"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model_type": "deepseek_vl"}, ONE_ENCODER),
        ({"model_type": "multi_modality", "vision_config": {"cls": "CLIPVisionTower"}}, ONE_ENCODER),
        ({"model_type": "llava"}, "not a DeepSeek-VL-7B checkpoint: model_type is 'llava'"),
    ],
)
def test_configs_of_other_models(folder, tmp_path, settings, match):
    refused(bent(folder, tmp_path, **settings), match)


def original_config(**changes):
    config = {
        "model_type": "multi_modality",
        "aligner_config": {"params": {"depth": 2, "projector_type": "low_high_hybrid_split_mlp_gelu"}},
        "language_config": {"model_type": "llama", "num_hidden_layers": 1, "vocab_size": 100},
        "vision_config": {
            "cls": "HybridVisionTower",
            "params": {
                "high_res_cfg": {"model_name": "sam_b_downsample"},
                "low_res_cfg": {"model_name": "siglip_large_patch16_384"},
            },
        },
    }
    config.update(changes.pop("top", {}))
    config["vision_config"]["params"].update(changes)
    return config


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"top": {"aligner_config": {"params": {"projector_type": "mlp_gelu"}}}}, "aligner_config must be a low_high"),
        ({"concat_type": "add"}, "concat_type must be tuple; not 'add'"),
        ({"low_res_cfg": {"model_name": "siglip_so400m"}}, "low_res_cfg.model_name must be siglip_large_patch16_384"),
        (
            {"top": {"encoder_configs": {"sam": {"colour": 1}}}},
            r"encoder_configs\['sam'\] has unknown settings: colour",
        ),
        ({"top": {"encoder_configs": {"sam": {"prompt_embed_dim": 64}}}}, "downsample_channels must be 128 and 256"),
    ],
)
def test_original_configs_that_are_not_ours(changes, match):
    with pytest.raises(SetupError, match=match):
        registry.family("deepseek_vl_masked").check(original_config(**changes))
        deepseek_vl.native_config(original_config(**changes))


def test_released_sizes_are_those_of_the_conversion():
    made, theirs = deepseek_vl.native_config(original_config()), deepseek_vl.DeepseekVLHybridConfig()
    sam, default = made.high_res_vision_config, theirs.high_res_vision_config
    for key in ("hidden_size", "output_channels", "num_hidden_layers", "num_attention_heads", "image_size", "mlp_dim",
                "window_size", "patch_size", "hidden_act", "layer_norm_eps", "global_attn_indexes"):  # fmt: skip
        assert str(getattr(sam, key)).strip("[]()") == str(getattr(default, key)).strip("[]()"), key
    siglip, text = made.vision_config, made.text_config
    assert (siglip.hidden_size, siglip.num_hidden_layers, siglip.intermediate_size) == (1024, 24, 4096)
    assert siglip.hidden_act == "gelu"  # the original is timm's SigLIP, not transformers' with its tanh form
    assert (text.hidden_size, text.intermediate_size, text.rope_parameters["rope_theta"]) == (4096, 11008, 1e4)


def test_other_mistakes(folder):
    refused(folder, "processor must be original or native; not 'fast'", processor="fast")
    refused(folder, "unknown encoder 'clip'; this model has: sam, siglip", drop="clip")
    refused(folder, "site must be one of encoder", site="projected")
    refused(folder, "has no argument 'max_tiles'; it takes pretrained, drop, .*, processor", max_tiles=3)
    assert registry.encoders_of("deepseek_vl_masked", str(folder)) == ENCODERS


def test_half_precision_runs_in_its_own_type(folder, full):
    subject = loading.load("deepseek_vl_masked", str(folder), dtype="bf16", device="cpu")
    assert {p.dtype for p in subject.model.parameters()} == {torch.bfloat16}
    assert embeddings(subject, [picture(1)]).dtype == torch.bfloat16
    assert torch.allclose(embeddings(subject, [picture(1)]).float(), embeddings(full, [picture(1)]), atol=0.2, rtol=0.1)
    # The small image is made of pixels in the model's type, as in the release.
    pixels = full.model.preprocess([picture(1)])["pixels"].bfloat16()
    assert full.model.encoder_pixels({"pixels": pixels}, "siglip").dtype == torch.bfloat16


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_a_choice(folder, full, attention):
    subject = loading.load("deepseek_vl_masked", str(folder), device="cpu", attn_implementation=attention)
    assert subject.model.language_model.config._attn_implementation == attention
    assert torch.allclose(embeddings(subject, [picture(1)]), embeddings(full, [picture(1)]), atol=1e-4)


# --- pixels, prompts and answers -----------------------------------------------------------------------------------


def test_original_pixels(full):
    image = full.model.preprocess_uint8(picture(1, (70, 50)))
    # 50 / 70 of 64 is 45.7: 45 rows, with 9 and 10 rows of padding.
    assert image.shape == (64, 64, 3)
    assert [tuple(image[row, 0]) == deepseek_vl.BACKGROUND for row in (8, 9, 53, 54)] == [True, False, False, True]
    thin = full.model.preprocess_uint8(picture(1, (2, 300)))
    columns = (thin != np.array(deepseek_vl.BACKGROUND)).any(axis=(0, 2)).sum()
    assert columns == deepseek_vl.MIN_SIZE


def test_native_processor(folder, full):
    subject = loading.load("deepseek_vl_masked", str(folder), "siglip", device="cpu", processor="native")
    images = [picture(1), picture(2, (40, 90))]
    assert {k: tuple(v.shape) for k, v in subject.model.preprocess(images, ["sam"]).items()} == {"sam": (2, 3, 64, 64)}
    mine = embeddings(subject, images)
    theirs = embeddings(native.MaskedModel(full.model, full.tokenizer, ("siglip",), template=full.template), images)
    assert mine.shape == theirs.shape and not torch.equal(mine, theirs)
    assert subject.generate([Prompt("What?", (picture(1),))], 3)[0].prompt_tokens > 9


def test_template():
    template = templates.template("deepseek")
    assert templates.place_images("What?", 2, template) == ("<image><image>What?", False)
    text = template.render([" <image>What?\n", "A cat. ", "Sure?"])
    assert text.startswith("You are a helpful") and text.endswith(
        f"\n\nUser: <image>What?\n\nAssistant: A cat.{tiny_deepseek_vl.EOS}User: Sure?\n\nAssistant:"
    )


def prompts_of_all_kinds():
    return [
        Prompt("What is written in the image?\nAnswer with one word.", (picture(1),)),
        Prompt("How many shapes are there?", (picture(2, (30, 60)), picture(3))),
        Prompt("Say something."),
        Prompt("Is <image> like <image>?", (picture(4), picture(5))),
    ]


@pytest.mark.parametrize("drop", ["none", "sam"])
def test_left_padded_batches_answer_as_single_prompts_do(folder, drop):
    subject = loading.load("deepseek_vl_masked", str(folder), drop, device="cpu")
    batch = prompts_of_all_kinds()
    together = subject.generate(batch, 12)
    assert together == [subject.generate([prompt], 12)[0] for prompt in batch]
    words = [" red", " 3", " blue circle", " A"]
    for (total, greedy), prompt, word in zip(subject.loglikelihood(batch, words), batch, words, strict=True):
        assert subject.loglikelihood([prompt], [word])[0] == (pytest.approx(total, abs=1e-4), greedy)


def test_several_images_stand_where_their_placeholders_do(full):
    ids = full.prompt_ids(prompts_of_all_kinds()[3])
    assert ids.count(templates.IMAGE_ID) == 2 and ids.count(full.tokenizer.bos_token_id) == 1
    (sequence,), (visuals,) = full.embed_prompts([prompts_of_all_kinds()[3]])
    assert len(sequence) == len(ids) - 2 + 18
    first = ids.index(templates.IMAGE_ID)
    assert torch.equal(sequence[first : first + 9], visuals[0].embeddings)
    assert torch.allclose(embeddings(full, [picture(5)])[0], visuals[1].embeddings, atol=1e-5)


def test_answers_end_with_the_tokenizer_s_token(full):
    end = full.tokenizer.convert_tokens_to_ids(tiny_deepseek_vl.EOS)
    assert full.eos == [end] and end != 2  # generation_config.json of this checkpoint says 2
