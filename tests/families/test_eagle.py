"""The Eagle family: loading, masking at the fusion, parity with recorded tensors, generation."""

import gzip
import json
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from PIL import Image
from safetensors.torch import load_file, save_file

from redundancy_eval import masks
from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families import recording as recordings
from redundancy_eval.model_wrappers.families import registry, templates
from redundancy_eval.model_wrappers.families.eagle import model as eagle
from redundancy_eval.model_wrappers.masking import loading, native, parity
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.conftest import golden
from tests.helpers import tiny

pytestmark = pytest.mark.models
VICUNA = templates.TEMPLATES["vicuna_v1"]
X5 = ("clip", "convnext", "sam", "eva02", "pix2struct")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("tiny") / "eagle")


@pytest.fixture(scope="module")
def full(folder):
    return loading.load("eagle_masked", str(folder), device="cpu")


def embeddings(subject, images):
    return torch.stack([visual.embeddings for visual in subject.visuals(images)])


def picture(seed, size=(70, 50)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


# --- against the original code -------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["x5_tiny", "x4plus_tiny"])
@pytest.mark.slow
def test_parity_with_recorded_tensors(variant, capsys):
    assert main(["parity", str(golden("eagle", variant))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("FAIL")]
    errors = [float(line.split()[1]) for line in lines if line.startswith("ok") and "e-" in line.split()[1]]
    assert len(errors) > 80 and max(errors) < 1e-5
    conditions = {line.split(": all")[0].split(maxsplit=3)[-1] for line in lines if line.rstrip().endswith("tensors")}
    assert any("all_masked" in c for c in conditions) and any("zero:" in c and "+" in c for c in conditions)


def test_parity_fails_beyond_the_tolerance(tmp_path, capsys):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(golden("eagle", "x4plus_tiny"), copy)
    for extra in ("b", "c"):
        (copy / "expected" / f"{extra}.safetensors").unlink()
    listed = json.loads((copy / "inputs" / "inputs.json").read_text())
    listed["inputs"] = {"a": listed["inputs"]["a"]}
    (copy / "inputs" / "inputs.json").write_text(json.dumps(listed))
    expected = load_file(copy / "expected" / "a.safetensors")
    kept = {k: v for k, v in expected.items() if k.startswith(("nomask/", "zero:det-1024/"))}
    kept["zero:det-1024/logits_last"] = kept["zero:det-1024/logits_last"] * 1.001
    kept["nomask/tokens"] = kept["nomask/tokens"].flip(0)
    kept["mean:det-1024/tokens"] = kept["nomask/tokens"].clone()
    save_file(kept, copy / "expected" / "a.safetensors")
    assert main(["parity", str(copy)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert [line.split("a ")[1].split("  ")[0] for line in failed if "all" not in line] == [
        "nomask tokens",
        "zero:det-1024 logits_last",
    ]
    assert any("refused" in str(check) for check in parity.run(copy, 1e-4))


def test_relative_error_minds_infinities_and_shapes():
    a = torch.tensor([1.0, -torch.inf, 2.0])
    assert recordings.relative_error(a, a) == 0
    assert recordings.relative_error(torch.tensor([1.0, 0.0, 2.0]), a) == float("inf")
    assert recordings.relative_error(a, torch.tensor([1.0, 0.0, 2.0])) == float("inf")
    assert recordings.relative_error(a[:2], a) == float("inf")
    assert recordings.relative_error(torch.tensor([2.0, 4.2]), torch.tensor([2.0, 4.0])) == pytest.approx(0.05)


def test_parity_of_no_recording(tmp_path, capsys):
    assert main(["parity", str(tmp_path)]) == 2
    assert "recorded folder has checkpoint/" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Eagle-X5-7B", "Eagle-X5-13B", "Eagle-X4-8B-Plus", "Eagle-X4-13B-Plus"])
def test_full_size_names_and_shapes(name):
    with gzip.open(golden("eagle", "manifests") / f"manifest_{name}.json.gz", "rt") as handle:
        manifest = json.load(handle)
    settings = {**manifest["config"], "model_type": "eagle_llama"}
    with torch.device("meta"):
        model = eagle.Eagle(settings)
    ours = {own: tuple(value.shape) for own, value in model.state_dict().items()}
    shapes = {entry["name"]: tuple(entry["shape"]) for entry in manifest["entries"]}
    needed = {model.rename(released): shape for released, shape in shapes.items() if model.rename(released)}
    assert needed == ours
    assert {model.release(own) for own in ours} <= set(shapes)
    # What a release holds beside that is what the encoders declare unused.
    rest = set(shapes) - {model.release(own) for own in ours}
    assert rest and all(".head." in r or ".post_layernorm." in r or ".rope.freqs_" in r for r in rest)


# --- masks at the fusion -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", masks.leave_one_out(X5)[1:] + [("clip", "eva02")])
def test_skipping_is_bit_identical_to_running_and_zeroing(folder, full, mask):
    images = [picture(1), picture(2, (40, 90))]
    features = full.features(images)
    zeroed = {k: torch.zeros_like(v) if k in mask else v for k, v in features.items()}
    expected = torch.stack([visual.embeddings for visual in full.model.fuse(zeroed, [None, None])])
    subject = loading.load("eagle_masked", str(folder), "+".join(mask), device="cpu")
    assert subject.mask == mask
    assert torch.equal(embeddings(subject, images), expected)
    assert not torch.equal(expected, embeddings(full, images))


def test_drop_none_is_the_unmasked_model(folder, full):
    images = [picture(3)]
    pixels = full.model.preprocess(images)
    with torch.inference_mode():
        (plain,) = full.model.fuse(full.model.encode(pixels, full.model.encoder_names), [None])
    for drop in ("none", None):
        subject = loading.load("eagle_masked", str(folder), drop, device="cpu")
        assert torch.equal(embeddings(subject, images)[0], plain.embeddings)


def test_a_dropped_encoder_is_neither_loaded_nor_run(folder, full, monkeypatch):
    subject = loading.load("eagle_masked", str(folder), "sam+det", device="cpu")
    assert set(subject.model.encoders) == {"clip", "convnext", "pix2struct"}
    assert not [name for name, _ in subject.model.named_parameters() if ".sam." in name or ".eva02." in name]
    ran = []
    for name, encoder in full.model.encoders.items():
        encoder.register_forward_hook(lambda *_, name=name: ran.append(name))
    embeddings(native.MaskedModel(full.model, full.tokenizer, ("convnext",), template=full.template), [picture(4)])
    assert ran == ["clip", "sam", "eva02", "pix2struct"]
    ran.clear()
    everything = native.MaskedModel(full.model, full.tokenizer, X5, template=full.template)
    assert torch.equal(embeddings(everything, [picture(4)]), embeddings(everything, [picture(5)]))
    assert ran == []


def test_an_encoder_s_zeros_are_its_own_slice(full):
    features = full.features([picture(6)])
    whole = full.model.concatenate(features)
    start = 0
    for tower in full.model.towers:
        assert torch.equal(whole[..., start : start + tower.channels], features[tower.name])
        start += tower.channels
    assert start == whole.shape[-1]


def test_order_and_choice_of_towers_come_from_the_config(tmp_path):
    towers = "det-1024;clip-448"
    subject = loading.load("eagle_masked", str(tiny.write(tmp_path / "two", towers)), "clip", device="cpu")
    assert subject.model.encoder_names == ("eva02", "clip") and subject.mask_label == "clip"
    features = subject.features([picture(1)])
    assert not features["clip"].any() and features["eva02"].any()
    assert list(subject.model.shapes("encoder").values()) == [(16, 16), (16, 32)]


# --- loading -------------------------------------------------------------------------------------------------------


def bent(folder, tmp_path, change_tensors=None, **settings):
    copy = tmp_path / "bent"
    copy.mkdir(parents=True)
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
        loading.load("eagle_masked", str(copy), device="cpu", **options)
    assert "\n" not in str(error.value)


def test_missing_tensors_are_listed(folder, tmp_path):
    gamma = "model.vision_tower.vision_towers.1.vision_tower.stages.0.blocks.0.weight"
    copy = bent(folder, tmp_path, lambda t: t.pop(gamma))
    refused(copy, rf"1 tensors are missing from the checkpoint: {re.escape(gamma)}")
    # With the mask fixed for the run, a dropped encoder's tensors are not needed.
    assert loading.load("eagle_masked", str(copy), "convnext", device="cpu").mask == ("convnext",)


def test_tensors_that_nothing_computes_with_are_skipped_and_others_refused(folder, tmp_path):
    def add(tensors):
        tensors["model.vision_tower.vision_towers.3.vision_tower.blocks.0.attn.rope.freqs_cos"] = torch.zeros(3)
        tensors["model.vision_tower.vision_towers.1.vision_tower.head.fc.weight"] = torch.zeros(3)

    _, _, report = eagle.Eagle.load(bent(folder, tmp_path, add))
    assert report.skipped == 2
    other = bent(folder, tmp_path / "other", lambda t: t.update({"model.something.new": torch.zeros(3)}))
    refused(other, "1 tensors of the checkpoint are none of this model's: model.something.new")


def test_wrong_shapes_and_damaged_files(folder, tmp_path):
    copy = bent(folder, tmp_path, lambda t: t.update({"lm_head.weight": torch.zeros(2, 2)}))
    refused(copy, r"lm_head.weight has shape \(2, 2\)")
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:1000])
    refused(copy, "cannot read .*model.safetensors")
    (copy / "model.safetensors").unlink()
    refused(copy, "no weights in")


def test_a_damaged_tokenizer_is_one_line(folder, tmp_path):
    copy = bent(folder, tmp_path)
    (copy / "tokenizer.json").write_text("{")
    refused(copy, "cannot read the tokenizer in")


@pytest.mark.parametrize("kind", ["sharded", "bin"])
def test_shards_and_bin_files(folder, full, tmp_path, kind):
    copy = bent(folder, tmp_path)
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    if kind == "bin":
        torch.save(tensors, copy / "pytorch_model.bin")
    else:
        names = sorted(tensors)
        parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
        for file, keys in parts.items():
            save_file({key: tensors[key] for key in keys}, copy / file)
        index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
        (copy / "model.safetensors.index.json").write_text(json.dumps(index))
        (copy / "model_old-1.safetensors").write_bytes(b"stale shard that no index lists")
    subject = loading.load("eagle_masked", str(copy), device="cpu")
    assert torch.equal(embeddings(subject, [picture(1)]), embeddings(full, [picture(1)]))
    if kind == "sharded":
        (copy / "model-2.safetensors").unlink()
        refused(copy, "listed in the index are missing: model-2.safetensors")


def test_a_pickle_is_not_executed(folder, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    copy = bent(folder, tmp_path)
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(SetupError, match="cannot read"):
        loading.load("eagle_masked", str(copy), device="cpu")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model_type": "llava"}, "not an Eagle X checkpoint: model_type is 'llava'"),
        ({"mm_vision_tower": "clip-448;dino-1024"}, "unknown tower 'dino'"),
        ({"mm_vision_tower": "clip-448;clip-336"}, "names an encoder twice"),
        ({"mm_hidden_size": 7}, "mm_hidden_size is 7"),
        ({"image_aspect_ratio": "anyres"}, "image_aspect_ratio must be pad"),
        ({"encoder_configs": {"clip-448": {"colour": 1}}}, "unknown settings: colour"),
    ],
)
def test_configs_that_are_not_ours(folder, tmp_path, settings, match):
    refused(bent(folder, tmp_path, **settings), match)


def test_other_mistakes(folder, tmp_path):
    refused(tmp_path, "config.json is missing")
    refused("/no/such/folder", "no such checkpoint folder")
    refused("NVEagle/Eagle-X5-7B", "cannot get NVEagle/Eagle-X5-7B from the hub")
    refused(folder, "unknown encoder 'siglip'; this model has: clip, convnext, sam, eva02, pix2struct", drop="siglip")
    refused(folder, "ablation must be one of zero, mean, noise, shuffle", ablation="median")
    refused(folder, "ablation=mean needs calibration=FILE", ablation="mean")
    refused(folder, "site must be one of encoder", site="projected")
    refused(folder, "dtype must be one of", dtype="int8")
    refused(folder, "conv_template must be one of vicuna_v1, llama3", conv_template="vicuna")
    refused(folder, "long_prompt must be", long_prompt="crop")
    with pytest.raises(SetupError, match="model must be one of"):
        registry.family("egale_masked")


def test_rotary_tables_come_from_the_checkpoint(folder, tmp_path):
    key = "model.vision_tower.vision_towers.3.vision_tower.rope_glb.freqs_cos"
    copy = bent(folder, tmp_path, lambda t: t[key].fill_(0.25))
    model, _, _ = eagle.Eagle.load(copy, ["eva02"])
    assert model.encoders["eva02"].rope_glb_cos.eq(0.25).all()


def test_half_precision_runs_in_its_own_type(folder):
    subject = loading.load("eagle_masked", str(folder), "sam", dtype="bf16", device="cpu")
    assert subject.dtype == torch.bfloat16 and {p.dtype for p in subject.model.parameters()} == {torch.bfloat16}
    assert embeddings(subject, [picture(1)]).dtype == torch.bfloat16
    assert isinstance(subject.generate([Prompt("What?", (picture(1),))], 3)[0].text, str)
    assert loading.choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert loading.choose_dtype("auto", torch.device("cpu")) == torch.float32


# --- prompts and answers -------------------------------------------------------------------------------------------


def test_the_template_follows_the_tokenizer():
    for variant, name in (("x5_tiny", "vicuna_v1"), ("x4plus_tiny", "llama3")):
        from transformers import AutoTokenizer, LlamaConfig

        tokenizer = AutoTokenizer.from_pretrained(golden("eagle", variant, "checkpoint"), config=LlamaConfig())
        assert templates.template_for(tokenizer) == name


def test_placing_images():
    assert templates.place_images("What?", 2, VICUNA) == ("<image> <image>\nWhat?", False)
    assert templates.place_images("Is <image> red?", 1, VICUNA) == ("Is <image> red?", False)
    assert templates.place_images("What?", 0, VICUNA) == ("What?", False)
    assert templates.place_images("Is <image> red? <image>", 1, VICUNA) == ("<image>\nIs image red? image", True)
    assert templates.place_images("Is <image> red?", 0, VICUNA) == ("Is image red?", True)


def test_prompts_whose_placeholders_do_not_fit_are_counted(full):
    subject = native.MaskedModel(full.model, full.tokenizer, template=full.template)
    prompt = Prompt("Is <image> or <image> red?", (picture(1),), "mmmu_val document 3")
    assert subject.prompt_ids(prompt).count(templates.IMAGE_ID) == 1 and subject.moved == ["mmmu_val document 3"]


def prompts_of_all_kinds():
    return [
        Prompt("What is written in the image?\nAnswer with one word.", (picture(1),)),
        Prompt("How many shapes are there?", (picture(2, (30, 60)), picture(3))),
        Prompt("Say something."),
        Prompt("Where is the red circle, seen from the blue square?\nA. left\nB. right", (picture(4),)),
    ]


def test_left_padded_batches_answer_as_single_prompts_do(full):
    batch = prompts_of_all_kinds()
    together = full.generate(batch, 12)
    assert together == [full.generate([prompt], 12)[0] for prompt in batch]
    assert together[1].prompt_tokens > together[0].prompt_tokens > together[2].prompt_tokens
    words = [" red", " 3", " blue circle", " A"]
    scored = full.loglikelihood(batch, words)
    for (total, greedy), prompt, word in zip(scored, batch, words, strict=True):
        assert full.loglikelihood([prompt], [word])[0] == (pytest.approx(total, abs=1e-4), greedy)


def test_loglikelihood_is_that_of_a_full_forward(full):
    prompt, word = prompts_of_all_kinds()[0], " red circle"
    ids = full.tokenizer(word, add_special_tokens=False).input_ids
    with torch.inference_mode():
        (sequence,), _ = full.embed_prompts([prompt])
        inputs = torch.cat([sequence, full.model.language_model.get_input_embeddings()(torch.tensor(ids))])
        logits = full.model.language_model(inputs_embeds=inputs[None]).logits[0].log_softmax(-1)
    expected = sum(logits[len(sequence) - 1 + k, token].item() for k, token in enumerate(ids))
    total, greedy = full.loglikelihood([prompt], [word])[0]
    assert total == pytest.approx(expected, abs=1e-4) and greedy is False
    said = full.tokenizer.decode(logits[len(sequence) - 1].argmax())
    assert full.loglikelihood([prompt], [said])[0][1] is (full.tokenizer(said, add_special_tokens=False).input_ids == [
        logits[len(sequence) - 1].argmax().item()
    ])  # fmt: skip


def test_long_prompts_are_refused_or_cut_and_counted(folder, full):
    long = Prompt("Where is it? " * 60, (picture(1),), "gqa document 7")
    with pytest.raises(DataError, match=r"gqa document 7: \d+ tokens with its images; the model's limit is 128"):
        full.generate([long], 2)
    cutting = loading.load("eagle_masked", str(folder), device="cpu", long_prompt="cut")
    answer = cutting.generate([long], 2)[0]
    assert answer.prompt_tokens == 128 and cutting.cut == ["gqa document 7"]


def test_answers_say_whether_they_were_capped(full):
    prompt = prompts_of_all_kinds()[0]
    answer = full.generate([prompt], 2)[0]
    assert answer.capped and answer.new_tokens == 2
    with torch.inference_mode():
        (sequence,), _ = full.embed_prompts([prompt])
        first = full.model.language_model(inputs_embeds=sequence[None]).logits[0, -1].argmax().item()
    ended = native.MaskedModel(full.model, full.tokenizer, eos=[first], template=full.template).generate([prompt], 5)[0]
    assert (ended.text, ended.new_tokens, ended.capped) == ("", 1, False)


def test_hub_downloads_only_what_the_index_lists(tmp_path, monkeypatch):
    asked = []

    def download(repo, revision=None, allow_patterns=None):
        asked.append(allow_patterns)
        (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert hub.locate("NVEagle/Eagle-X5-13B") == tmp_path
    assert asked[-1] == ["model-1.safetensors"]
