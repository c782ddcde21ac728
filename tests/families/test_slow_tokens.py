"""Ids of the pieces of a prompt, against what the slow tokenizers of old transformers gave."""

import base64
import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import identity
from redundancy_eval.model_wrappers.families import slow_tokens, templates
from redundancy_eval.model_wrappers.families.cambrian import model as cambrian
from redundancy_eval.model_wrappers.families.eagle import model as eagle
from redundancy_eval.model_wrappers.families.imof import model as imof

pytestmark = pytest.mark.models
RECORDED = json.loads((Path(__file__).parents[1] / "recordings" / "slow_tokens.json").read_text(encoding="utf-8"))
MODELS = {"4.44.2": eagle.Eagle, "4.37.0": cambrian.Cambrian, "4.31.0": imof.IMof}


def write(folder: Path, kind: str, **changes) -> Path:
    for name, content in RECORDED["folders"][kind].items():
        content = {**content, **changes} if name == "tokenizer_config.json" else content
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "tokenizer.model").write_bytes(base64.b64decode(RECORDED["vocabulary"]))
    return folder


@pytest.mark.parametrize("kind", RECORDED["folders"])
@pytest.mark.parametrize("release", MODELS)
def test_ids_are_those_of_the_original_tokenizers(release, kind, tmp_path):
    tokenizer = slow_tokens.read(write(tmp_path, kind), None, MODELS[release].slow_release)
    found = {text: " ".join(map(str, tokenizer.piece_ids(text))) for text in RECORDED["texts"]}
    assert found == dict(zip(RECORDED["texts"], RECORDED["ids"][release][kind], strict=True))


def test_a_text_that_follows_an_image_with_a_space(tmp_path):
    tokenizer = slow_tokens.read(write(tmp_path, "not legacy"), None, (4, 44))
    pieces = tokenizer.convert_ids_to_tokens
    ids = templates.tokenize(tokenizer, "<image> What is shown?")
    assert ids[:2] == [tokenizer.bos_token_id, templates.IMAGE_ID]
    assert pieces(ids[2:5]) == ["▁▁", "Wh", "at"]  # the prefix, then the text's own space; the fast one has one
    assert pieces(tokenizer(" What").input_ids[1:]) == ["▁What"]
    assert pieces(templates.tokenize(tokenizer, "<image>What")[2:]) == ["▁What"]


@pytest.mark.parametrize("release, kind", [(None, "LlamaTokenizer"), ((4, 44), "LlamaTokenizerFast")])
def test_other_tokenizers_stay_the_fast_ones(release, kind, tmp_path):
    folder = write(tmp_path, "not legacy", tokenizer_class=kind)
    assert not hasattr(slow_tokens.read(folder, None, release), "piece_ids")


def test_tokens_that_are_drawn_are_refused(tmp_path):
    folder = write(tmp_path, "legacy", sp_model_kwargs={"enable_sampling": True, "alpha": 0.1})
    with pytest.raises(SetupError, match="sp_model_kwargs"):
        slow_tokens.read(folder, None, (4, 44))


def test_answers_that_were_kept_before_are_not_taken():
    assert identity.EPOCH > 1
