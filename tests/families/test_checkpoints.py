"""Odd checkpoints: what heads, encoders and tokenizers say is used, known to decide nothing, or refused."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from safetensors.torch import load_file, save_file

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.families.cambrian import card as cambrian_card
from redundancy_eval.model_wrappers.families.imof import card as imof_card
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.prompt import Numbers, Prompt
from redundancy_eval.model_wrappers.sweeps import engines
from tests.helpers import tiny, tiny_imof
from tests.helpers.bent import PARTS, bent, load, logits, refused
from tests.helpers.pictures import picture

pytestmark = pytest.mark.models

HEAD = "lm_head.weight"


@pytest.mark.parametrize(
    "model_id",
    [
        "eagle_masked", "cambrian_masked", "imof_masked", "deepseek_vl_masked", "eagle2_masked", "deepseek_ocr_masked",
        "prismatic_masked", "mgm_masked",
    ],
)  # fmt: skip
def test_a_tied_head_need_not_be_in_the_file(sources, tmp_path, model_id):
    folder, options = sources[model_id]
    head = next(name for name in load_file(folder / "model.safetensors") if name.endswith(HEAD))
    without = lambda tensors: tensors.pop(head)  # noqa: E731
    tie = f"{PARTS[model_id]}tie_word_embeddings"
    tied = load(bent(folder, tmp_path, without, {tie: True}, "tied"), model_id, **options).model.language_model
    assert torch.equal(tied.lm_head.weight, tied.get_input_embeddings().weight)
    own = load(bent(folder, tmp_path, None, {tie: True}, "own"), model_id, **options).model.language_model
    assert not torch.equal(own.lm_head.weight, own.get_input_embeddings().weight)
    refused(bent(folder, tmp_path, without, {tie: False}, "none"), f"missing.*: {re.escape(head)}", model_id, **options)


@pytest.mark.parametrize("text", ["convnext-1024;", "convnext-1024", ";convnext-1024"])
def test_an_eagle_may_have_one_encoder(tmp_path, text):
    folder = tiny.write(tmp_path / "one", "convnext-1024")
    expected = logits(load(folder))
    subject = load(bent(folder, tmp_path, config={"mm_vision_tower": text}))
    assert subject.encoder_names == ("convnext",) and torch.equal(logits(subject), expected)


def test_encoders_that_were_trained_on_are_refused_and_copies_that_differ_named(tmp_path, caplog):
    folder, towers = tiny_imof.write(tmp_path / "imof")
    refused(
        bent(folder, tmp_path, config={"unfreeze_mm_vision_tower": True}, name="told"),
        "unfreeze_mm_vision_tower must be False; not True", "imof_masked", encoder_weights=str(towers),
    )  # fmt: skip
    for key in ("mm_vision_tower_lr", "mm_tunable_parts"):
        refused(
            bent(folder, tmp_path, config={key: 2e-6}, name=key), f"{key} is 2e-06", "imof_masked",
            encoder_weights=str(towers),
        )  # fmt: skip
    original = load_file(towers / tiny_imof.CLIP / "model.safetensors")
    copies = {f"model.vision_tower.vision_tower.{name}": value.half() for name, value in original.items()}
    load(bent(folder, tmp_path, lambda t: t.update(copies), name="same"), "imof_masked", encoder_weights=str(towers))
    assert "differs" not in caplog.text
    name = "model.vision_tower.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight"
    changed = {**copies, name: copies[name] + 1}
    load(bent(folder, tmp_path, lambda t: t.update(changed), name="other"), "imof_masked", encoder_weights=str(towers))
    assert f"{name} differs from" in caplog.text


@pytest.mark.parametrize(
    ("repository", "config", "tensors", "match"),
    [
        (
            tiny_imof.CLIP,
            {"vision_config.quantization_config": {"bits": 8}},
            None,
            "vision_config.quantization_config: qu",
        ),
        (tiny_imof.CLIP, {"vision_config.windows": 4}, None, "vision_config.windows is 4, a setting that is not known"),
        (
            tiny_imof.CLIP,
            {},
            lambda t: t.update({"vision_model.new": torch.ones(1)}),
            "none of this model's: vision_mod",
        ),
        (imof_card.DINO, {"num_register_tokens": 4}, None, "num_register_tokens is 4, a setting that is not known"),
        (
            imof_card.DINO,
            {},
            lambda t: t.pop("encoder.layer.0.attention.attention.key.bias"),
            r"attention\.key\.bias$",
        ),
        (
            imof_card.DINO,
            {},
            lambda t: t.update({"encoder.layer.0.mlp.fc1.weight": torch.ones(40, 16).char()}),
            "int8",
        ),
    ],
)
def test_encoders_repositories_are_read_as_strictly(sources, tmp_path, repository, config, tensors, match):
    folder, options = sources["imof_masked"]
    towers = shutil.copytree(options["encoder_weights"], tmp_path / "towers")
    changed = bent(towers / repository, tmp_path, tensors, config)
    shutil.rmtree(towers / repository)
    changed.rename(towers / repository)
    refused(folder, match, "imof_masked", encoder_weights=str(towers))


def test_the_text_side_of_encoders_repositories_is_skipped(sources, tmp_path):
    folder, options = sources["cambrian_masked"]
    towers = shutil.copytree(options["encoder_weights"], tmp_path / "towers")
    for name in ("siglip", "convnext"):
        path = towers / cambrian_card.REPOSITORIES[name] / "open_clip_model.safetensors"
        more = {
            key: torch.ones(1) for key in ("text.ln_final.weight", "visual.head.proj.weight", "token_embedding.weight")
        }
        save_file({**load_file(path), **more}, path)
    clip = towers / cambrian_card.REPOSITORIES["clip"] / "config.json"
    clip.write_text(json.dumps({**json.loads(clip.read_text()), "vision_config_dict": None, "text_config_dict": None}))
    load(folder, "cambrian_masked", encoder_weights=str(towers))
    save_file({**load_file(path), "visual.attention.weight": torch.ones(1)}, path)
    refused(folder, "none of this model's: visual.attention.weight", "cambrian_masked", encoder_weights=str(towers))


def test_tokenizers_that_put_tokens_behind_a_text(source, tmp_path):
    told = json.loads((source / "tokenizer.json").read_text())
    processor = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
                           "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}},
    }  # fmt: skip
    assert told["added_tokens"][2]["content"] == "</s>"
    refused(bent(source, tmp_path, tokenizer={"post_processor": processor}), "puts </s> into prompts")


def test_tokenizers_without_a_vocabulary_or_of_another_model(source, tmp_path):
    copy = bent(source, tmp_path, name="empty")
    (copy / "tokenizer.json").unlink()
    refused(copy, "tokenizer")
    subject = load(source)
    subject.model.language_model.set_input_embeddings(torch.nn.Embedding(40, 32))
    with pytest.raises(SetupError, match="document 3: the tokenizer gives token .* but the model has embeddings of 40"):
        subject.prompt_ids(Prompt("What?", (), "document 3"))


def test_a_template_that_is_not_known_is_asked_for(tmp_path):
    tokenizer = SimpleNamespace(get_vocab=lambda: {"<|im_start|>": 6, "<|im_end|>": 7})
    with pytest.raises(SetupError, match="trained with a template that is not known here; conv_template= says which"):
        loading.told_template(tokenizer, tmp_path)
    assert loading.told_template(SimpleNamespace(get_vocab=dict), tmp_path) == "vicuna_v1"


def test_an_answer_ends_at_the_tokenizers_end_token_too(source, tmp_path, caplog):
    copy = bent(source, tmp_path, generation_config={"eos_token_id": 1})
    assert load(copy).eos == [1, 2] and load(source).eos == [2]
    assert "eos_token_id is [1]; 2 (</s>), the tokenizer's end token, ends answers too" in caplog.text
    for value in ("2", 2.0, True, [2, None], -1, {"a": 2}):
        shutil.rmtree(copy)
        refused(bent(source, tmp_path, generation_config={"eos_token_id": value}), "eos_token_id must be a token id")
    (copy / "generation_config.json").write_text("[")
    refused(copy, "generation_config.json is not valid JSON")


def test_settings_of_generation_that_are_not_applied_are_named(source, tmp_path, caplog):
    load(bent(source, tmp_path, generation_config={"repetition_penalty": 1.05, "temperature": 0.6}))
    assert "not applied to answers: repetition_penalty=1.05" in caplog.text


# --- logits that are not numbers -----------------------------------------------------------------------------------


def overflowing(tensors):
    """The same function in float32, with values between that float16 cannot hold."""
    tensors["model.layers.1.mlp.up_proj.weight"] *= 2.0**18
    tensors["model.layers.1.mlp.down_proj.weight"] /= 2.0**18


def test_logits_that_are_not_numbers_are_refused_with_document_mask_and_type(source, tmp_path):
    copy = bent(source, tmp_path, overflowing)
    half = load(copy, dtype="float16", drop="convnext")
    prompts = [Prompt("What?", (picture(1),), f"task document {number}") for number in (4, 5)]
    match = (
        "task document 4, drop=convnext: the logits are not numbers; float16 overflows .try dtype=bfloat16 or float32"
    )
    with pytest.raises(SetupError, match=match):
        half.generate(prompts, 4)
    with pytest.raises(SetupError, match=match):
        half.loglikelihood(prompts, ["a", "b"])
    engine = engines.start(load(copy, dtype="float16"), ["none", "convnext"], 2**20)
    with pytest.raises(SetupError, match="task document 4, drop=none: the logits are not numbers"):
        engine.answer([(engine.ask(prompts[0]), "none"), (engine.ask(prompts[0]), "convnext")], 4)
    assert load(copy, dtype="float32").generate(prompts, 4) == load(source).generate(prompts, 4)


def test_the_first_sequence_whose_logits_are_not_numbers_is_named():
    found = Numbers(["a", "b"], torch.bfloat16)
    scores = torch.zeros(4, 3)
    scores[0, 1] = -float("inf")  # what a processor forbids
    assert found(None, scores) is scores
    for value in (float("nan"), float("inf")):
        scores[2, 0] = value  # two beams each
        with pytest.raises(SetupError, match=r"b: the logits are not numbers; in bfloat16 \(try dtype=float32\)"):
            found(None, scores)
    ended = Numbers(["a", "b"], torch.bfloat16, [2])
    tokens = torch.tensor([[5], [5], [2], [5]])
    assert ended(tokens, scores) is scores  # what comes behind the end of an answer
    with pytest.raises(SetupError, match="b: the logits"):
        ended(torch.full((4, 1), 5), scores)


def test_checkpoint_reads_a_tensor_whose_reading_fails_in_one_line(tmp_path):
    def get(key):
        raise RuntimeError("first\nsecond")

    with pytest.raises(SetupError, match=r"cannot read x in .*a: first$"):
        weights._tensor(tmp_path / "a", "x", get)
